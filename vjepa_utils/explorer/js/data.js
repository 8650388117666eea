// The data of a page, unpacked. The files of this folder are one module, joined in the order of
// their names: no build step, and tests/test_explorer.py runs the pure functions in node.

/** Bytes of a field, which is base64. */
export const bytes = (field) => Uint8Array.from(atob(field), (letter) => letter.charCodeAt(0));

/** A picture of a field, WebP. */
export const decodePicture = (field) =>
  createImageBitmap(new Blob([bytes(field)], { type: "image/webp" }));

/** Undo zlib's compress. */
export async function inflate(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Differences from the step before to values, in place: Int8Array, component after component. */
export function undoDifferences(values, count, perStep) {
  for (let start = 0; start < values.length; start += count) {
    for (let i = start + perStep; i < start + count; i++) values[i] += values[i - perStep];
  }
  return values;
}

/** A view of the page with its values decoded, ready for `cosineMap` and `paintColours`. */
export async function decodeView(view) {
  const [steps, rows, columns] = view.grid;
  const perStep = rows * columns, count = steps * perStep;
  const raw = await inflate(bytes(view.values));
  const values = undoDifferences(new Int8Array(raw.buffer), count, perStep);
  const decoded = { ...view, values, steps, rows, columns, perStep, count };
  decoded.inverse = inverseNorms(decoded);
  if (view.pixels) decoded.pixels = await decodeWeights(view, view.pixels);
  return decoded;
}

/** Which of some steps, by the frames that each covers, a frame is in; null if in none. */
export function stepCovering(frames, frame) {
  const step = frames.findIndex(([first, last]) => first <= frame && frame <= last);
  return step < 0 ? null : step;
}

export const GUESSES = ["prediction", "mean", "nearest", "same place"];

/** A prediction with its bytes decoded. */
export async function decodePrediction(prediction) {
  const parts = ["hidden", "whole", "filled", "cosine"];
  const [hidden, whole, filled, packed] = await Promise.all(
    parts.map((name) => inflate(bytes(prediction[name]))),
  );
  const places = new Int32Array(hidden.length).fill(-1);  // of each token among the hidden ones
  let many = 0;
  hidden.forEach((here, i) => { if (here) places[i] = many++; });
  const raw = new Int8Array(packed.buffer);
  const cosines = GUESSES.map((_, k) => Float32Array.from(
    raw.subarray(k * many, (k + 1) * many), (value) => (value === -128 ? NaN : value / 127),
  ));
  const cosineGrid = Float32Array.from(places, (place) => (place < 0 ? NaN : cosines[0][place]));
  return { ...prediction, hidden, whole, filled, places, cosines, cosineGrid };
}

/** Remembers its latest `most` answers: `kept(key, make)` makes one only if it is not there. */
export function memo(most = 1) {
  const answers = new Map();
  return (key, make) => {
    const answer = answers.has(key) ? answers.get(key) : make();
    answers.delete(key);
    answers.set(key, answer);  // last used, last forgotten
    if (answers.size > most) answers.delete(answers.keys().next().value);
    return answer;
  };
}
