// Tokens in a row and the pictures of one of them: what the voken and the retrieval explorer show.

/** A row of token buttons; hover, focus and tap call `choose(index)`. */
function tokenRow(choose) {
  const node = element("div", "vlpnb-sentence");
  node.setAttribute("role", "tablist");
  node.setAttribute("aria-label", "tokens");
  const buttons = () => [...node.children];
  rove(node, buttons);

  function draw(tokens, thumbnails) {
    node.replaceChildren();
    tokens.forEach((token, index) => {
      const continuation = token.text.startsWith("##");
      const button = element("button", "vlpnb-token");
      button.type = "button";
      button.setAttribute("role", "tab");
      button.disabled = token.vokens.length === 0;
      button.classList.toggle("continuation", continuation);
      if (thumbnails && token.vokens.length) button.append(picture(thumbnails[token.vokens[0].id], 48));
      button.append(continuation ? token.text.slice(2) : token.text);
      for (const event of ["pointerenter", "focus", "click"]) {
        button.addEventListener(event, () => button.disabled || choose(index));
      }
      node.append(button);
    });
  }

  /** `weights[j]`: what token j contributes to the selected one; without weights all others are its context. */
  function select(selected, weights) {
    const greatest = Math.max(1e-9, ...(weights || []).map(Math.abs));
    mark(buttons(), selected);
    buttons().forEach((button, index) => {
      const other = index !== selected;
      button.classList.toggle("context", other && !weights && !button.disabled);
      button.classList.toggle("weighed", other && Boolean(weights));
      button.classList.toggle("against", other && Boolean(weights) && weights[index] < 0);
      button.style.setProperty("--weight", weights ? String(Math.abs(weights[index]) / greatest) : "0");
      if (weights) button.title = other ? `contributes ${weights[index].toFixed(3)}` : "";
    });
  }
  return { node, draw, select };
}

/** Pictures with a bar and a score each; those in `shared` are marked. They shrink to 88 px to stay in one row. */
function pictureStrip(vokens, pictures, size, shared = new Set()) {
  const strip = element("div", "vlpnb-strip");
  strip.style.setProperty("--size", `${size}px`);
  strip.style.setProperty("--count", String(vokens.length));
  for (const { id, score } of vokens) {
    const figure = element("figure", "vlpnb-voken");
    figure.classList.toggle("shared", shared.has(id));
    const caption = element("figcaption");
    const bar = element("span", "vlpnb-bar");
    bar.style.setProperty("--share", String(Math.max(0, Math.min(1, score))));
    caption.append(bar, element("span", "vlpnb-score", score.toFixed(2)));
    const image = picture(pictures[id], size);
    Object.assign(image.style, { width: "100%", height: "auto", aspectRatio: "1" });
    figure.append(image, caption);
    strip.append(figure);
  }
  return strip;
}
