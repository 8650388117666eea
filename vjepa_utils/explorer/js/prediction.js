// What the predictor recovers, as panels (see modes.js).

/** The step of a prediction that a step of the page is, or null. */
const stepIn = (ex, { frames }) => (step) => stepCovering(frames, ex.page.steps[step].frames[0]);

/** The frame, grey where it was hidden. */
const hiddenPanel = (ex, prediction) => ({
  key: "hidden", title: `hidden: ${prediction.name}, ${percent(prediction.share)}`, prediction,
  full: prediction.encoder, hidden: prediction.hidden, veiled: true, stepOf: stepIn(ex, prediction),
  rows: prediction.grid[1], columns: prediction.grid[2], paint: (step, out) => out,
  bar: { text: "grey patches are not shown to the encoder" },
});

/** What paints tokens from … to …, of a step that is known; others are grey. */
const known = (size, paint) => (step, out) =>
  (step === null ? paintGrey(size, out) : paint(step * size, (step + 1) * size, out));

function predictionPanels(ex, prediction) {
  const [, rows, columns] = prediction.grid, size = rows * columns, { hidden } = prediction;
  const rgb = (source) => known(size, (from, to, out) => {
    for (let i = from, o = 0; i < to; i++, o += 4) {
      for (let k = 0; k < 3; k++) out[o + k] = source[3 * i + k];
      out[o + 3] = 255;
    }
    return out;
  });
  const shared = { rows, columns, stepOf: stepIn(ex, prediction), hidden, prediction,
    full: prediction.encoder };
  return [
    hiddenPanel(ex, prediction),
    { ...shared, key: "whole", title: `whole clip · ${shortName(prediction.encoder)}`,
      bar: { text: "features of the whole clip, the target" }, paint: rgb(prediction.whole) },
    { ...shared, key: "filled", title: "filled in", outlined: true,
      bar: { text: "visible patches, and the prediction in the outlined region" },
      paint: rgb(prediction.filled) },
    { ...shared, key: "cosine", title: "cosine with the target", strong: true,
      bar: { low: 0, high: 1, label: "cosine, grey where visible" },
      paint: known(size, (from, to, out) =>
        paintHeat(prediction.cosineGrid, from, to, 0, 1, out)) },
  ];
}
