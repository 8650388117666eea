// Pixels from the leading components of a view: a linear decoder that was fitted to the clip, with
// one row of weights for each component and a last one for the offset, in int8 with a scale each.

/** {side, count, weights: Float32Array (count + 1, numbers)}, in units of the packed values. */
export async function decodeWeights(view, { side, scale, weights }, buffers) {
  const packed = new Int8Array((await inflate(bytes(weights, buffers))).buffer);
  const count = scale.length - 1, numbers = 3 * side * side;
  const rows = Float32Array.from(packed, (value, i) => {
    const row = Math.floor(i / numbers);
    return value * scale[row] * (row < count ? view.scale[row] : 1);
  });
  return { side, count, weights: rows };
}

/** One step from its first `shown` components, as RGBA bytes (rows · side, columns · side). */
export function decodePixels(view, { side, count, weights }, shown, step, out) {
  const { values, rows, columns, perStep } = view, area = side * side, numbers = 3 * area;
  const offset = weights.subarray(count * numbers), pixels = new Float32Array(numbers);
  for (let patch = 0; patch < perStep; patch++) {
    pixels.set(offset);
    for (let c = 0; c < Math.min(shown, count); c++) {
      const value = values[c * view.count + step * perStep + patch], start = c * numbers;
      for (let i = 0; i < numbers; i++) pixels[i] += value * weights[start + i];
    }
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

/** One step of a view in pixels, and the share of its frame's variance that they hold. */
function pixelsOf(ex, view, step) {
  return ex.kept.pixels(`${view}/${step}/${ex.state.shown}`, () => {
    const { pixels } = ex.views[view], height = ex.rows * pixels.side;
    const width = ex.columns * pixels.side;
    const data = new Uint8ClampedArray(4 * width * height), canvas = h("canvas", { width, height });
    decodePixels(ex.views[view], pixels, ex.state.shown, step, data);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.drawImage(ex.pictures[step], 0, 0, width, height);
    return { data, r2: explained(context.getImageData(0, 0, width, height).data, data) };
  });
}

const pixelsBar = (ex, view) => {
  const { count } = ex.views[view].pixels, { r2 } = pixelsOf(ex, view, ex.state.step);
  return { text: `${Math.min(ex.state.shown, count)} of ${count} components hold `
    + `${percent(r2)} of the variance of this frame` };
};
