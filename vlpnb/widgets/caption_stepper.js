// Caption stepper: the lanes of a beam search, the likeliest words of the chosen beam, and where its word looked.
// Left and right go through the steps, up and down through the beams; Tab goes from search to search, Escape leaves.

/** A number as printed: two decimals, a minus sign as wide as a plus. */
const number = (value) => value.toFixed(2).replace("-", "−");

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-stepper", "Caption stepper");
  const [labels, boxes, searches] = [model.get("labels"), model.get("boxes"), model.get("searches")];
  const every = floats(model.get("attention"));
  let start = 0;
  const maps = searches.map(({ steps, maps: has }) => {
    const size = has ? steps.length * steps[0].length * boxes.length : 0;
    start += size;
    return every.slice(start - size, start);
  });

  function choose(search, step, beam) {
    const changes = { search, step, beam };
    if (Object.entries(changes).every(([name, value]) => model.get(name) === value)) return;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }

  // picture and panel
  const { canvas, list, light, name, stop } = regionCanvas(model.get("picture"), boxes, "div");
  list.classList.add("lit");
  const panel = element("div", "vlpnb-looks");
  panel.setAttribute("role", "status");
  const soFar = element("p", "vlpnb-so-far");
  const facts = element("p", "vlpnb-quiet");
  const heading = element("p", "vlpnb-title");
  const options = element("table", "vlpnb-options");
  panel.append(soFar, facts, heading, options);
  const top = element("div", "vlpnb-stepper-top");
  top.append(canvas, panel);

  // the lanes of every search
  const drawings = searches.map(({ label, bonus, steps, ranked }, search) => {
    const chosen = ranked[0][2];
    const part = element("div", "vlpnb-search");
    const [count, lanes] = [steps.length, steps[0].length];
    part.append(element("p", "vlpnb-title", label));
    const scroll = element("div", "vlpnb-scroll");
    const grid = element("div", "vlpnb-lanes");
    grid.setAttribute("role", "grid");
    grid.setAttribute("aria-label", `${label}: beams by steps`);
    grid.style.gridTemplateColumns = `repeat(${count}, auto)`;
    const lines = svg("svg", { "aria-hidden": "true" });
    grid.append(lines);
    const alive = new Set(); // cells that some later beam, or the end, goes back to
    for (const [step, beam] of ranked.map(([, , cell]) => cell)) {
      for (let [at, lane] = [step, beam]; at >= 0; lane = steps[at][lane].parent, at -= 1) alive.add(`${at} ${lane}`);
    }
    const row = () => {
      const line = element("div", "vlpnb-lane");
      line.setAttribute("role", "row");
      return line;
    };
    const header = row();
    steps.forEach((_, step) => {
      const at = element("span", "vlpnb-at", `step ${step + 1}`);
      at.setAttribute("role", "columnheader");
      header.append(at);
    });
    grid.append(header);
    const cells = [];
    for (let beam = 0; beam < lanes; beam += 1) {
      const line = row();
      for (let step = 0; step < count; step += 1) {
        const { word, logProb, total, ended, score } = steps[step][beam];
        const cell = element("button", "vlpnb-cell");
        cell.type = "button";
        cell.setAttribute("role", "gridcell");
        cell.append(element("b", "", word), element("small", "", `${number(logProb)} · ${number(total)}`));
        if (ended) cell.append(element("small", "", bonus ? `with bonus ${number(score)}` : "ended"));
        cell.classList.toggle("chosen", step === chosen[0] && beam === chosen[1]);
        cell.classList.toggle("dead", !alive.has(`${step} ${beam}`));
        cell.setAttribute("aria-label", `step ${step + 1}, beam ${beam + 1}: ${word}, total ${number(total)}`);
        for (const event of ["focus", "click"]) cell.addEventListener(event, () => choose(search, step, beam));
        line.append(cell);
        cells.push(cell);
      }
      grid.append(line);
    }
    rove(grid, () => cells, () => count);
    scroll.append(grid);
    const captions = element("ol", "vlpnb-captions");
    captions.append(...ranked.map(([score, text, cell]) => {
      const line = element("li", cell[0] === chosen[0] && cell[1] === chosen[1] ? "chosen" : "");
      line.append(element("span", "vlpnb-score", number(score)), element("span", "", text || "(no word)"));
      return line;
    }));
    part.append(scroll, captions);
    return { part, grid, lines, cells, steps, count, lanes };
  });

  /** The cells of the caption that ends in a cell. */
  function path(steps, step, beam) {
    const cells = new Set();
    for (let [at, lane] = [step, beam]; at >= 0; lane = steps[at][lane].parent, at -= 1) cells.add(`${at} ${lane}`);
    return cells;
  }

  /** An edge from every cell to the one that it continues; those of the chosen caption last, above the others. */
  function connect() {
    drawings.forEach(({ grid, lines, cells, steps, count, lanes }, search) => {
      const on = search === model.get("search") ? path(steps, model.get("step"), model.get("beam")) : new Set();
      lines.setAttribute("viewBox", `0 0 ${grid.offsetWidth} ${grid.offsetHeight}`);
      const edges = [];
      for (let beam = 0; beam < lanes; beam += 1) {
        for (let step = 1; step < count; step += 1) {
          const [from, to] = [cells[steps[step][beam].parent * count + step - 1], cells[beam * count + step]];
          const [x, y] = [from.offsetLeft + from.offsetWidth, from.offsetTop + from.offsetHeight / 2];
          const [u, v] = [to.offsetLeft, to.offsetTop + to.offsetHeight / 2];
          const middle = (x + u) / 2;
          edges.push([on.has(`${step} ${beam}`), `M${x} ${y} C${middle} ${y} ${middle} ${v} ${u} ${v}`]);
        }
      }
      edges.sort((a, b) => a[0] - b[0]);
      lines.replaceChildren(...edges.map(([own, d]) => svg("path", { d, class: own ? "path" : "" })));
    });
  }
  const resized = new ResizeObserver(connect);
  drawings.forEach(({ grid }) => resized.observe(grid));

  function draw() {
    const [search, step, beam] = [model.get("search"), model.get("step"), model.get("beam")];
    const { steps, next, bonus, label } = searches[search];
    const cell = steps[step][beam];
    drawings.forEach(({ cells, count, steps: own }, index) => {
      mark(cells, index === search ? beam * count + step : -1);
      const on = index === search ? path(own, step, beam) : new Set();
      cells.forEach((one, i) => one.classList.toggle("path", on.has(`${i % count} ${Math.floor(i / count)}`)));
    });
    connect();

    const words = cell.text.split(" ");
    const last = cell.ended ? cell.word : words.pop();
    soFar.replaceChildren(words.join(" "), words.length && words[0] ? " " : "", element("b", "", last));
    facts.textContent = `${searches.length > 1 ? `${label}, ` : ""}step ${step + 1}, beam ${beam + 1}: `
      + `log-probability ${number(cell.logProb)}, total ${number(cell.total)}`
      + (cell.ended && bonus ? `, with its bonus ${number(cell.score)}` : "");
    const following = cell.ended || step + 1 >= steps.length ? [] : next[step + 1][beam];
    heading.textContent = cell.ended ? "It ends here." : following.length ? "What may follow" : "The last step.";
    options.replaceChildren(...following.map(([word, logProb, why, kept]) => {
      const line = element("tr", why ? "barred" : "");
      const bar = element("span", "vlpnb-bar");
      bar.style.setProperty("--share", String(Math.exp(logProb)));
      const share = element("td");
      share.append(bar);
      line.append(element("td", "", word), share, element("td", "", number(logProb)), element("td", "vlpnb-quiet", why || (kept ? "goes on" : "")));
      return line;
    }));

    const [size, lanes] = [boxes.length, steps[0].length];
    const found = maps[search].length
      ? [...maps[search].slice((step * lanes + beam) * size, (step * lanes + beam + 1) * size)]
      : boxes.map(() => 0);
    const full = light(found);
    const order = [...found.keys()].sort((a, b) => found[b] - found[a]).slice(0, 3);
    name(order.filter((region) => found[region] > full / 3).map((region) => [region, `${labels[region]} · ${found[region].toFixed(2)}`]));
  }

  const all = element("div", "vlpnb-searches");
  all.append(...drawings.map(({ part }) => part));
  const help = "Choose a word, or walk by arrow keys: left and right a step, up and down a beam. The thicker a region's frame, the more its word looked there.";
  root.append(top, all, element("p", "vlpnb-quiet", help));
  draw();
  const silence = listen(model, { search: draw, step: draw, beam: draw });
  return () => {
    stop();
    resized.disconnect();
    silence();
  };
}

export default { render };
