// For display alone: a map upsampled to the frame, following its outlines, as vjepa_utils/guided.py
// does it, but with grey for a guide (He et al. 2010, equations 5 to 8).

const EPSILON = 1e-3 / 3;  // variance of grey below which a place is flat: of one colour, not three

/** Means of windows 2 · radius + 1 pixels wide, as far as they lie in the picture. */
function windowMeans(values, width, height, radius) {
  const along = (from, lines, length, stride, step) => {
    const out = new Float32Array(from.length);
    for (let start = 0; start < lines * stride; start += stride) {
      let sum = 0;
      for (let i = -radius; i < length; i++) {
        const last = i + radius, before = i - radius - 1;
        if (last < length) sum += from[start + last * step];
        if (before >= 0) sum -= from[start + before * step];
        const many = Math.min(length - 1, last) - Math.max(-1, before);
        if (i >= 0) out[start + i * step] = sum / many;
      }
    }
    return out;
  };
  return along(along(values, height, width, width, 1), width, height, 1, width);
}

/** A map (rows, columns) at a size, bilinear; its first cell begins at `offset` cells. */
function enlarged(map, rows, columns, { width, height }, offset) {
  const axis = (length, count) => Array.from({ length }, (_, i) => {
    const at = Math.min(count - 1, Math.max(0, ((i + 0.5) / length) * count - 0.5 - offset));
    const low = Math.floor(at);
    return [low, Math.min(count - 1, low + 1), at - low];
  });
  const across = axis(width, columns), out = new Float32Array(width * height);
  axis(height, rows).forEach(([top, bottom, down], y) => across.forEach(([left, right, on], x) => {
    const mix = (row) => map[row * columns + left] * (1 - on) + map[row * columns + right] * on;
    out[y * width + x] = mix(top) * (1 - down) + mix(bottom) * down;
  }));
  return out;
}

/** A map (rows, columns) with the outlines of a guide {width, height, grey}: Float32Array. */
export function guidedMap(map, rows, columns, guide, radius, offset = 0) {
  const { grey, width, height } = guide, mean = (x) => windowMeans(x, width, height, radius);
  const values = enlarged(map, rows, columns, guide, offset);
  const centre = mean(grey), square = mean(grey.map((g) => g * g));
  const average = mean(values), product = mean(values.map((v, i) => v * grey[i]));
  const slope = product.map((p, i) =>
    (p - centre[i] * average[i]) / (square[i] - centre[i] ** 2 + EPSILON));
  const offsets = mean(average.map((a, i) => a - slope[i] * centre[i])), slopes = mean(slope);
  return grey.map((g, i) => slopes[i] * g + offsets[i]);
}

/** {width, height} of what is guided: a frame's, its short side 256 pixels at most. */
function guidedSize({ pictures: [{ width, height }] }) {
  const factor = Math.min(1, 256 / Math.min(width, height));
  return { width: Math.round(width * factor), height: Math.round(height * factor) };
}

/** The guide of a step: its frame in grey, 0 to 1. */
const guideOf = (ex, step) => ex.kept.guides(step, () => {
  const { width, height } = guidedSize(ex), rgba = rgbaOf(ex.pictures[step], width, height);
  const grey = Float32Array.from({ length: width * height }, (_, i) =>
    (rgba[4 * i] + rgba[4 * i + 1] + rgba[4 * i + 2]) / 765);
  return { width, height, grey };
});

/** A step of a panel, guided, as RGBA bytes: its values where `heat` has them, or its colours. */
function paintGuided(ex, { view, paint, heat }, step, out) {
  const { rows, columns, perStep: size } = ex;
  const painted = paint(step, new Uint8ClampedArray(4 * size));
  return out.set(ex.kept.guided(`${view}/${step}/${painted.join()}`, () => {
    const guide = guideOf(ex, step), shown = new Uint8ClampedArray(out.length).fill(255);
    const radius = Math.max(1, Math.round((0.5 * guide.height) / rows));
    const follow = (map) => guidedMap(map, rows, columns, guide, radius, ex.offset);
    if (heat) {
      const map = follow(heat.map.subarray(step * size, (step + 1) * size));
      return paintHeat(map, 0, map.length, heat.low, 1, shown);
    }
    for (let k = 0; k < 3; k++) {
      const plane = Float32Array.from({ length: size }, (_, i) => painted[4 * i + k]);
      follow(plane).forEach((value, i) => { shown[4 * i + k] = value; });
    }
    return shown;
  }));
}
