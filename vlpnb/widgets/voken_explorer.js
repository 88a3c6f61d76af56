// Voken explorer view: a row of token buttons and the pictures of the token that has hover, focus or a tap.
// Keyboard: Tab reaches the sentence, arrow keys, Home and End move between tokens. No network.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function render({ model, el }) {
  const root = element("section", "vlpnb-vokens");
  const sentence = element("div", "vlpnb-vokens-sentence");
  sentence.setAttribute("role", "tablist");
  const panel = element("div", "vlpnb-vokens-panel");
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-live", "polite");

  function select(index) {
    model.set("selected", index);
    model.save_changes();
  }

  function drawSentence() {
    root.setAttribute("aria-label", model.get("title") || "Voken explorer");
    sentence.replaceChildren();
    model.get("tokens").forEach((token, index) => {
      const continuation = token.text.startsWith("##");
      const button = element("button", "vlpnb-voken-token", continuation ? token.text.slice(2) : token.text);
      button.type = "button";
      button.setAttribute("role", "tab");
      button.disabled = token.vokens.length === 0;
      if (continuation) button.classList.add("continuation");
      button.addEventListener("pointerenter", () => button.disabled || select(index));
      button.addEventListener("focus", () => select(index));
      button.addEventListener("click", () => select(index));
      sentence.append(button);
    });
  }

  function drawPanel() {
    const tokens = model.get("tokens");
    const pictures = model.get("pictures");
    const selected = model.get("selected");
    [...sentence.children].forEach((button, index) => {
      button.setAttribute("aria-selected", String(index === selected));
      button.tabIndex = index === selected ? 0 : -1;
    });
    panel.replaceChildren();
    const token = tokens[selected];
    if (!token) return;
    for (const { id, score } of token.vokens) {
      const figure = element("figure", "vlpnb-voken");
      const image = element("img");
      image.src = pictures[id].src;
      image.alt = pictures[id].alt;
      const caption = element("figcaption");
      const bar = element("span", "vlpnb-voken-bar");
      bar.style.setProperty("--share", String(Math.max(0, Math.min(1, score))));
      caption.append(bar, element("span", "vlpnb-voken-score", score.toFixed(2)));
      figure.append(image, caption);
      figure.title = pictures[id].alt;
      panel.append(figure);
    }
  }

  sentence.addEventListener("keydown", (event) => {
    const buttons = [...sentence.children].filter((b) => !b.disabled);
    const here = buttons.indexOf(document.activeElement);
    const step = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (step === undefined || here < 0) return;
    event.preventDefault();
    buttons[(step + buttons.length) % buttons.length].focus();
  });

  if (model.get("title")) root.append(element("p", "vlpnb-vokens-title", model.get("title")));
  root.append(sentence, panel);
  el.append(root);
  drawSentence();
  drawPanel();
  const redraw = () => { drawSentence(); drawPanel(); };
  model.on("change:tokens", redraw);
  model.on("change:selected", drawPanel);
  return () => {
    model.off("change:tokens", redraw);
    model.off("change:selected", drawPanel);
  };
}

export default { render };
