// Shared by every view: elements, the frame of a view, and keyboard movement by a roving tabindex. No network.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// The parser knows SVG's namespace, so its address need not be written here.
const SVG = Object.assign(element("div"), { innerHTML: "<svg></svg>" }).firstChild.namespaceURI;

function svg(tag, attributes = {}) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function picture(source, size) {
  const image = element("img");
  Object.assign(image, { src: source.src, alt: source.alt, title: source.alt, draggable: false });
  Object.assign(image.style, { width: `${size}px`, height: `${size}px` });
  return image;
}

/** The root of a view with its title. Escape, where nothing inside wants it, leaves the view. */
function frame(model, el, name, label) {
  const root = element("section", `vlpnb ${name}`);
  root.setAttribute("aria-label", model.get("title") || label);
  root.dataset.lmSuppressShortcuts = "true"; // arrow keys here are not Lab's "next cell"
  if (model.get("title")) root.append(element("p", "vlpnb-title", model.get("title")));
  root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    document.activeElement.blur();
    root.parentElement?.closest("[tabindex]")?.focus({ preventScroll: true });
  });
  el.append(root);
  return root;
}

/** Mark one of some buttons as selected; Tab reaches that one, or the first that is enabled. */
function mark(buttons, selected) {
  const stop = buttons[selected] && !buttons[selected].disabled ? buttons[selected] : buttons.find((b) => !b.disabled);
  buttons.forEach((button, index) => {
    button.setAttribute("aria-selected", String(index === selected));
    button.tabIndex = button === stop ? 0 : -1;
  });
}

/** Arrow keys, Home and End move the focus among `buttons()`: round a row, or inside a grid of `columns()`. */
function rove(container, buttons, columns) {
  container.addEventListener("keydown", (event) => {
    const all = buttons().filter((b) => !b.disabled);
    const here = all.indexOf(document.activeElement);
    if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const width = columns ? columns() : 1;
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width }[event.key];
    let to = { Home: 0, End: all.length - 1 }[event.key];
    if (step !== undefined) {
      to = here + step;
      if (!columns) to = (to + all.length) % all.length;
      else if (to < 0 || to >= all.length || (Math.abs(step) === 1 && Math.floor(to / width) !== Math.floor(here / width))) to = here;
    }
    if (to === undefined) return;
    event.preventDefault();
    all[to].focus();
  });
}

/** Listen to changes of the model; returns the function that stops. */
function listen(model, handlers) {
  for (const [name, handler] of Object.entries(handlers)) model.on(`change:${name}`, handler);
  return () => {
    for (const [name, handler] of Object.entries(handlers)) model.off(`change:${name}`, handler);
  };
}

/** The float32 numbers that Python sent as bytes. */
function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}
