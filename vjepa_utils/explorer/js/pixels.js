// Pixels from the leading components of a view: a linear decoder that was fitted to the clip, with
// one row of weights for each component and a last one for the offset, in int8 with a scale each.

const THUMB = 2;  // pixels of a patch's side in the strip

/**
 * {side, count, weights: Float32Array (count + 1, numbers)}, in units of the packed values; `small`
 * are those of the means of THUMB × THUMB parts of a patch, for the strip.
 */
export async function decodeWeights(view, { side, scale, weights }) {
  const packed = new Int8Array((await inflate(bytes(weights))).buffer);
  const count = scale.length - 1, numbers = 3 * side * side;
  const rows = Float32Array.from(packed, (value, i) => {
    const row = Math.floor(i / numbers);
    return value * scale[row] * (row < count ? view.scale[row] : 1);
  });
  return { side, count, weights: rows, small: { side: THUMB, count, weights: pooled(rows, side) } };
}

/** Weights of the means of THUMB × THUMB parts of each picture of side² numbers. */
function pooled(weights, side) {
  const area = side * side, part = side / THUMB;
  const out = new Float32Array((weights.length / area) * THUMB * THUMB);
  weights.forEach((value, i) => {
    const y = Math.floor((i % area) / side / part), x = Math.floor((i % side) / part);
    out[(Math.floor(i / area) * THUMB + y) * THUMB + x] += value / part / part;
  });
  return out;
}

/**
 * One step from its first `shown` components, as RGBA bytes (rows · side, columns · side).
 * pull: null, or {component, by, at(token)}, what is added to which component where.
 */
export function decodePixels(view, { side, count, weights }, shown, step, out, pull = null) {
  const { values, rows, columns, perStep } = view, area = side * side, numbers = 3 * area;
  const offset = weights.subarray(count * numbers), pixels = new Float32Array(numbers);
  const add = (component, value) => {
    const start = component * numbers;
    for (let i = 0; i < numbers; i++) pixels[i] += value * weights[start + i];
  };
  for (let patch = 0; patch < perStep; patch++) {
    const token = step * perStep + patch;
    pixels.set(offset);
    for (let c = 0; c < Math.min(shown, count); c++) add(c, values[c * view.count + token]);
    if (pull && pull.at(token)) add(pull.component, pull.by);
    const top = Math.floor(patch / columns) * side, left = (patch % columns) * side;
    for (let i = 0; i < area; i++) {
      const row = top + Math.floor(i / side), o = 4 * (row * columns * side + left + (i % side));
      for (let k = 0; k < 3; k++) out[o + k] = Math.round(255 * pixels[k * area + i]);
      out[o + 3] = 255;
    }
  }
  return out;
}

/** Share of the variance of some pixels that others hold, both RGBA bytes. */
export function explained(pixels, guess) {
  const mean = [0, 0, 0, 0];
  let wrong = 0, all = 0;
  pixels.forEach((value, i) => { mean[i % 4] += (4 * value) / pixels.length; });
  for (let i = 0; i < pixels.length; i++) {  // alpha is 255 in both, and so adds nothing
    wrong += (pixels[i] - guess[i]) ** 2;
    all += (pixels[i] - mean[i % 4]) ** 2;
  }
  return all ? 1 - wrong / all : NaN;
}

/** A step of a view in pixels, RGBA bytes; as it is, or with what is pulled. */
function pixelsOf(ex, view, step, { small = false, pull = null } = {}) {
  const { pixels } = ex.views[view], weights = small ? pixels.small : pixels;
  const { shown, pull: amounts, pins, active, brush } = ex.state;
  const where = pull && [amounts, pins[active], brush];
  return (small ? ex.kept.thumbs : ex.kept.pixels)(JSON.stringify([view, step, shown, where]), () =>
    decodePixels(ex.views[view], weights, shown, step,
      new Uint8ClampedArray(4 * ex.perStep * weights.side ** 2), pull));
}

/** The share of a frame's variance that its pixels hold. */
const heldBy = (ex, view, step) => ex.kept.held([view, step, ex.state.shown].join(), () => {
  const { side } = ex.views[view].pixels;
  const truth = rgbaOf(ex.pictures[step], ex.columns * side, ex.rows * side);
  return explained(truth, pixelsOf(ex, view, step));
});

function pixelsBar(ex, view) {
  const { count } = ex.views[view].pixels, { step, shown, pull: [component, by] } = ex.state;
  const held = `${Math.min(shown, count)} of ${count} components hold `
    + `${percent(heldBy(ex, view, step))} of the variance of this frame`;
  const moved = `; component ${component + 1} moved by ${fixed(by)} of its range`;
  return { text: pulled(ex, view) ? held + moved : held };
}
