// From clicks to a mask that follows a thing through the clip. In the clicked steps the mask is
// what is more similar to the clicks on it than to those beside it, in one piece with them; without
// clicks beside it, it ends where similarity falls most. A linear discriminant of these tokens
// decides in the other steps, within reach of the mask beside.

const MOST = 64;  // leading components that the discriminant sees
const SHRINKAGE = 0.03;  // of its covariance towards a multiple of the identity
const REJECTED = 4;  // a rejected token counts as so many
const ENOUGH = 1500;  // tokens of each side that the discriminant learns from
// Thresholds of clicks to choose from, as shares of the way from the median similarity to 1
const LEVELS = Array.from({ length: 16 }, (_, i) => 0.3 + 0.02 * i);

/** The patches of a mask that are connected with some of them, corners included: Uint8Array. */
export function connected(mask, seeds, rows, columns) {
  const out = new Uint8Array(mask.length), open = seeds.filter((seed) => mask[seed]);
  open.forEach((seed) => { out[seed] = 1; });
  while (open.length) {
    const at = open.pop(), row = Math.floor(at / columns), column = at % columns;
    for (let r = Math.max(0, row - 1); r <= Math.min(rows - 1, row + 1); r++) {
      for (let c = Math.max(0, column - 1); c <= Math.min(columns - 1, column + 1); c++) {
        const next = r * columns + c;
        if (mask[next] && !out[next]) { out[next] = 1; open.push(next); }
      }
    }
  }
  return out;
}

/** By how much a score falls over the outline of a mask: from its rim to the patches around it. */
export function contrast(score, mask, rows, columns) {
  const sums = [0, 0], counts = [0, 0];
  for (let i = 0; i < mask.length; i++) {
    const row = Math.floor(i / columns), column = i % columns;
    const crossed = (column > 0 && mask[i - 1] !== mask[i])
      || (column < columns - 1 && mask[i + 1] !== mask[i])
      || (row > 0 && mask[i - columns] !== mask[i])
      || (row < rows - 1 && mask[i + columns] !== mask[i]);
    if (crossed) { sums[mask[i]] += score[i]; counts[mask[i]] += 1; }
  }
  return counts[0] && counts[1] ? sums[1] / counts[1] - sums[0] / counts[0] : -1;
}

/** What is similar to patches of a step and connected with them, where its contrast is largest. */
export function outlined(score, seeds, rows, columns) {
  const median = percentile(score, 0.5);
  const pieces = LEVELS.map((level) => {
    const above = Uint8Array.from(score, (value) => +(value > median + (1 - median) * level));
    seeds.forEach((i) => { above[i] = 1; });
    return connected(above, seeds, rows, columns);
  });
  const contrasts = pieces.map((piece) => contrast(score, piece, rows, columns));
  return pieces[contrasts.indexOf(Math.max(...contrasts))];
}

/** A mask and all patches at most `reach` rows and columns from it. */
export function widened(mask, reach, rows, columns) {
  const spread = (from, stride, step, count, length) => {
    const out = new Uint8Array(from.length);
    for (let line = 0; line < count; line++) {
      for (let i = 0, last = -Infinity; i < length + reach; i++) {
        if (i < length && from[line * stride + i * step]) last = i;
        const at = i - reach;
        if (at >= 0 && at < length && last >= at - reach) out[line * stride + at * step] = 1;
      }
    }
    return out;
  };
  return spread(spread(mask, columns, 1, rows, columns), 1, columns, columns, rows);
}

/** Solve a system of linear equations, symmetric and positive: [matrix, n × n] x = right. */
function solve(matrix, right) {
  const n = right.length, a = Float64Array.from(matrix), x = Float64Array.from(right);
  for (let k = 0; k < n; k++) {
    for (let i = k + 1; i < n; i++) {
      const factor = a[i * n + k] / a[k * n + k];
      for (let j = k; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
      x[i] -= factor * x[k];
    }
  }
  for (let k = n - 1; k >= 0; k--) {
    for (let j = k + 1; j < n; j++) x[k] -= a[k * n + j] * x[j];
    x[k] /= a[k * n + k];
  }
  return x;
}

/** Tokens of length 1 in the leading components: Float64Array (tokens, size). */
function tokenRows(view, tokens, size) {
  const { values, count, scale, mean, inverse } = view;
  const out = new Float64Array(tokens.length * size);
  for (let c = 0; c < size; c++) {
    const plane = values.subarray(c * count, (c + 1) * count), s = scale[c], m = mean[c];
    for (let i = 0, o = c; i < tokens.length; i++, o += size) {
      out[o] = (s * plane[tokens[i]] + m) * inverse[tokens[i]];
    }
  }
  return out;
}

/** Mean, and scatter about it summed over the tokens, of rows (n, size), which are centred. */
function moments(rows, size) {
  const n = rows.length / size, mean = new Float64Array(size);
  const scatter = new Float64Array(size * size);
  for (let o = 0; o < rows.length; o++) mean[o % size] += rows[o] / n;
  for (let o = 0; o < rows.length; o++) rows[o] -= mean[o % size];
  for (let start = 0; start < rows.length; start += size) {
    for (let c = 0; c < size; c++) {
      const value = rows[start + c], line = c * size;
      for (let d = 0; d <= c; d++) scatter[line + d] += value * rows[start + d];
    }
  }
  for (let c = 0; c < size; c++) {
    for (let d = 0; d < c; d++) scatter[d * size + c] = scatter[c * size + d];
  }
  return { n, mean, scatter };
}

/** {weights, bias}: Fisher's discriminant of two lists of tokens; above 0 is like the first. */
export function discriminant(view, inside, outside) {
  const size = Math.min(MOST, view.components);
  const [a, b] = [inside, outside].map((tokens) => {
    const every = Math.ceil(tokens.length / ENOUGH);
    return moments(tokenRows(view, tokens.filter((_, i) => i % every === 0), size), size);
  });
  const scatter = a.scatter.map((value, i) => (value + b.scatter[i]) / (a.n + b.n));
  let trace = 0;
  for (let c = 0; c < size; c++) trace += scatter[c * size + c];
  for (let c = 0; c < size; c++) scatter[c * size + c] += (SHRINKAGE * trace) / size + 1e-12;
  const weights = solve(scatter, a.mean.map((value, c) => value - b.mean[c]));
  const bias = weights.reduce((sum, w, c) => sum - (w * (a.mean[c] + b.mean[c])) / 2, 0);
  return { weights, bias };
}

/** What a discriminant makes of all tokens, in units of its mean size: Float32Array (count). */
function judged(view, { weights, bias }) {
  const { values, count, scale, mean, inverse } = view, out = new Float32Array(count);
  weights.forEach((weight, c) => {
    const plane = values.subarray(c * count, (c + 1) * count);
    const s = weight * scale[c], m = weight * mean[c];
    for (let i = 0; i < count; i++) out[i] += s * plane[i] + m;
  });
  let size = 0;
  for (let i = 0; i < count; i++) {
    out[i] = out[i] * inverse[i] + bias;
    size += Math.abs(out[i]) / count;
  }
  return out.map((value) => value / (size || 1));
}

/** The largest of some maps, token by token; 0 of none. */
function highest(maps, count) {
  const out = new Float32Array(count);
  maps.forEach((map, m) => {
    for (let i = 0; i < count; i++) if (!m || map[i] > out[i]) out[i] = map[i];
  });
  return out;
}

/**
 * Where a thing is: {mask, score} of all tokens, 0 or 1 and float.
 * inside, outside: clicked tokens that are the thing, at least one, and that are not.
 * cut: above 0 less is taken for the thing, below 0 more.
 */
export function segment(view, inside, outside, cut, cosineWith = (t) => cosineMap(view, t)) {
  const { perStep, steps, rows, columns } = view, mask = new Uint8Array(view.count);
  const stepOf = (token) => Math.floor(token / perStep), range = (step) => step * perStep;
  const clicked = [...new Set(inside.map(stepOf))];
  const part = (array, step) => array.subarray(range(step), range(step + 1));

  const place = (tokens, step) => tokens.filter((t) => stepOf(t) === step).map((t) => t % perStep);
  const drawClicked = (score, threshold) => clicked.forEach((step) => {
    const above = Uint8Array.from(part(score, step), (value) => (value > threshold ? 1 : 0));
    place(outside, step).forEach((i) => { above[i] = 0; });
    place(inside, step).forEach((i) => { above[i] = 1; });
    mask.set(connected(above, place(inside, step), rows, columns), range(step));
  });
  const judge = () => {
    const taken = [], left = [];
    for (const step of clicked) {
      for (let i = range(step); i < range(step + 1); i++) (mask[i] ? taken : left).push(i);
    }
    for (let i = 0; i < REJECTED; i++) left.push(...outside);
    return left.length ? judged(view, discriminant(view, taken, left)) : null;
  };

  // The largest cosine with a click on it, less the largest with one beside it
  const least = highest(outside.map(cosineWith), view.count);
  const like = highest(inside.map(cosineWith), view.count).map((value, i) => value - least[i]);
  if (outside.length) {
    drawClicked(like, 0);
  } else {
    clicked.forEach((step) => {
      const seeds = place(inside, step);
      mask.set(outlined(part(like, step), seeds, rows, columns), range(step));
    });
  }
  let score = judge() || like;
  drawClicked(score, 0);
  score = judge() || like;
  drawClicked(score, cut);

  const far = (step) => Math.min(...clicked.map((other) => Math.abs(other - step)));
  const reach = Math.max(1, Math.round(Math.min(rows, columns) / 5)), known = new Set(clicked);
  const others = [...Array(steps).keys()].filter((step) => !known.has(step));
  for (const step of others.sort((a, b) => far(a) - far(b))) {
    const beside = new Uint8Array(perStep);
    for (const near of [step - 1, step + 1].filter((s) => known.has(s))) {
      part(mask, near).forEach((value, i) => { beside[i] |= value; });
    }
    widened(beside, reach, rows, columns).forEach((near, i) => {
      mask[range(step) + i] = near && score[range(step) + i] > cut ? 1 : 0;
    });
    known.add(step);
  }
  return { mask, score };
}

/** Eigenvectors of a symmetric matrix (n × n), largest eigenvalue first (Jacobi's rotations). */
export function eigenvectors(matrix, n) {
  const a = Float64Array.from(matrix), v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  const rotate = (x, p, q, cos, sin) => {
    const [xp, xq] = [x[p], x[q]];
    x[p] = cos * xp - sin * xq;
    x[q] = sin * xp + cos * xq;
  };
  for (let sweep = 0; sweep < 12; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (!a[p * n + q]) continue;
        const angle = 0.5 * Math.atan2(2 * a[p * n + q], a[q * n + q] - a[p * n + p]);
        const cos = Math.cos(angle), sin = Math.sin(angle);
        for (let k = 0; k < n; k++) rotate(a, k * n + p, k * n + q, cos, sin);
        for (let k = 0; k < n; k++) rotate(a, p * n + k, q * n + k, cos, sin);
        for (let k = 0; k < n; k++) rotate(v, k * n + p, k * n + q, cos, sin);
      }
    }
  }
  const columns = [...Array(n).keys()].sort((i, j) => a[j * n + j] - a[i * n + i]);
  return columns.map((c) => Float64Array.from({ length: n }, (_, row) => v[row * n + c]));
}

/** The three components of the tokens of a mask alone, 0 to 1: [Float32Array (count)] × 3. */
export function componentsOf(view, mask) {
  const { values, count, scale } = view, size = Math.min(MOST, view.components);
  const tokens = [...mask.keys()].filter((i) => mask[i]);
  const rows = new Float64Array(tokens.length * size);
  tokens.forEach((token, i) => {
    for (let c = 0; c < size; c++) rows[i * size + c] = scale[c] * values[c * count + token];
  });
  const { scatter } = moments(rows, size);
  return eigenvectors(scatter, size).slice(0, 3).map((axis) => {
    const sign = Math.sign(axis.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0));
    const out = new Float32Array(count);
    axis.forEach((weight, c) => {
      const plane = values.subarray(c * count, (c + 1) * count), s = sign * weight * scale[c];
      for (let i = 0; i < count; i++) out[i] += s * plane[i];
    });
    const inside = Float32Array.from(tokens, (token) => out[token]);
    const [low, high] = [0.01, 0.99].map((at) => percentile(inside, at));
    return out.map((value) => share(value, low, high));
  });
}
