// The elements of an explorer, from top to bottom.

function layOut(ex, root) {
  ex.status = h("p", { class: "status", role: "status", "aria-live": "polite" });
  ex.help = helpOf(ex);
  ex.body = h("div", { class: "vje", tabindex: -1, "data-lm-suppress-shortcuts": "true" });
  const stages = stagesOf(ex), scatter = scatterOf(ex), controls = controlsOf(ex);
  const transport = transportOf(ex), readout = readoutOf(ex), pins = pinsOf(ex);
  const pull = pullOf(ex);
  const curve = curveOf(ex), numbers = numbersOf(ex), scatterBar = scatterBarOf(ex);
  const card = (title, ...children) =>
    h("section", { class: "card" }, h("h2", {}, title), ...children);
  ex.body.append(headerOf(ex), controls.element, controls.hint, ex.status,
    h("div", { class: "body" },
      h("div", { class: "main" }, stages.stages, transport.element, stages.strip),
      h("div", { class: "cards" }, numbers.element,
        card("Under the pointer", readout.element, pins.element, pull.element),
        curve.element,
        card("Tokens in two components", scatterBar.element, scatter.canvas))),
    aboutNumbers(ex), ex.help);
  ex.parts = [stages, controls, transport, readout, pins, pull, curve, scatterBar, scatter,
    numbers];
  root.replaceChildren(ex.body);
  listenAround(ex, root, stages);
}

/** What happens outside the elements: errors, keys, another size, another scheme of colours. */
function listenAround(ex, root, stages) {
  const resized = new ResizeObserver(() => {
    stages.layout();
    ex.draw();
  });
  resized.observe(root);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const keys = ex.address ? document : ex.body;  // the page owns its window, a cell does not
  ex.leave = [
    () => resized.disconnect(),
    on(ex.body, "explorerfailed", ({ detail }) => ex.say(
      `Something went wrong: ${detail.message}. What you see may not be up to date.`, true)),
    on(scheme, "change", () => ex.recolour(), ex.body),
    on(keys, "keydown", (event) => onKey(ex, event), ex.body),
  ];
}

function headerOf(ex) {
  const { clip, page, views, steps } = ex, [height, width] = views[0].picture;
  const tokens = ex.offset ? "tokens" : "patches";
  const some = steps < page.whole ? `${steps} of ${page.whole}` : steps;
  const encoders = [...new Set(views.map((view) => view.encoder))].join(", ");
  const about = `${clip.width}×${clip.height}, ${clip.frames} frames · ${encoders} · encoded at `
    + `${width}×${height} · ${some} steps of ${ex.columns}×${ex.rows} ${tokens}`;
  const copy = ex.address && ex.address.shared
    ? button("Copy link", "copy the address of this view (C)", () => ex.copyLink()) : null;
  const round = (sign, title, name, act) =>
    button(sign, title, act, { class: "round", "aria-label": name });
  return h("header", { class: "top" },
    h("div", { class: "title" }, h("h1", {}, clip.name), h("p", {}, about)),
    h("div", { class: "actions" }, copy,
      button("Save PNG", "save the pictures with their marks and scales (I)",
        () => savePicture(ex)),
      round("◐", "light or dark (D)", "light or dark", () => ex.setTheme()),
      round("?", "keys (?)", "keys", () => ex.toggleHelp())));
}

const flagCheck = (ex, name) => {
  const { key, label: text, help } = FLAGS[name];
  return check(text, `${help} (${key.toUpperCase()})`, () => ex.state[name],
    (value) => ex.change({ [name]: value }));
};

const componentPicker = (ex, title, chosen, pick, more) =>
  picker(title, () => [...Array(ex.pickable).keys()].map((c) => c + 1), chosen, pick, more);

const replaced = (list, at, value) => list.map((old, i) => (i === at ? value : old));

/** The row of buttons, boxes and lists above the pictures, and the sentence below it. */
function controlsOf(ex) {
  const hint = h("p", { class: "hint" });
  const modes = segmented("What is drawn",
    Object.fromEntries(modesOf(ex).map((name) => [name, MODES[name].name])),
    () => ex.state.mode, (mode) => ex.setMode(mode));
  const tools = segmented("What the pointer does",
    Object.fromEntries(Object.entries(TOOLS).map(([name, tool]) => [name, tool.name])),
    () => ex.tool, (tool) => ex.setTool(tool), (tool) => offersTool(ex, tool));
  const pickers = ["red", "green", "blue"].map((name, i) => componentPicker(ex,
    `component drawn ${name}`, () => ex.state.rgb[i],
    (c) => ex.change({ rgb: replaced(ex.state.rgb, i, c) }), { class: name }));
  const flags = ["live", "nearest", "unit", "above", "alone", "guided"]
    .map((name) => flagCheck(ex, name));
  const [live, nearest, unit, above, alone, guided] = flags;
  const masks = picker("mask", () => ex.predictions.map(({ name, encoder }) =>
    `${name} · ${shortName(encoder)}`), () => ex.state.mask, (mask) => ex.change({ mask }));
  const through = check("through all steps",
    "hide a patch in every step, as in pretraining; otherwise in this step only",
    () => ex.through, (value) => { ex.through = value; });
  const sizes = [1, 3, 5, 7, 9];  // of the brush that hides, in patches
  const brush = picker("patches that the brush is wide", () => sizes.map((size) => `${size} wide`),
    () => sizes.indexOf(ex.brushSize), (i) => { ex.brushSize = sizes[i]; });
  const clear = button("Clear", "show all patches again", () => {
    ex.painted = null;
    sendMask(ex);
    ex.draw();
  });
  const overlay = h("input", { type: "range", min: 0, max: 100, "aria-label": "overlay strength",
    oninput: () => ex.change({ overlay: overlay.value / 100 }) });
  const cut = h("input", { type: "range", min: -1, max: 1, step: 0.05, "aria-label": "threshold",
    title: "take more, or less, for the thing ([ and ])",
    oninput: () => ex.change({ cut: Number(cut.value) }) });
  const shown = h("input", { type: "range", min: 1, max: 64, "aria-label": "components decoded",
    title: "how many of the leading components are decoded (Y)",
    oninput: () => ex.change({ shown: Number(shown.value) }) });
  const pixelsBox = group(label("1"), shown, label("64 components"));
  const segmentBox = group(label("more"), cut, label("less"), alone);
  const rgbBox = group(label("components"), ...pickers);
  const similarityBox = group(live, nearest, unit), maskBox = group(label("mask"), masks);
  const overlayBox = group(label("frame"), overlay, label("overlay"), above, guided);
  const hideBox = group(label("brush"), brush, through, clear);
  const updated = [modes, tools, ...pickers, ...flags, masks, brush, through];

  function draw() {
    const { mode, pins } = ex.state;
    updated.forEach((control) => control.update());
    rgbBox.hidden = mode !== "colours";
    similarityBox.hidden = mode !== "similarity";
    guided.hidden = !MODES[mode].guides;
    nearest.hidden = pins.length < 2;
    maskBox.hidden = mode !== "prediction";
    pixelsBox.hidden = mode !== "pixels";
    overlayBox.hidden = mode === "pixels";  // what is decoded is not mixed with the truth
    shown.value = ex.state.shown;
    segmentBox.hidden = mode !== "segment";
    cut.value = ex.state.cut;
    hideBox.hidden = ex.tool !== "hide";
    overlay.value = Math.round(100 * ex.state.overlay);
    hint.textContent = hintOf(ex);
  }
  const element = h("div", { class: "tools" }, modes, tools, rgbBox, similarityBox, maskBox,
    segmentBox, pixelsBox, hideBox, overlayBox);
  return { element, hint, draw };
}

function hintOf(ex) {
  const { mode, step, mask } = ex.state, { hint } = MODES[mode];
  if (mode === "prediction") {
    const there = stepIn(ex, ex.predictions[mask])(step) !== null;
    if (!there) return "This step was not among the frames encoded jointly for this mask.";
  }
  if (TOOLS[ex.tool].hint) return TOOLS[ex.tool].hint;
  return mode === "change" && step === 0 ? `${hint} The first step has none before it.` : hint;
}

function transportOf(ex) {
  const { steps } = ex;
  const play = button("▶", "play or stop (Space)", () => ex.play(!ex.playing),
    { class: "play", "aria-label": "play" });
  const arrow = (sign, name, key, by) =>
    button(sign, `${name} (${key})`, () => ex.setStep(ex.state.step + by), { "aria-label": name });
  const slider = h("input", { type: "range", min: 0, max: Math.max(0, steps - 1), step: 1,
    "aria-label": "step", oninput: () => ex.setStep(Number(slider.value)) });
  const name = h("span", { class: "steplabel" });
  const element = h("div", { class: "transport" }, play, arrow("‹", "the step before", ",", -1),
    arrow("›", "the next step", ".", 1), slider, name);
  return { element, draw() {
    slider.value = ex.state.step;
    play.textContent = ex.playing ? "❚❚" : "▶";
    play.setAttribute("aria-pressed", Boolean(ex.playing));
    name.textContent = stepName(ex);
  } };
}

function stepName({ state: { step }, steps, page }) {
  const { frames, time } = page.steps[step];
  return `step ${step} of 0–${steps - 1} · ${framesOf(frames)} · ${time.toFixed(2)} s`;
}

function scatterBarOf(ex) {
  const axis = (title, i) => componentPicker(ex, title, () => ex.state.axes[i],
    (c) => ex.change({ axes: replaced(ex.state.axes, i, c), brush: null }));
  const horizontal = axis("horizontal component", 0), vertical = axis("vertical component", 1);
  const views = picker("encoder of the scatter", () => ex.views.map(viewName),
    () => ex.state.view, (view) => ex.change({ view, brush: null }));
  const all = flagCheck(ex, "allSteps"), updated = [views, horizontal, vertical, all];
  const element = h("div", { class: "scatterbar" }, ex.views.length > 1 ? views : null,
    h("span", {}, horizontal, " × ", vertical), all);
  return { element, draw: () => updated.forEach((control) => control.update()) };
}

const helpOf = (ex) => h("div", { class: "help", role: "dialog", "aria-label": "keys",
  hidden: true, onclick: () => ex.toggleHelp() },
h("div", { class: "card", onclick: (event) => event.stopPropagation() },
  h("header", {}, h("h2", {}, "Keys"),
    button("×", "close", () => ex.toggleHelp(), { class: "round", "aria-label": "close" })),
  h("dl", {}, ...KEYS.flatMap((row) =>
    [h("dt", {}, h("kbd", {}, shownKeys(row))), h("dd", {}, row.text)]))));

function aboutNumbers(ex) {
  const cell = (tag, ...content) => h(tag, {}, ...content);
  const line = (view) => cell("tr", cell("th", view.encoder), ...[
    view.layer ? `block ${view.layer}` : "final norm", `${view.picture[1]}×${view.picture[0]}`,
    `${view.components} of ${view.channels}`,
    percent(view.explained.reduce((a, b) => a + b, 0), 1),
    fixed(view.error.mean, 4), fixed(view.error.p99, 4), fixed(view.numbers[0], 1),
    fixed(view.numbers[1], 2), percent(view.numbers[2], 0), `${view.numbers[3]}`,
  ].map((text) => cell("td", text)));
  const head = ["encoder", "layer", "encoded at", "components", "of the variance", "mean error",
    "99th percentile", "effective rank", "mean cosine", "place explains", "outlying norms",
  ].map((text) => cell("th", text));
  const pairs = ex.views[0].pairs.toLocaleString("en");
  return h("details", { class: "about" }, h("summary", {}, "How the numbers are made"),
    h("div", { class: "scroll" }, h("table", {}, cell("thead", cell("tr", ...head)),
      cell("tbody", ...ex.views.map(line)))),
    h("p", {}, `Context: ${ex.page.context}. Each view keeps the leading principal components of `
      + "its features over the clip, as 8-bit numbers with a scale for each, not whitened, and "
      + "their mean; so a cosine here is that of the uncentred features, off by the errors above "
      + `(absolute, over ${pairs} sampled pairs). The same components are the colours, between `
      + "their 1st and 99th percentile. Several encoders have their own components, put into the "
      + "order and sign that follow the first encoder's best. Black in a similarity is the 5th "
      + "percentile of the cosine over the sampled pairs. Effective rank: how many directions the "
      + "features use; mean cosine: between different tokens; place explains: the share of the "
      + "variance that lies between places, the same in every step."));
}
