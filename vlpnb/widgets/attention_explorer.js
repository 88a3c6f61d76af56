// Attention explorer: a grid of small maps (layers down, heads across); one of them large, as lines and as a map.
// Arrow keys move in the grid, Enter goes to the tokens of the large map, Escape comes back.

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-attention", "Attention explorer");
  const queries = model.get("tokens");
  const keys = model.get("looked_at");
  const [layers, heads] = [model.get("layers"), model.get("heads")];
  const size = queries.length * keys.length;
  const values = floats(model.get("values")); // (L, H, T, S)

  const weights = (layer, head) => values.subarray((layer * heads + head) * size, (layer * heads + head + 1) * size);
  const here = () => weights(model.get("layer"), model.get("head"));

  function choose(changes) {
    if (Object.entries(changes).every(([name, value]) => model.get(name) === value)) return;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }

  /** A map as the mask of a coloured box; each weight is a square of `scale` pixels. */
  function heat(map) {
    const scale = Math.max(1, Math.ceil(96 / Math.max(queries.length, keys.length)));
    const canvas = element("canvas");
    Object.assign(canvas, { width: keys.length * scale, height: queries.length * scale });
    const drawing = canvas.getContext("2d");
    map.forEach((weight, i) => {
      drawing.fillStyle = `rgba(0, 0, 0, ${Math.sqrt(weight)})`; // the square root shows small weights, too
      drawing.fillRect((i % keys.length) * scale, Math.floor(i / keys.length) * scale, scale, scale);
    });
    const box = element("div", "vlpnb-heat");
    box.style.maskImage = `url(${canvas.toDataURL()})`;
    return box;
  }

  // the grid of all maps
  const grid = element("div", "vlpnb-maps");
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-label", "layers down, heads across");
  grid.style.gridTemplateColumns = `max-content repeat(${heads}, max-content)`;
  grid.style.setProperty("--map", `${heads > 8 ? 30 : 46}px`);
  const maps = [];
  grid.append(element("span", "", ""));
  for (let head = 0; head < heads; head++) grid.append(element("span", "", `head ${head + 1}`.slice(heads > 6 ? 5 : 0)));
  for (let layer = 0; layer < layers; layer++) {
    grid.append(element("span", "", `layer ${layer + 1}`));
    for (let head = 0; head < heads; head++) {
      const button = element("button");
      button.type = "button";
      button.setAttribute("role", "option");
      button.setAttribute("aria-label", `layer ${layer + 1}, head ${head + 1}`);
      button.append(heat(weights(layer, head)));
      button.addEventListener("focus", () => choose({ layer, head }));
      button.addEventListener("click", () => choose({ layer, head }));
      maps.push(button);
      grid.append(button);
    }
  }
  rove(grid, () => maps, () => heads);
  grid.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    queryList.querySelector("[tabindex='0']").focus();
  });

  // the large one: lines between two columns of tokens
  const large = element("div", "vlpnb-large");
  const heading = element("p", "vlpnb-title");
  const lines = element("div", "vlpnb-lines");
  const queryList = element("div");
  queryList.setAttribute("role", "listbox");
  queryList.setAttribute("aria-label", "token that looks");
  const keyList = element("div");
  const height = Math.max(queries.length, keys.length) * 26; // 26 pixels a token, as in the style
  const drawing = svg("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  drawing.style.height = `${height}px`;
  queries.forEach((text, index) => {
    const button = element("button", "vlpnb-query", text);
    button.type = "button";
    button.setAttribute("role", "option");
    for (const event of ["pointerenter", "focus", "click"]) {
      button.addEventListener(event, () => choose({ selected: index }));
    }
    queryList.append(button);
  });
  const keyTexts = keys.map((text) => {
    const line = element("div", "vlpnb-key");
    const value = element("span", "vlpnb-value");
    line.append(value, text);
    keyList.append(line);
    return { line, value };
  });
  rove(queryList, () => [...queryList.children]);
  queryList.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    maps.find((button) => button.tabIndex === 0).focus();
  });
  lines.append(queryList, drawing, keyList);
  large.append(heading, lines);

  // and the whole map: rows look at columns
  const side = element("div", "vlpnb-side");
  const whole = element("div", "vlpnb-whole");
  whole.style.setProperty("--ratio", `${keys.length} / ${queries.length}`);
  const row = element("div", "vlpnb-row");
  const readout = element("p", "vlpnb-readout vlpnb-quiet");
  readout.setAttribute("role", "status");
  side.append(element("p", "vlpnb-quiet", "rows look at columns"), whole, readout);
  function point(event, take) {
    const box = whole.getBoundingClientRect();
    const at = (offset, length, count) => Math.max(0, Math.min(count - 1, Math.floor((offset / length) * count)));
    const query = at(event.clientY - box.top, box.height, queries.length);
    const key = at(event.clientX - box.left, box.width, keys.length);
    if (take) choose({ selected: query });
    readout.textContent = `${queries[query]} → ${keys[key]}: ${here()[query * keys.length + key].toFixed(3)}`;
  }
  whole.addEventListener("pointermove", (event) => point(event, false));
  whole.addEventListener("click", (event) => point(event, true));

  function drawTokens() {
    const selected = model.get("selected");
    const map = here();
    mark([...queryList.children], selected);
    drawing.replaceChildren();
    for (let query = 0; query < queries.length; query++) {
      for (let key = 0; key < keys.length; key++) {
        const weight = map[query * keys.length + key];
        const mine = query === selected;
        if (weight < (mine ? 0.004 : 0.1)) continue; // of the others only what is strong, as a faint background
        drawing.append(svg("line", {
          x1: 0, x2: 100, y1: query * 26 + 13, y2: key * 26 + 13,
          "stroke-width": mine ? 1 + 5 * weight : 1, "stroke-opacity": mine ? 0.25 + 0.75 * weight : 0.12,
        }));
      }
    }
    let best = 0;
    keyTexts.forEach(({ line, value }, key) => {
      const weight = map[selected * keys.length + key];
      if (weight > map[selected * keys.length + best]) best = key;
      line.style.setProperty("--share", String(weight));
      value.textContent = weight.toFixed(2);
    });
    row.style.top = `${(100 * selected) / queries.length}%`;
    row.style.height = `${100 / queries.length}%`;
    readout.textContent = `${queries[selected]} looks most at ${keys[best]}: ${map[selected * keys.length + best].toFixed(3)}`;
  }

  function drawMap() {
    const [layer, head] = [model.get("layer"), model.get("head")];
    mark(maps, layer * heads + head);
    heading.textContent = `Layer ${layer + 1}, head ${head + 1}`;
    whole.replaceChildren(heat(here()), row);
    drawTokens();
  }

  const parts = element("div", "vlpnb-attention-parts");
  parts.append(grid, large, side);
  root.append(parts);
  drawMap();
  return listen(model, { layer: drawMap, head: drawMap, selected: drawTokens });
}

export default { render };
