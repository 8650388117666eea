// What is drawn: a table of modes, and the pictures of each. A picture is a panel:
// {key, title, full, rows, columns, stepOf(step), paint(step, out), bar}, and of a view its number
// and its detail, the pixels that are painted along a patch, and whether it is `guided`; `thumbs`
// are other {detail, paint} for the strip.

/** The value that is drawn black in *Similarity*. */
const lowOf = (ex, view) => (ex.state.unit ? 0 : ex.views[view].black);

const paintComponents = (ex, view, from, to, out) =>
  paintColours(ex.views[view], ex.state.rgb, from, to, out);

function componentsBar(ex, view) {
  const { explained } = ex.views[view];
  const [r, g, b] = ex.state.rgb.map((c) => `${c + 1} (${percent(explained[c])})`);
  return { text: `red ${r} · green ${g} · blue ${b} of the variance` };
}

export const MODES = {
  colours: {
    name: "Colours",
    hint: "Each patch in the colour of its features: what is similar has a similar colour. "
      + "Click a patch to see where it is found again.",
    guides: true,
    paint: paintComponents,
    bar: componentsBar,
  },
  similarity: {
    name: "Similarity",
    hint: "How similar every patch of every step is to the chosen one. Point to compare, click to "
      + "choose, Shift+click to pin several, or select a region.",
    guides: true,
    heat(ex, view) {
      const asked = showsNearest(ex) ? null : query(ex, view);
      return asked && { map: asked.map, low: lowOf(ex, view) };
    },
    paint(ex, view, from, to, out) {
      const asked = query(ex, view), low = lowOf(ex, view);
      if (!asked) return paintComponents(ex, view, from, to, out);
      if (!showsNearest(ex)) return paintHeat(asked.map, from, to, low, 1, out);
      const pins = pinned(ex, view), colours = pins.map((pin) => rgbOf(pin.colour));
      return paintNearest(pins.map((pin) => pin.map), colours, from, to, low, out);
    },
    bar(ex, view) {
      if (!query(ex, view)) return componentsBar(ex, view);
      const scale = { low: lowOf(ex, view), high: 1 };
      return showsNearest(ex) ? { ...scale, label: "cosine with the nearest pin", plain: true }
        : { ...scale, label: regionOf(ex) ? "mean cosine with the selected patches" : "cosine" };
    },
  },
  change: {
    name: "Change",
    rings: false,
    hint: "How far the features of each patch moved since the step before, as 1 − cosine.",
    paint(ex, view, from, to, out) {
      const { map, top } = changeOf(ex, view);
      return paintHeat(map, from, to, 0, top, out);
    },
    bar: (ex, view) =>
      ({ low: 0, high: changeOf(ex, view).top, label: "1 − cosine with the step before" }),
  },
  prediction: {
    name: "Prediction",
    hint: "What the predictor recovers of a hidden region, beside what the encoder makes of the "
      + "whole clip.",
    panels: (ex) => predictionPanels(ex, ex.predictions[ex.state.mask]),
  },
  segment: {
    name: "Segment",
    hint: "Click a thing, and it is found in all steps. Shift+click, or Not this: what is wrongly "
      + "taken for it. Clicks in any step count.",
    click: (ex, at, shift) => addClick(ex, at, !shift),
    guides: true,
    paint: paintThings,
    rings: false,
    marks: clickMarks,
    series: areaSeries,
    bar: (ex, view) => ({ text: thingsOf(ex, view).map(({ areas }, i) => (areas
      ? `thing ${i + 1}: ${percent(areas[ex.state.step], 1)} of this step` : "")).join(" · ")
      || "nothing is chosen" }),
  },
  pixels: {
    name: "Pixels",
    hint: "What a linear decoder, fitted to this clip, reads from the leading components: with "
      + "three, what the colours hold; with more, what they leave out. Choose a patch to pull a "
      + "component there.",
    detail: (view) => view.pixels.side,
    draw: (ex, view, step, out) =>
      out.set(pixelsOf(ex, view, step, { pull: pulled(ex, view) })),
    thumbs: (ex, view) => ({ detail: THUMB, paint: (step, out) =>
      out.set(pixelsOf(ex, view, step, { small: true, pull: pulled(ex, view) })) }),
    bar: pixelsBar,
    rings: false,
    opaque: true,
    panels: recoveredPanels,
    marks: (ex, step) => pinMarks(ex, step),
  },
  edit: {
    name: "Forecast",
    hint: "How far the predictor's forecast moved, beside how far random changes of equal length "
      + "move it.",
    panels: (ex) => editPanels(ex, ex.edit),
    marks: (ex) => moveMarks(ex, ex.edit),
  },
};

/** Modes that not every page has. */
const OFFERED = {
  prediction: (ex) => ex.predictions.length || ex.kernel,
  edit: (ex) => ex.kernel,
  pixels: (ex) => ex.views.every((view) => view.pixels),
};

/** The modes that this explorer offers; with a kernel there may be a prediction later. */
const modesOf = (ex) =>
  Object.keys(MODES).filter((name) => !OFFERED[name] || OFFERED[name](ex));

/** The pictures of the present mode, below each other in the strip and side by side above it. */
function panelsOf(ex) {
  const mode = MODES[ex.state.mode], others = mode.panels && mode.panels(ex);
  const guided = Boolean(mode.guides) && ex.state.guided;
  return others || ex.views.map((view, index) => ({
    key: `view${index}`,
    title: viewName(view) + (guided ? " · guided by the frame" : ""),
    row: viewName(view),
    guided,
    heat: mode.heat && mode.heat(ex, index),
    full: `${view.encoder}${view.layer ? `, block ${view.layer}` : ""}`,
    view: index,
    rows: ex.rows, columns: ex.columns,
    detail: mode.detail ? mode.detail(view) : 1,
    stepOf: (step) => step,
    bar: mode.bar(ex, index),
    thumbs: mode.thumbs && mode.thumbs(ex, index),
    opaque: mode.opaque,
    paint: (step, out) => (mode.draw ? mode.draw(ex, index, step, out)
      : mode.paint(ex, index, step * ex.perStep, (step + 1) * ex.perStep, out)),
  }));
}
