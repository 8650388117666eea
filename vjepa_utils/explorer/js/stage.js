// The pictures of the step that is shown, and below them the strip of all steps.

/** {stages, transport, strip: elements, draw(panels), layout()} */
function stagesOf(ex) {
  const stages = h("div", { class: "stages" }), strip = h("div", { class: "strip" });
  const { clip, steps } = ex, upright = clip.width < clip.height;
  let key = null, shown = [], rows = [], frames = null;

  function build(panels) {
    const aspect = clip.width / clip.height, count = panels.length;
    ex.body.classList.toggle("upright", aspect < 1 || count > 3);  // two by two on a telephone
    ex.body.classList.toggle("many", aspect * count > 5);  // two by two everywhere
    ex.body.style.setProperty("--aspect", aspect);
    shown = panels.map((panel) => stageOf(ex, panel));
    stages.replaceChildren(...shown.map((stage) => stage.element));
    frames = rowOf("frames", { onclick: (e) => ex.setStep(Math.floor(fraction(e)[0] * steps)) });
    rows = panels.filter((panel) => !panel.veiled).map((panel) => stripRowOf(ex, panel));
    strip.replaceChildren(h("div", { class: "inner" }, frames.element,
      ...rows.map((row) => row.element)));
    layout();
  }

  function layout() {
    ex.body.classList.toggle("side", ex.body.clientWidth >= 960);  // numbers beside the pictures
    const room = (strip.clientWidth || 600) - 8, ratio = window.devicePixelRatio || 1;
    const wide = Math.max(upright ? 44 : 72, Math.min(upright ? 96 : 150, room / steps));
    const tall = (wide * clip.height) / clip.width;
    strip.style.setProperty("--width", `${Math.round(wide * steps)}px`);
    strip.style.setProperty("--height", `${Math.round(tall)}px`);
    const { canvas, marks } = frames, unit = ex.columns + 1;
    canvas.width = Math.round(wide * steps * ratio);
    canvas.height = Math.round(tall * ratio);
    marks.setAttribute("viewBox", `0 0 ${steps * unit - 1} ${ex.rows}`);
    const context = canvas.getContext("2d"), scale = canvas.width / (steps * unit - 1);
    context.imageSmoothingQuality = "high";
    ex.pictures.forEach((picture, step) =>
      context.drawImage(picture, step * unit * scale, 0, ex.columns * scale, canvas.height));
  }

  function drawFrames() {
    const { step } = ex.state, left = step * (ex.columns + 1);
    frames.marks.replaceChildren(hereMark(left, ex.columns, ex.rows));
    ex.kept.scrolled(step, () => {
      if (strip.scrollWidth <= strip.clientWidth + 4) return;
      const middle = (strip.firstChild.scrollWidth / steps) * (step + 0.5);
      strip.scrollLeft = middle - strip.clientWidth / 2;
    });
  }

  return {
    stages, strip,
    layout: () => { if (frames) layout(); },
    draw(panels) {
      const now = panels.map((p) => [p.key, p.rows, p.columns, p.title, p.detail].join()).join("|");
      if (key !== now) build(panels);
      key = now;
      panels.forEach((panel, i) => shown[i].draw(panel));
      panels.filter((panel) => !panel.veiled).forEach((panel, i) => rows[i].draw(panel));
      drawFrames();
    },
  };
}

const hereMark = (x, width, height) => h("rect", { x, y: 0, width, height, class: "here" });

/** One picture: the frame, the map over it, the veil, the marks, and the colour bar below. */
function stageOf(ex, { rows, columns, title, full, detail = 1, guided, view }) {
  const { width, height } = ex.pictures[0];
  const frame = h("canvas", { class: "frame", width, height });
  const size = guided ? guidedSize(ex) : { width: columns * detail, height: rows * detail };
  const image = new ImageData(size.width, size.height);
  const map = h("canvas", { class: guided ? "map guided" : "map", ...size });
  const veil = h("canvas", { class: "veil", width: columns, height: rows });
  const viewBox = `0 0 ${columns} ${rows}`;
  const marks = h("svg", { class: "marks", viewBox, preserveAspectRatio: "none" });
  const picture = h("div", { class: "picture", tabindex: 0, role: "img",
    "aria-label": `${title}: click a patch to compare it with all others`,
    ...pointing(ex) }, frame, map, veil, marks);
  if (ex.offset && view !== undefined) {  // a token stands at the centre of its patch
    picture.dataset.offset = ex.offset;
    for (const part of guided ? [veil, marks] : [map, veil, marks]) {
      const [across, down] = [columns, rows].map((count) => `${(100 * ex.offset) / count}%`);
      part.style.transform = `translate(${across}, ${down})`;
    }
  }
  const bar = h("div", { class: "bar" }), barKey = memo();
  return {
    element: h("figure", { class: "panel" }, h("figcaption", { title: full }, title), picture, bar),
    draw(panel) {
      const step = panel.stepOf(ex.state.step), { overlay } = ex.state;
      frame.getContext("2d").drawImage(ex.pictures[ex.state.step], 0, 0, width, height);
      if (guided) paintGuided(ex, panel, step, image.data);
      else panel.paint(step, image.data);
      map.getContext("2d").putImageData(image, 0, 0);
      map.style.opacity = opacityOf(panel, overlay);
      frame.classList.toggle("above", ex.state.above && !panel.veiled);
      veil.getContext("2d").putImageData(veilOf(ex, panel, step), 0, 0);
      marks.replaceChildren(...marksOf(ex, panel, step));
      barKey(JSON.stringify(panel.bar), () => bar.replaceChildren(...barOf(panel.bar)));
    },
  };
}

/** How much of what lies under it a map covers. */
function opacityOf({ veiled, opaque, strong }, overlay) {
  if (veiled || opaque) return veiled ? 0 : 1;
  return Math.max(strong ? 0.6 : 0, overlay);
}

/** The colours of a bar, from its low end to its high end. */
function barColours(plain) {
  if (plain) return ["#000", "#fff"];
  return [...Array(17).keys()].map((i) => Math.round((255 * i) / 16))
    .map((i) => `rgb(${INFERNO.subarray(3 * i, 3 * i + 3).join()})`);
}

function barOf({ text, low, high, label: name, plain }) {
  if (text) return [h("span", { class: "bartext" }, text)];
  const digits = high - low < 0.2 ? 3 : 2;
  const fill = barColours(plain).join();
  return [h("span", {}, fixed(low, digits)),
    h("i", { style: `background:linear-gradient(90deg,${fill})` }),
    h("span", {}, fixed(high, digits)), h("span", { class: "bartext" }, name)];
}

function rowOf(title, listeners) {
  const canvas = h("canvas", {}), marks = h("svg", { class: "marks", preserveAspectRatio: "none" });
  const thumbs = h("div", { class: "thumbs", ...listeners }, canvas, marks);
  const name = h("span", { class: "rowlabel", title }, title);
  return { canvas, marks, element: h("div", { class: "row" }, name, thumbs) };
}

/** All steps of one panel, with a gap as wide as a patch between them. */
function stripRowOf(ex, { rows, columns, title, row: name = title, ...picture }) {
  const { detail = 1 } = picture.thumbs || picture;
  const { steps, clip } = ex, unit = columns + 1, width = steps * unit - 1, size = rows * columns;
  const image = new ImageData(width * detail, rows * detail), line = 4 * columns * detail;
  const painted = new Uint8ClampedArray(4 * size * detail * detail);
  const place = (event) => {
    const [x, y] = fraction(event), at = x * width, step = Math.floor(at / unit);
    const across = Math.min(1, (at - step * unit) / columns);
    return { step, x: across * clip.width, y: y * clip.height };
  };
  const { element, canvas, marks } = rowOf(name, {
    onclick: (event) => ex.setStep(place(event).step),
    onpointermove: (event) => { if (event.pointerType !== "touch") ex.point(place(event)); },
    onpointerleave: () => ex.point(null),
  });
  canvas.className = "map";
  Object.assign(canvas, { width: image.width, height: image.height });
  marks.setAttribute("viewBox", `0 0 ${width} ${rows}`);
  const drawStep = (panel, step, selected) => {
    (panel.thumbs || panel).paint(panel.stepOf(step), painted);
    for (let o = 0; selected && o < painted.length; o += 4) {
      const row = Math.floor(o / line / detail), column = Math.floor((o % line) / 4 / detail);
      if (selected[step * size + row * columns + column]) continue;
      for (let k = 0; k < 3; k++) painted[o + k] *= 0.22;
    }
    for (let row = 0; row < image.height; row++) {
      const left = 4 * (row * image.width + step * unit * detail);
      image.data.set(painted.subarray(row * line, (row + 1) * line), left);
    }
  };
  return {
    element,
    draw(panel) {
      const isView = panel.view !== undefined, selected = isView ? unveiled(ex) : null;
      const radius = Math.min(ex.rows, ex.columns) / 11, rings = [];
      for (let step = 0; step < steps; step++) {
        drawStep(panel, step, selected);
        if (isView && ex.state.mode === "similarity") {
          rings.push(...ringsOf(ex, panel.view, step, { left: step * unit, radius }));
        }
      }
      canvas.getContext("2d").putImageData(image, 0, 0);
      marks.replaceChildren(...rings, hereMark(ex.state.step * unit, columns, rows));
    },
  };
}
