// Voken explorer: the pictures of the token that has hover, focus or a tap, of one model or of several side by side.

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-vokens", "Voken explorer");
  const sentence = tokenRow((index) => {
    if (index === model.get("selected")) return;
    model.set("selected", index);
    model.save_changes();
  });
  const legend = element("p", "vlpnb-quiet");
  const panel = element("div", "vlpnb-models");
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-live", "polite");
  root.append(sentence.node, legend, panel);

  function drawPanel() {
    const selected = model.get("selected");
    const token = model.get("tokens")[selected];
    const context = model.get("context");
    sentence.select(selected, context[selected]);
    legend.textContent = context.length ? `shaded: ${model.get("context_label")}` : "shaded: the token's context";
    panel.replaceChildren();
    if (!token) {
      legend.textContent = "no tokens: the sentence is empty";
      return;
    }
    const lists = [token.vokens, ...model.get("compared").map((one) => one.vokens[selected])];
    const names = [model.get("name"), ...model.get("compared").map((one) => one.name)];
    const inAll = lists[0].map((v) => v.id).filter((id) => lists.every((list) => list.some((v) => v.id === id)));
    const shared = new Set(lists.length > 1 ? inAll : []);
    lists.forEach((vokens, index) => {
      const column = element("div", "vlpnb-model");
      if (names[index]) column.append(element("p", "vlpnb-model-name", names[index]));
      column.append(pictureStrip(vokens, model.get("pictures"), lists.length > 1 ? 88 : 104, shared));
      panel.append(column);
    });
    if (shared.size) legend.textContent += " · outlined pictures: among the best of all models";
  }

  const redraw = () => {
    sentence.draw(model.get("tokens"));
    drawPanel();
  };
  redraw();
  return listen(model, { tokens: redraw, compared: drawPanel, context: drawPanel, selected: drawPanel });
}

export default { render };
