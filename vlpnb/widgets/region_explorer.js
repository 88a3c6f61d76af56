// Region explorer: a word's regions on the picture, a region's words in the sentence, in both directions of one pass.
// Tab goes from layer and head to the words and to the regions; arrow keys move inside each, Escape leaves.

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-regions", "Region explorer");
  const [words, labels, boxes] = [model.get("words"), model.get("labels"), model.get("boxes")];
  const [layers, heads] = [model.get("layers"), model.get("heads")];
  const [toRegions, toWords] = [floats(model.get("to_regions")), floats(model.get("to_words"))];

  function choose(changes) {
    if (Object.entries(changes).every(([name, value]) => model.get(name) === value)) return;
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  }

  /** Row `index` of the shown map: (L, H, rows, columns) → weights of its columns; head −1 is the mean of all. */
  function weights(values, rows, columns, index) {
    const [layer, head] = [model.get("layer"), model.get("head")];
    const chosen = head < 0 ? [...Array(heads).keys()] : [head];
    return Array.from({ length: columns }, (_, column) =>
      chosen.reduce((sum, h) => sum + values[((layer * heads + h) * rows + index) * columns + column], 0) / chosen.length);
  }

  // layer and head
  const controls = element("div", "vlpnb-controls");
  function menu(name, label, options) {
    const line = element("label", "", label);
    const list = element("select");
    for (const [value, text] of options) list.append(Object.assign(element("option", "", text), { value }));
    list.addEventListener("change", () => choose({ [name]: Number(list.value) }));
    line.append(list);
    controls.append(line);
    return list;
  }
  const numbered = (count, word) => [...Array(count).keys()].map((i) => [i, `${word} ${i + 1}`]);
  const layerMenu = menu("layer", "Layer", numbered(layers, "cross layer"));
  const headMenu = menu("head", "Head", [[-1, "mean of all"], ...numbered(heads, "head")]);

  // the words
  const sentence = element("div", "vlpnb-sentence");
  sentence.setAttribute("role", "listbox");
  sentence.setAttribute("aria-label", "words");
  const wordButtons = words.map((text, word) => {
    const button = element("button", "vlpnb-token");
    button.type = "button";
    button.setAttribute("role", "option");
    button.classList.toggle("continuation", text.startsWith("##"));
    button.append(element("span", "", text.startsWith("##") ? text.slice(2) : text), element("span", "vlpnb-share"));
    for (const event of ["pointerenter", "focus", "click"]) {
      button.addEventListener(event, () => choose({ word, region: -1 }));
    }
    sentence.append(button);
    return button;
  });
  rove(sentence, () => wordButtons);

  // the picture with its regions
  const { canvas, list, marks: boxButtons, light, name, stop } = regionCanvas(model.get("picture"), boxes, "button");
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "regions");
  boxButtons.forEach((button, region) => {
    button.type = "button";
    button.setAttribute("role", "option");
    button.setAttribute("aria-label", `region ${labels[region]}`);
    for (const event of ["pointerenter", "focus", "click"]) {
      button.addEventListener(event, () => choose({ region, word: -1 }));
    }
  });
  rove(list, () => boxButtons);

  // who looks at what, as a list
  const panel = element("div", "vlpnb-looks");
  const heading = element("p", "vlpnb-title");
  const ranking = element("ol", "vlpnb-ranking");
  panel.setAttribute("role", "status");
  panel.append(heading, ranking);

  function draw() {
    const [word, region] = [model.get("word"), model.get("region")];
    const isWord = region < 0;
    [layerMenu.value, headMenu.value] = [String(model.get("layer")), String(model.get("head"))];
    mark(wordButtons, isWord ? word : -1);
    mark(boxButtons, isWord ? -1 : region);
    const found = isWord
      ? weights(toRegions, words.length, boxes.length, word)
      : weights(toWords, boxes.length, words.length, region);
    const full = isWord ? light(found) : Math.max(...found, Math.min(1, 2 / found.length));
    if (!isWord) light(boxes.map(() => 0));
    const order = [...found.keys()].sort((a, b) => found[b] - found[a]);
    list.classList.toggle("lit", isWord);
    const tagged = isWord ? order.slice(0, 3).filter((index) => found[index] > full / 3) : [region];
    name(tagged.map((index) => [index, isWord ? `${labels[index]} · ${found[index].toFixed(2)}` : labels[index]]));
    wordButtons.forEach((button, index) => {
      button.classList.toggle("weighed", !isWord);
      button.style.setProperty("--weight", String(isWord ? 0 : found[index] / full));
      button.querySelector(".vlpnb-share").textContent = isWord ? "" : found[index].toFixed(2);
    });
    heading.textContent = isWord ? `“${words[word]}” looks at these regions` : `Region ${labels[region]} looks at these words`;
    const names = isWord ? labels : words;
    ranking.replaceChildren(...order.slice(0, 6).map((index) => {
      const line = element("li");
      const bar = element("span", "vlpnb-bar");
      bar.style.setProperty("--share", String(found[index] / full));
      line.append(element("span", "vlpnb-named", names[index]), bar, element("span", "vlpnb-score", found[index].toFixed(3)));
      return line;
    }));
    if (order.length > 6) {
      const rest = order.slice(6).reduce((sum, index) => sum + found[index], 0);
      ranking.append(element("li", "vlpnb-quiet", `${order.length - 6} more together ${rest.toFixed(3)}`));
    }
  }

  const parts = element("div", "vlpnb-region-parts");
  const side = element("div", "vlpnb-region-side");
  side.append(controls, sentence, panel);
  parts.append(canvas, side);
  root.append(parts, element("p", "vlpnb-quiet", "Point at a word for its regions, at a region for its words; or Tab and arrow keys."));
  draw();
  const silence = listen(model, { layer: draw, head: draw, word: draw, region: draw });
  return () => {
    stop();
    silence();
  };
}

export default { render };
