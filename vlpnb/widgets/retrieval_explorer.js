// Retrieval explorer: type a sentence; every token's best pictures come back from the kernel.
// With examples there is a button for every language; each puts its sentence into the line.
// One request at a time: what is typed while the kernel works is sent when its answer is there.

const DELAY = 250; // ms of silence before a sentence is sent
const PATIENCE = 15000; // ms after which an unanswered request no longer holds back the next

/** A row of buttons, or nothing where there are no examples. */
function exampleButtons(examples, choose) {
  if (!examples.length) return [];
  const row = element("div", "vlpnb-languages");
  row.hidden = true;
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "an example in");
  for (const example of examples) {
    const button = element("button", "", example.name);
    Object.assign(button, { type: "button", lang: example.code, title: example.sentence });
    button.addEventListener("click", () => choose(example));
    row.append(button);
  }
  return [row];
}

/** The shipped Chinese font. Buttons wait for it: a browser may keep the boxes that it drew in place of a word. */
async function loadFont(source, waiting) {
  try {
    if (source && ![...document.fonts].some((font) => font.family.includes("vlpnb Han"))) {
      const unicodeRange = "U+3000-303F, U+4E00-9FFF, U+FF00-FFEF"; // so that it may stand first
      document.fonts.add(await new FontFace("vlpnb Han", `url(${source})`, { unicodeRange }).load());
    }
  } catch {
    // a page may forbid it; then what the machine has is used
  }
  for (const node of waiting) node.hidden = false;
}

function render({ model, el }) {
  const root = frame(model, el, "vlpnb-retrieval", "Retrieval explorer");
  const label = element("label", "vlpnb-quiet", "Sentence");
  const input = element("input", "vlpnb-input");
  Object.assign(input, { type: "text", value: model.get("sentence"), spellcheck: false, autocomplete: "off" });
  input.enterKeyHint = "search";
  input.dir = "auto"; // Arabic and Hebrew run from the right
  label.append(input);
  const languages = exampleButtons(model.get("examples") || [], ({ code, sentence: text }) => {
    Object.assign(input, { value: text, lang: code });
    send();
  });
  loadFont(model.get("font"), languages);
  const status = element("p", "vlpnb-quiet");
  status.setAttribute("role", "status");
  const problem = element("p", "vlpnb-error");
  problem.setAttribute("role", "alert");
  const sentence = tokenRow((index) => {
    if (index === model.get("selected")) return;
    model.set("selected", index);
    model.save_changes();
  });
  const panel = element("div", "vlpnb-models");
  panel.setAttribute("role", "tabpanel");
  panel.setAttribute("aria-live", "polite");
  root.append(...languages, label, status, problem, sentence.node, panel);

  let timer = 0;
  let sentAt = 0; // 0: no request is under way

  function send() {
    clearTimeout(timer);
    if (input.value === model.get("answered")) return;
    if (sentAt && performance.now() - sentAt < PATIENCE) return;
    sentAt = performance.now();
    status.textContent = "asking the kernel …";
    model.set("sentence", input.value);
    model.save_changes();
  }

  input.addEventListener("input", (event) => {
    clearTimeout(timer);
    if (!event.isComposing) timer = setTimeout(send, DELAY);
  });
  input.addEventListener("compositionend", () => { timer = setTimeout(send, DELAY); });
  input.addEventListener("keydown", (event) => {
    const first = { Enter: send, ArrowDown: () => sentence.node.querySelector("[tabindex='0']")?.focus() }[event.key];
    if (!first || event.isComposing) return;
    event.preventDefault();
    first();
  });

  function drawPanel() {
    const token = model.get("tokens")[model.get("selected")];
    sentence.select(model.get("selected"));
    panel.replaceChildren();
    if (!token || !token.vokens.length) return;
    panel.append(pictureStrip(token.vokens, model.get("pictures"), 104));
  }

  function draw() {
    sentAt = 0;
    status.textContent = "";
    problem.textContent = model.get("error");
    problem.hidden = !model.get("error");
    root.classList.toggle("stale", Boolean(model.get("error")));
    sentence.draw(model.get("tokens"), model.get("pictures"));
    drawPanel();
    if (input.value !== model.get("answered")) {
      // the sentence was set in Python, or more was typed in the meantime
      if (document.activeElement === input) send();
      else input.value = model.get("answered");
    }
  }

  draw();
  const stop = listen(model, { answered: draw, selected: drawPanel });
  return () => {
    clearTimeout(timer);
    stop();
  };
}

export default { render };
