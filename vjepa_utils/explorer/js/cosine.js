// Which tokens are similar, computed from the packed components. A token is the number
// step * perStep + row * columns + column.

/** One over the length of each token: Float32Array (count). */
export function inverseNorms({ values, count, components, scale, mean, rest }) {
  const out = new Float32Array(count).fill(rest * rest);
  for (let c = 0; c < components; c++) {
    const plane = values.subarray(c * count, (c + 1) * count);
    const s = scale[c], m = mean[c];
    for (let i = 0; i < count; i++) {
      const x = s * plane[i] + m;
      out[i] += x * x;
    }
  }
  for (let i = 0; i < count; i++) out[i] = 1 / Math.sqrt(Math.max(out[i], 1e-20));
  return out;
}

/** Mean cosine of every token with one token, or with several: Float32Array (count), -1 to 1. */
export function cosineMap(view, token, out = new Float32Array(view.count)) {
  const { values, count, components, scale, mean, rest, inverse } = view, tokens = [token].flat();
  const weights = new Float64Array(Math.ceil(components / 8) * 8);
  let constant = 0;
  for (const t of tokens) constant += (rest * rest * inverse[t]) / tokens.length;
  for (let c = 0; c < components; c++) {
    let x = 0;
    for (const t of tokens) x += (scale[c] * values[c * count + t] + mean[c]) * inverse[t];
    x /= tokens.length;
    weights[c] = x * scale[c];
    constant += x * mean[c];
  }
  out.fill(constant);
  for (let c = 0; c < components; c += 8) {
    const [a, b, d, e, f, g, h, k] = weights.subarray(c, c + 8);
    // Beyond the last component its own plane stands in, with a weight of 0.
    const plane = (j) => {
      const which = Math.min(c + j, components - 1);
      return values.subarray(which * count, (which + 1) * count);
    };
    const p0 = plane(0), p1 = plane(1), p2 = plane(2), p3 = plane(3);
    const p4 = plane(4), p5 = plane(5), p6 = plane(6), p7 = plane(7);
    for (let i = 0; i < count; i++) {
      out[i] += a * p0[i] + b * p1[i] + d * p2[i] + e * p3[i]
        + f * p4[i] + g * p5[i] + h * p6[i] + k * p7[i];
    }
  }
  for (let i = 0; i < count; i++) out[i] *= inverse[i];
  return out;
}

/** 1 - cosine of each token with the same place a step before: Float32Array, NaN in step 0. */
export function changeMap(view) {
  const { values, count, components, scale, mean, rest, inverse, perStep } = view;
  const out = new Float32Array(count).fill(rest * rest);
  for (let c = 0; c < components; c++) {
    const plane = values.subarray(c * count, (c + 1) * count);
    const s = scale[c], m = mean[c];
    for (let i = perStep; i < count; i++) {
      out[i] += (s * plane[i] + m) * (s * plane[i - perStep] + m);
    }
  }
  out.fill(NaN, 0, perStep);
  for (let i = perStep; i < count; i++) out[i] = 1 - out[i] * inverse[i] * inverse[i - perStep];
  return out;
}

/** The most similar token of each step, and its cosine. */
export function bestMatches(map, perStep) {
  const steps = map.length / perStep;
  const tokens = new Int32Array(steps), cosines = new Float32Array(steps);
  for (let s = 0; s < steps; s++) {
    let best = s * perStep;
    for (let i = best + 1; i < (s + 1) * perStep; i++) if (map[i] > map[best]) best = i;
    tokens[s] = best;
    cosines[s] = map[best];
  }
  return { tokens, cosines };
}

/** A share, 0 to 1, of a number between two others. */
export const share = (value, low, high) =>
  Math.min(1, Math.max(0, (value - low) / (high - low || 1)));

/** The value at a share of the sorted values; NaN are left out. */
export function percentile(values, at) {
  const sorted = Float32Array.from(values.filter((v) => v === v)).sort();
  return sorted.length ? sorted[Math.round(at * (sorted.length - 1))] : NaN;
}
