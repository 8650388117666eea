// What was painted over in a notebook, in pixels: recovered by the predictor, beside the clip, and
// beside what the same decoder reads from the features, which is the most that it can show.

/** RGBA bytes of a picture at another size. */
function rgbaOf(picture, width, height) {
  const context = h("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

/** {features, prediction}: {r2, pictures} of the kernel, with the pictures decoded. */
export async function decodeRecovered(pixels) {
  for (const part of Object.values(pixels)) {
    part.pictures = await Promise.all(part.pictures.map(decodePicture));
  }
  return pixels;
}

/** The prediction of what is painted, if there is one. */
const paintedOf = (ex) => ex.painted && ex.predictions.find(({ name }) => name === "painted");

/** Hidden, the clip, and both in pixels; null until they are there. */
function recoveredPanels(ex) {
  const prediction = paintedOf(ex);
  if (!prediction || !prediction.pixels) return null;
  const { grid: [, rows, columns], hidden, pixels } = prediction;
  const detail = prediction.picture[1] / columns;
  const paint = (pictures, side) => (step, out) => (step === null ? out.fill(0)
    : out.set(rgbaOf(pictures[step], columns * side, rows * side)));
  const shown = (key, title, pictures, more) => ({ key, title, rows, columns, detail, prediction,
    hidden, full: title, opaque: true, paint: paint(pictures, detail),
    thumbs: { detail: THUMB, paint: paint(pictures, THUMB) }, ...more });
  const [features, predicted] = ["features", "prediction"].map((name) => shown(name,
    `from the ${name}, R² ${fixed(pixels[name].r2)}`, pixels[name].pictures,
    { stepOf: stepIn(ex, prediction),
      outlined: true, bar: { text: name === "features" ? "what the decoder can show at most"
        : "R² at the hidden patches; the decoder was fitted to the visible ones" } }));
  const clip = shown("clip", "clip", ex.pictures,
    { stepOf: (step) => step, bar: { text: "the truth" } });
  return [hiddenPanel(ex, prediction), clip, features, predicted];
}
