// A picture with its regions, for the region explorer and the caption stepper.

/** A picture under boxes, and tags above both. `tag` is the element of a box: "button" where it can be chosen. */
function regionCanvas(source, boxes, tag) {
  const canvas = element("div", "vlpnb-canvas");
  canvas.style.setProperty("--ratio", String(source.ratio));
  const image = element("img");
  Object.assign(image, { src: source.src, alt: source.alt, draggable: false });
  const list = element("div", "vlpnb-boxes");
  const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);
  // The smaller lie above the larger, so that the pointer reaches all.
  const bySize = [...boxes.keys()].sort((a, b) => area(boxes[b]) - area(boxes[a]));
  const marks = boxes.map(([left, top, right, bottom], region) => {
    const mark = element(tag, "vlpnb-box");
    Object.assign(mark.style, {
      left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`,
      height: `${100 * (bottom - top)}%`, zIndex: String(bySize.indexOf(region)),
    });
    list.append(mark);
    return mark;
  });
  const tags = element("div", "vlpnb-tags"); // above all boxes
  tags.setAttribute("aria-hidden", "true");
  canvas.append(image, list, tags);

  /** Put each tag above its box, inside the picture, and below the tags that are there already. */
  function place() {
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const placed = [];
    for (const one of tags.children) {
      const [left, top] = boxes[one.dataset.region];
      const x = Math.max(0, Math.min(left * width, width - one.offsetWidth));
      let y = Math.max(0, top * height - one.offsetHeight - 1);
      const meets = (other) => x < other.x + other.width && other.x < x + one.offsetWidth && Math.abs(y - other.y) < one.offsetHeight;
      for (let hit = placed.find(meets); hit; hit = placed.find(meets)) y = hit.y + one.offsetHeight + 1;
      Object.assign(one.style, { left: `${x}px`, top: `${y}px` });
      placed.push({ x, y, width: one.offsetWidth });
    }
  }
  const resized = new ResizeObserver(place);
  resized.observe(canvas);

  /** Light the boxes by their weights, as shares of the greatest; where all are alike, none is lit fully. */
  function light(weights) {
    const full = Math.max(...weights, Math.min(1, 2 / weights.length));
    marks.forEach((mark, index) => mark.style.setProperty("--share", String(weights[index] / full)));
    return full;
  }

  /** Name some regions on the picture: [[region, text], …]. */
  function name(named) {
    tags.replaceChildren(...named.map(([region, text]) => {
      const one = element("span", "vlpnb-tag", text);
      one.dataset.region = region;
      return one;
    }));
    place();
  }
  return { canvas, list, marks, light, name, stop: () => resized.disconnect() };
}
