// Embedding map: tokens and pictures of the joint space on a plane. Drag, pinch or Ctrl+wheel; the buttons or + − 0.
// Arrow keys go to the nearest point in that direction; the selected one shows its neighbours by cosine.

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-map", "Embedding map");
  const points = model.get("points");
  const plane = element("div", "vlpnb-plane");
  plane.setAttribute("role", "listbox");
  plane.setAttribute("aria-label", model.get("axes"));
  const detail = element("div", "vlpnb-detail");
  detail.setAttribute("aria-live", "polite");
  let [zoom, panX, panY] = [1, 0, 0]; // place on screen = middle + (point * half the side) * zoom + pan

  function choose(index) {
    if (index === model.get("selected")) return;
    model.set("selected", index);
    model.save_changes();
  }

  const buttons = points.map((point, index) => {
    const button = element("button", `vlpnb-point ${point.kind}`);
    button.type = "button";
    button.setAttribute("role", "option");
    button.setAttribute("aria-label", `${point.kind} ${point.label}`);
    button.append(point.kind === "picture" ? picture({ src: point.src, alt: "" }, 34) : point.label);
    button.title = point.label;
    button.addEventListener("focus", () => { choose(index); bring(index); });
    button.addEventListener("click", () => choose(index));
    plane.append(button);
    return button;
  });

  const place = (point) => [
    plane.clientWidth / 2 + (point.x * (plane.clientWidth - 60) * zoom) / 2 + panX,
    plane.clientHeight / 2 - (point.y * (plane.clientHeight - 50) * zoom) / 2 + panY,
  ];

  function layOut() {
    points.forEach((point, index) => {
      const [x, y] = place(point);
      buttons[index].style.transform = `translate(${x}px, ${y}px) translate(-50%, -50%)`;
    });
    plane.dataset.zoom = zoom.toFixed(2);
    plane.style.touchAction = zoom > 1 ? "none" : "pan-y"; // the page still scrolls under a finger until one zooms in
  }

  /** Zoom by a factor; the point of the plane at (x, y) stays where it is. */
  function scale(factor, x = plane.clientWidth / 2, y = plane.clientHeight / 2) {
    const to = Math.max(1, Math.min(16, zoom * factor));
    const [fromX, fromY] = [x - plane.clientWidth / 2, y - plane.clientHeight / 2];
    panX = fromX - ((fromX - panX) * to) / zoom;
    panY = fromY - ((fromY - panY) * to) / zoom;
    zoom = to;
    if (zoom === 1) [panX, panY] = [0, 0];
    layOut();
  }

  /** Pan so that a point that lies outside comes to the middle. */
  function bring(index) {
    plane.scrollTo(0, 0); // a focused child must not scroll the plane
    const [x, y] = place(points[index]);
    if (x > 12 && y > 12 && x < plane.clientWidth - 12 && y < plane.clientHeight - 12) return;
    panX += plane.clientWidth / 2 - x;
    panY += plane.clientHeight / 2 - y;
    layOut();
  }

  function neighbourList(title, found) {
    if (!found.length) return;
    detail.append(element("p", "vlpnb-quiet", title));
    const list = element("ul");
    for (const [index, cosine] of found) {
      const line = element("li");
      line.append(element("span", "", points[index].label), element("span", "", cosine.toFixed(2)));
      list.append(line);
    }
    detail.append(list);
  }

  function draw() {
    const selected = model.get("selected");
    mark(buttons, selected);
    detail.replaceChildren();
    const near = model.get("neighbours")[selected] || [];
    buttons.forEach((button, index) => button.classList.toggle("near", near.some(([other]) => other === index)));
    const point = points[selected];
    if (!point) {
      detail.append(element("p", "vlpnb-quiet", "Choose a point to see what lies near it."));
      return;
    }
    if (point.kind === "picture") detail.append(picture({ src: point.src, alt: point.label }, 128));
    detail.append(element("p", "vlpnb-title", point.label));
    neighbourList("nearest tokens, cosine", near.filter(([index]) => points[index].kind === "token"));
    const pictures = near.filter(([index]) => points[index].kind === "picture");
    if (pictures.length) {
      const vokens = pictures.map(([index, score]) => ({ id: index, score }));
      detail.append(element("p", "vlpnb-quiet", "nearest pictures, cosine"));
      detail.append(pictureStrip(vokens, Object.fromEntries(pictures.map(([i]) => [i, { src: points[i].src, alt: points[i].label }])), 56));
    }
  }

  function towards(key) {
    const [dx, dy] = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const from = place(points[buttons.indexOf(document.activeElement)]);
    let [best, least] = [-1, Infinity];
    points.forEach((point, index) => {
      const [x, y] = place(point);
      const along = (x - from[0]) * dx + (y - from[1]) * dy;
      const across = Math.abs((x - from[0]) * dy) + Math.abs((y - from[1]) * dx);
      if (along > 0.5 && along + 2 * across < least) [best, least] = [index, along + 2 * across];
    });
    if (best >= 0) buttons[best].focus({ preventScroll: true });
  }

  plane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = {
      "+": () => zoomOn(1.5), "=": () => zoomOn(1.5), "-": () => zoomOn(1 / 1.5), 0: reset,
      Escape: zoom > 1 ? reset : undefined, Home: () => buttons[0].focus(), End: () => buttons.at(-1).focus(),
    }[event.key] || (event.key.startsWith("Arrow") && buttons.includes(document.activeElement) && (() => towards(event.key)));
    if (!action) return;
    event.preventDefault();
    action();
  });
  const zoomOn = (factor) => {
    const point = points[model.get("selected")];
    scale(factor, ...(point ? place(point) : []));
  };
  const reset = () => {
    [zoom, panX, panY] = [1, 0, 0];
    layOut();
  };

  plane.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the wheel alone scrolls the page
    event.preventDefault();
    const box = plane.getBoundingClientRect();
    scale(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  const fingers = new Map();
  plane.addEventListener("pointerdown", (event) => fingers.set(event.pointerId, [event.clientX, event.clientY]));
  plane.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      const box = plane.getBoundingClientRect();
      panX += (now[0] - before[0]) / 2; // the middle between the fingers has moved by half
      panY += (now[1] - before[1]) / 2;
      scale(distance(now) / Math.max(1, distance(before)), (now[0] + other[0]) / 2 - box.left, (now[1] + other[1]) / 2 - box.top);
    } else {
      if (!plane.classList.contains("dragged") && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return; // a tap
      plane.classList.add("dragged");
      plane.setPointerCapture(event.pointerId);
      panX += now[0] - before[0];
      panY += now[1] - before[1];
      layOut();
    }
    fingers.set(event.pointerId, now);
  });
  // two fingers never scroll the page, not even where one finger does
  plane.addEventListener("touchmove", (event) => {
    if (event.touches.length > 1 && event.cancelable) event.preventDefault();
  }, { passive: false });
  const lift = (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) plane.classList.remove("dragged");
  };
  plane.addEventListener("pointerup", lift);
  plane.addEventListener("pointercancel", lift);

  const tools = element("div", "vlpnb-tools");
  for (const [text, label, action] of [["+", "zoom in", () => zoomOn(1.5)], ["−", "zoom out", () => zoomOn(1 / 1.5)], ["all", "show all", reset]]) {
    const button = element("button", "", text);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", action);
    tools.append(button);
  }
  tools.append(element("span", "vlpnb-quiet", model.get("axes")));
  const side = element("div", "vlpnb-plane-side");
  side.append(tools, plane);
  const parts = element("div", "vlpnb-map-parts");
  parts.append(side, detail);
  root.append(parts);
  const observer = new ResizeObserver(layOut);
  observer.observe(plane);
  layOut();
  draw();
  const stop = listen(model, { selected: draw });
  return () => {
    observer.disconnect();
    stop();
  };
}

export default { render };
