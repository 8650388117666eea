// The explorer: one file for the page and for the notebook, without a build step.
// First the pure functions (tests/test_explorer.py runs them in node), then the explorer itself.

// ---------------------------------------------------------------- data

/** Bytes of a field: {base64} in a page, {buffer: number} beside the buffers of a notebook message. */
export function bytes(field, buffers = []) {
  if (field.buffer !== undefined) {
    const view = buffers[field.buffer];
    return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }
  const text = atob(field.base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

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
export async function decodeView(view, buffers) {
  const [steps, rows, columns] = view.grid;
  const perStep = rows * columns;
  const count = steps * perStep;
  const raw = await inflate(bytes(view.values, buffers));
  const values = undoDifferences(new Int8Array(raw.buffer), count, perStep);
  const decoded = { ...view, values, steps, rows, columns, perStep, count };
  decoded.inverse = inverseNorms(decoded);
  return decoded;
}

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

/** Cosine of one token with every token of every step: Float32Array (count), -1 to 1. */
export function cosineMap(view, token, out = new Float32Array(view.count)) {
  const { values, count, components, scale, mean, rest, inverse } = view;
  const own = inverse[token];
  const weights = new Float64Array(Math.ceil(components / 8) * 8);
  let constant = rest * rest;
  for (let c = 0; c < components; c++) {
    const x = scale[c] * values[c * count + token] + mean[c];
    weights[c] = x * scale[c] * own;
    constant += x * mean[c];
  }
  out.fill(constant * own);
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

/** 1 - cosine of each token with the same place in the step before: Float32Array, NaN in step 0. */
export function changeMap(view) {
  const { values, count, components, scale, mean, rest, inverse, perStep } = view;
  const out = new Float32Array(count).fill(rest * rest);
  for (let c = 0; c < components; c++) {
    const plane = values.subarray(c * count, (c + 1) * count);
    const s = scale[c], m = mean[c];
    for (let i = perStep; i < count; i++) out[i] += (s * plane[i] + m) * (s * plane[i - perStep] + m);
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
export const share = (value, low, high) => Math.min(1, Math.max(0, (value - low) / (high - low || 1)));

/** The value at a share of the sorted values; NaN are left out. */
export function percentile(values, at) {
  const sorted = Float32Array.from(values.filter((v) => v === v)).sort();
  return sorted.length ? sorted[Math.round(at * (sorted.length - 1))] : NaN;
}

// ---------------------------------------------------------------- colours

const INFERNO_STOPS =
  "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69"
  + "166e71196e781c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3d"
  + "df5337e45a31e9612bed6925f1711ff47918f78212f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d7"
  + "46f4e156f2ea69f2f27df5f992fcffa4";

/** matplotlib's inferno: Uint8Array (256 * 3). */
export const INFERNO = (() => {
  const stops = INFERNO_STOPS.match(/../g).map((hex) => parseInt(hex, 16));
  const out = new Uint8Array(768), last = stops.length / 3 - 1;
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * last, low = Math.min(Math.floor(at), last - 1);
    for (let k = 0; k < 3; k++) {
      out[3 * i + k] = Math.round(stops[3 * low + k] * (1 - at + low) + stops[3 * low + 3 + k] * (at - low));
    }
  }
  return out;
})();

export const GREY = [205, 205, 205];  // where there is nothing to show
export const PIN_COLOURS = ["#35d0e6", "#ff6fae", "#8ee04e", "#ffd23f", "#a78bfa", "#ff8a4c", "#ffffff", "#4d9dff"];

/** Values of some tokens as inferno, black at `low` and yellow at `high`, into RGBA bytes. */
export function paintHeat(map, start, end, low, high, out, at = 0) {
  for (let i = start, o = 4 * at; i < end; i++, o += 4) {
    const value = map[i];
    const k = 3 * Math.round(255 * share(value, low, high));
    const nothing = !(value === value);
    out[o] = nothing ? GREY[0] : INFERNO[k];
    out[o + 1] = nothing ? GREY[1] : INFERNO[k + 1];
    out[o + 2] = nothing ? GREY[2] : INFERNO[k + 2];
    out[o + 3] = 255;
  }
  return out;
}

/** Three components as red, green and blue, each between its percentiles, into RGBA bytes. */
export function paintColours(view, rgb, start, end, out, at = 0) {
  rgb.forEach((component, channel) => {
    const { scale, low, high, values, count } = view;
    const table = new Uint8Array(256);
    const flat = high[component] - low[component] < 1e-12;
    for (let v = -128; v < 128; v++) {
      table[v + 128] = flat ? 128 : Math.round(255 * share(v * scale[component], low[component], high[component]));
    }
    const plane = component * count;
    for (let i = start, o = 4 * at + channel; i < end; i++, o += 4) out[o] = table[values[plane + i] + 128];
  });
  for (let i = start, o = 4 * at + 3; i < end; i++, o += 4) out[o] = 255;
  return out;
}

/** Each token in the colour of the pin it is most similar to, the brighter the more similar. */
export function paintNearest(maps, colours, start, end, low, out, at = 0) {
  for (let i = start, o = 4 * at; i < end; i++, o += 4) {
    let best = 0;
    for (let p = 1; p < maps.length; p++) if (maps[p][i] > maps[best][i]) best = p;
    const bright = share(maps[best][i], low, 1);
    for (let k = 0; k < 3; k++) out[o + k] = Math.round(colours[best][k] * bright);
    out[o + 3] = 255;
  }
  return out;
}

export const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// ---------------------------------------------------------------- places

/** (row, column) of the patch under a point in pixels of the clip. */
export function patchAt(x, y, clip, rows, columns) {
  const at = (value, length, count) => Math.min(count - 1, Math.max(0, Math.floor((value / length) * count)));
  return [at(y, clip.height, rows), at(x, clip.width, columns)];
}

/** The point in pixels of the clip at the centre of a patch. */
export function centreOf(row, column, clip, rows, columns) {
  return [((column + 0.5) * clip.width) / columns, ((row + 0.5) * clip.height) / rows];
}

/**
 * Which tokens a brush selects: Uint8Array (count) of 0 and 1.
 * {axes: [x, y], box: [left, right, bottom, top]} in units of two components, over all steps, or
 * {step, rect: [top, left, bottom, right]} in patches of one step, the last ones included.
 */
export function brushed(view, brush) {
  const { values, count, scale, perStep, columns } = view;
  const out = new Uint8Array(count);
  if (brush.rect) {
    const [top, left, bottom, right] = brush.rect;
    for (let r = top; r <= bottom; r++) {
      out.fill(1, brush.step * perStep + r * columns + left, brush.step * perStep + r * columns + right + 1);
    }
    return out;
  }
  const [cx, cy] = brush.axes, [left, right, bottom, top] = brush.box;
  for (let i = 0; i < count; i++) {
    const x = values[cx * count + i] * scale[cx], y = values[cy * count + i] * scale[cy];
    out[i] = x >= left && x <= right && y >= bottom && y <= top ? 1 : 0;
  }
  return out;
}

// ---------------------------------------------------------------- state and address

export const MODES = ["colours", "similarity", "change", "prediction"];

/** What a new explorer shows. */
export const initialState = () => ({
  step: 0, mode: "colours", rgb: [0, 1, 2], overlay: 0.8, above: false, pins: [], active: 0, nearest: false,
  unit: false, live: false, view: 0, axes: [0, 1], allSteps: false, mask: 0, brush: null,
});

/** State to the part of the address after #. */
export function toAddress(state) {
  const out = [`step=${state.step}`, `mode=${state.mode}`, `rgb=${state.rgb.map((c) => c + 1).join(".")}`];
  out.push(`overlay=${Math.round(100 * state.overlay)}`);
  if (state.pins.length) {
    const number = (value) => String(Math.round(value * 10) / 10);
    out.push(`pins=${state.pins.map((p) => [p.step, number(p.x), number(p.y)].join(",")).join(";")}`, `active=${state.active}`);
  }
  for (const flag of ["above", "nearest", "unit", "live", "allSteps"]) if (state[flag]) out.push(`${flag}=1`);
  if (state.view) out.push(`view=${state.view}`);
  out.push(`axes=${state.axes.map((c) => c + 1).join(".")}`);
  if (state.mask) out.push(`mask=${state.mask}`);
  const number = (value) => Number(value.toPrecision(4));
  if (state.brush && state.brush.rect) out.push(`brush=${[state.brush.step, ...state.brush.rect].join(",")}`);
  else if (state.brush) out.push(`box=${state.brush.axes.map((c) => c + 1).join(".")},${state.brush.box.map(number).join(",")}`);
  return out.join("&");
}

/** The state that an address asks for, as far as this page can show it; nonsense is left out. */
export function fromAddress(text, page) {
  const state = initialState();
  const asked = new Map(text.replace(/^#/, "").split("&").map((part) => part.split("=", 2)));
  const steps = page.steps.length, { width, height } = page.clip;
  const components = Math.min(...page.views.map((v) => v.components));
  const whole = (word, below) => (/^\d+$/.test(word || "") && Number(word) < below ? Number(word) : null);
  const several = (word, count) => {
    const found = (word || "").split(".").map((part) => whole(part, components + 1));
    return found.length === count && found.every((c) => c) ? found.map((c) => c - 1) : null;
  };
  const numbers = (word) => {
    const found = (word || "").split(",").map(Number);
    return found.every(Number.isFinite) ? found : [];
  };
  state.step = whole(asked.get("step"), steps) ?? state.step;
  if (MODES.includes(asked.get("mode"))) state.mode = asked.get("mode");
  if (state.mode === "prediction" && !(page.predictions || []).length) state.mode = "colours";
  state.rgb = several(asked.get("rgb"), 3) || state.rgb;
  state.axes = several(asked.get("axes"), 2) || state.axes;
  state.overlay = (whole(asked.get("overlay"), 101) ?? 100 * state.overlay) / 100;
  for (const flag of ["above", "nearest", "unit", "live", "allSteps"]) state[flag] = asked.get(flag) === "1";
  state.view = whole(asked.get("view"), page.views.length) ?? 0;
  state.mask = whole(asked.get("mask"), (page.predictions || []).length) ?? 0;
  for (const pin of (asked.get("pins") || "").split(";").slice(0, PIN_COLOURS.length)) {
    const [step, x, y, ...more] = numbers(pin);
    const fits = Number.isInteger(step) && step >= 0 && step < steps && x >= 0 && x <= width && y >= 0 && y <= height;
    if (fits && !more.length && pin) state.pins.push({ step, x, y });
  }
  state.active = whole(asked.get("active"), state.pins.length) ?? 0;
  const rect = numbers(asked.get("brush"));
  const [, rows, columns] = page.views[0].grid;
  const inside = rect.length === 5 && rect.every((v) => Number.isInteger(v) && v >= 0)
    && rect[0] < steps && rect[3] < rows && rect[4] < columns && rect[1] <= rect[3] && rect[2] <= rect[4];
  if (inside) state.brush = { step: rect[0], rect: rect.slice(1) };
  const [axes, ...box] = (asked.get("box") || "").split(",");
  const edges = numbers(box.join(","));
  if (several(axes, 2) && edges.length === 4) state.brush = { axes: several(axes, 2), box: edges };
  return state;
}

// ---------------------------------------------------------------- drawing helpers

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, listeners (onclick: …) and children; text stays text. */
function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "path", "circle", "ellipse", "rect", "line", "text", "polyline"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const fixed = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–");
const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const shortName = (name) => name.split("/").pop();
const framesOf = ([first, second]) => (first === second ? `frame ${first}` : `frames ${first}+${second}`);

const KEYS = [
  ["Space", "play or stop"],
  [", .", "step back, step on; Home and End: the first and the last"],
  ["← ↑ → ↓", "move the pointer from patch to patch"],
  ["Enter", "choose the patch under the pointer (Shift: pin another one)"],
  ["P", "pin another patch, in a colour of its own"],
  ["N", "the next pin becomes the chosen one"],
  ["X", "remove the chosen pin; Shift+X: all"],
  ["1 2 3 4", "colours, similarity, change, prediction"],
  ["R G B", "next component as red, green or blue (Shift: the one before)"],
  ["+ −", "stronger or weaker overlay"],
  ["F", "frame below or above the overlay"],
  ["L", "similarity follows the pointer, even when a patch is chosen"],
  ["A", "each token in the colour of its nearest pin"],
  ["U", "similarity from 0 to 1, or from this clip's 5th percentile"],
  ["S", "brush: Enter, arrows, Enter selects a region of the picture"],
  ["Tab to the scatter", "Enter opens a brush, arrows move it, Shift+arrows size it"],
  ["V", "next encoder or layer in the scatter"],
  ["K", "next mask"],
  ["M", "hide patches (with a kernel): Enter hides or shows one"],
  ["Esc", "clear the selection, then the pointer"],
  ["C", "copy the link to this view"],
  ["D", "light or dark"],
  ["?", "this list"],
];

const MODE_NAMES = { colours: "Colours", similarity: "Similarity", change: "Change", prediction: "Prediction" };
const HINTS = {
  colours: "Each patch in the colour of its features: what is similar has a similar colour. Click a patch to see where it is found again.",
  similarity: "How similar every patch of every step is to the chosen one. Point to compare, click to choose, Shift+click to pin several.",
  change: "How far the features of each patch moved since the step before, as 1 − cosine.",
  prediction: "What the predictor recovers of a hidden region, beside what the encoder makes of the whole clip.",
};
const GUESSES = ["prediction", "mean", "nearest", "same place"];
const GUESS_NOTES = {
  prediction: "the predictor, from the visible patches",
  mean: "baseline: mean of all visible patches",
  nearest: "baseline: the nearest visible patch",
  "same place": "baseline: same place in the nearest step where it is visible",
};

/**
 * Draw an explorer into an element.
 * page: the data, see exploration.py. buffers: of its bytes. kernel: null, or {set, ask, live} in a notebook.
 * Returns {state, change(part), destroy, …}.
 */
export async function explore(root, page, { buffers = [], kernel = null, address = null, state: start = null } = {}) {
  const views = await Promise.all(page.views.map((view) => decodeView(view, buffers)));
  const pictures = await Promise.all(
    page.steps.map((step) => createImageBitmap(new Blob([bytes(step.picture, buffers)], { type: "image/webp" }))),
  );
  const predictions = await Promise.all((page.predictions || []).map((one) => decodePrediction(one, buffers)));
  const clip = page.clip, [steps, rows, columns] = page.views[0].grid, perStep = rows * columns;
  let state = start ? { ...initialState(), ...start } : fromAddress(address ? address.read() : "", page);
  state.step = Math.min(state.step, steps - 1);
  let tool = "point", playing = null, pointer = null, frozen = null, drag = null, theme = null, destroyed = false;
  const told = { step: state.step, point: null };
  let painted = null, paintThrough = true, outdated = false;  // hidden patches of a notebook: Uint8Array (count)
  const maps = new Map();  // "view/token" → {map, best}
  const changes = views.map(() => null);

  // -------------------------------------------------------------- what is to be seen

  const tokenAt = (point, step) => {
    const [row, column] = patchAt(point.x, point.y, clip, rows, columns);
    return step * perStep + row * columns + column;
  };
  const similarityTo = (view, token) => {
    const key = `${view}/${token}`;
    if (!maps.has(key)) {
      if (maps.size > 8 * views.length + 8) maps.delete(maps.keys().next().value);
      const map = cosineMap(views[view], token);
      maps.set(key, { map, best: bestMatches(map, perStep), token });
    }
    return maps.get(key);
  };
  const pinned = (view) => state.pins.map((pin) => similarityTo(view, tokenAt(pin, pin.step)));
  const followsPointer = () => pointer && (state.live || !state.pins.length);
  const query = (view) => {
    if (followsPointer()) return similarityTo(view, tokenAt(pointer, pointer.step ?? state.step));
    const pin = state.pins[state.active];
    return pin ? similarityTo(view, tokenAt(pin, pin.step)) : null;
  };
  const changeOf = (view) => {
    if (!changes[view]) {
      const map = changeMap(views[view]);
      changes[view] = { map, top: Math.max(percentile(map, 0.99) || 0, 1e-6) };
    }
    return changes[view];
  };
  const selection = () => {
    if (!state.brush) return null;
    const key = JSON.stringify([state.brush, state.view]);
    if (!selection.last || selection.last.key !== key) {
      selection.last = { key, tokens: brushed(views[state.view], state.brush) };
    }
    return selection.last.tokens;
  };
  const viewName = (view) => `${shortName(view.encoder)}${view.layer ? ` · block ${view.layer}` : ""}`;

  /** The pictures of the present mode, one below each other in the strip and side by side above it. */
  function panels() {
    if (state.mode === "prediction" && predictions.length) return predictionPanels(predictions[state.mask]);
    return views.map((view, index) => ({
      key: `view${index}`,
      title: viewName(view),
      full: `${view.encoder}${view.layer ? `, block ${view.layer}` : ""}`,
      view: index,
      rows, columns,
      stepOf: (step) => step,
      bar: barOf(view, index),
      paint(step, out, at) {
        const start = step * perStep, end = start + perStep;
        if (state.mode === "change") return paintHeat(changeOf(index).map, start, end, 0, changeOf(index).top, out, at);
        const found = state.mode === "similarity" && query(index);
        if (found && state.nearest && state.pins.length > 1 && !followsPointer()) {
          const colours = state.pins.map((_, i) => rgbOf(PIN_COLOURS[i % PIN_COLOURS.length]));
          return paintNearest(pinned(index).map((p) => p.map), colours, start, end, lowOf(view), out, at);
        }
        if (found) return paintHeat(found.map, start, end, lowOf(view), 1, out, at);
        return paintColours(view, state.rgb, start, end, out, at);
      },
    }));
  }
  const lowOf = (view) => (state.unit ? 0 : view.black);
  function barOf(view, index) {
    if (state.mode === "change") return { low: 0, high: changeOf(index).top, label: "1 − cosine with the step before" };
    if (state.mode === "similarity" && query(index)) {
      const nearest = state.nearest && state.pins.length > 1 && !followsPointer();
      return { low: lowOf(view), high: 1, label: nearest ? "cosine with the nearest pin" : "cosine", plain: nearest };
    }
    const [r, g, b] = state.rgb.map((c) => `${c + 1} (${percent(view.explained[c])})`);
    return { text: `red ${r} · green ${g} · blue ${b} of the variance` };
  }
  function predictionPanels(found) {
    const [, rows, columns] = found.grid, size = rows * columns;
    const stepOf = (step) => found.stepOf(page.steps[step].frames[0]);
    const grey = (out, at) => {
      for (let i = 0, o = 4 * at; i < size; i++, o += 4) out.set([...GREY, 255], o);
    };
    const rgb = (source) => (step, out, at) => {
      if (step === null) return grey(out, at);
      for (let i = 0, o = 4 * at, k = 3 * step * size; i < size; i++, o += 4, k += 3) {
        out[o] = source[k]; out[o + 1] = source[k + 1]; out[o + 2] = source[k + 2]; out[o + 3] = 255;
      }
      return out;
    };
    const same = { rows, columns, stepOf, view: null, found };
    const name = shortName(found.encoder);
    return [
      { ...same, key: "hidden", title: `hidden: ${found.name}, ${percent(found.share)}`, full: found.encoder, veiled: true,
        bar: { text: "grey patches are not shown to the encoder" }, paint: (step, out, at) => grey(out, at) },
      { ...same, key: "whole", title: `whole clip · ${name}`, full: found.encoder,
        bar: { text: "features of the whole clip, the target" }, paint: rgb(found.whole) },
      { ...same, key: "filled", title: "filled in", full: found.encoder, outlined: true,
        bar: { text: "visible patches, and the prediction in the outlined region" }, paint: rgb(found.filled) },
      { ...same, key: "cosine", title: "cosine with the target", full: found.encoder,
        bar: { low: 0, high: 1, label: "cosine, grey where visible" },
        paint: (step, out, at) => (step === null ? grey(out, at)
          : paintHeat(found.cosineGrid, step * size, (step + 1) * size, 0, 1, out, at)) },
    ];
  }

  // -------------------------------------------------------------- the page

  const status = h("p", { class: "status", role: "status", "aria-live": "polite" });
  const button = (text, title, onclick, more = {}) => h("button", { type: "button", title, onclick, ...more }, text);
  const segmented = (label, names, chosen, onpick) => {
    const box = h("div", { class: "segmented", role: "group", "aria-label": label });
    const buttons = Object.entries(names).map(([value, text]) => {
      const one = button(text, "", () => onpick(value), { "data-value": value });
      box.append(one);
      return one;
    });
    box.update = () => buttons.forEach((one) => one.setAttribute("aria-pressed", one.dataset.value === String(chosen())));
    return box;
  };
  const componentPicker = (label, read, write, tone) => {
    const most = Math.min(...views.map((v) => v.components), 24);
    const select = h("select", { "aria-label": label, title: label, class: tone || "" });
    for (let c = 0; c < most; c++) select.append(h("option", { value: c }, `${c + 1}`));
    select.addEventListener("change", () => write(Number(select.value)));
    select.update = () => { select.value = String(read()); };
    return select;
  };
  const check = (text, title, read, write) => {
    const input = h("input", { type: "checkbox", onchange: () => write(input.checked) });
    const label = h("label", { class: "check", title }, input, text);
    label.update = () => { input.checked = read(); };
    return label;
  };

  const modeNames = Object.fromEntries(MODES.filter((m) => m !== "prediction" || predictions.length || kernel).map((m) => [m, MODE_NAMES[m]]));
  const modes = segmented("What is drawn", modeNames, () => state.mode, (mode) => setMode(mode));
  const tools = segmented("What the pointer does", kernel && kernel.live ? { point: "Choose", select: "Select", hide: "Hide" } : { point: "Choose", select: "Select" },
    () => tool, (value) => setTool(value));
  const pickers = ["red", "green", "blue"].map((name, i) => componentPicker(`component drawn ${name}`, () => state.rgb[i],
    (c) => change({ rgb: state.rgb.map((old, k) => (k === i ? c : old)) }), name));
  const rgbBox = h("span", { class: "group rgb" }, h("span", { class: "label" }, "components"), ...pickers);
  const strength = h("input", { type: "range", min: 0, max: 100, "aria-label": "overlay strength", oninput: () => change({ overlay: strength.value / 100 }) });
  const above = check("frame above", "draw the frame above the overlay, keeping its colours (F)", () => state.above, (v) => change({ above: v }));
  const unit = check("0 to 1", "similarity from 0 to 1; otherwise black is the clip's 5th percentile (U)", () => state.unit, (v) => change({ unit: v }));
  const live = check("follow the pointer", "similarity follows the pointer even when a patch is chosen (L)", () => state.live, (v) => change({ live: v }));
  const nearest = check("nearest pin", "each token in the colour of the pin that it is most similar to (A)", () => state.nearest, (v) => change({ nearest: v }));
  const maskPicker = h("select", { "aria-label": "mask", onchange: () => change({ mask: Number(maskPicker.value) }) });
  const through = check("through all steps", "hide a patch in every step, as in pretraining; otherwise in this step only", () => paintThrough, (v) => { paintThrough = v; });
  const clearMask = button("Clear", "show all patches again", () => { painted = null; sendMask(); draw(); });
  const similarityBox = h("span", { class: "group" }, live, nearest, unit);
  const maskBox = h("span", { class: "group" }, h("span", { class: "label" }, "mask"), maskPicker);
  const hideBox = h("span", { class: "group" }, through, clearMask);
  const hint = h("p", { class: "hint" });

  const stages = h("div", { class: "stages" });
  const play = button("▶", "play or stop (Space)", () => setPlaying(!playing), { class: "play", "aria-label": "play" });
  const slider = h("input", { type: "range", min: 0, max: Math.max(0, steps - 1), step: 1, "aria-label": "step", oninput: () => setStep(Number(slider.value)) });
  const stepLabel = h("span", { class: "steplabel" });
  const transport = h("div", { class: "transport" }, play,
    button("‹", "the step before (,)", () => setStep(state.step - 1), { "aria-label": "the step before" }),
    button("›", "the next step (.)", () => setStep(state.step + 1), { "aria-label": "the next step" }), slider, stepLabel);
  const strip = h("div", { class: "strip" });
  const readout = h("div", { class: "readout" });
  const pinList = h("div", { class: "pins" });
  const curve = h("div", { class: "curve" });
  const scatterCanvas = h("canvas", { class: "scattermap", tabindex: 0, "aria-label": "tokens in two components; Enter opens a brush" });
  const scatterX = componentPicker("horizontal component", () => state.axes[0], (c) => change({ axes: [c, state.axes[1]], brush: null }));
  const scatterY = componentPicker("vertical component", () => state.axes[1], (c) => change({ axes: [state.axes[0], c], brush: null }));
  const viewPicker = h("select", { "aria-label": "encoder of the scatter", onchange: () => change({ view: Number(viewPicker.value), brush: null }) });
  views.forEach((view, i) => viewPicker.append(h("option", { value: i }, viewName(view))));
  const allSteps = check("all steps", "dots of all steps, or of this one", () => state.allSteps, (v) => change({ allSteps: v }));
  const table = h("div", { class: "card numbers", hidden: true });
  const cards = h("div", { class: "cards" },
    table,
    h("section", { class: "card" }, h("h2", {}, "Under the pointer"), readout, pinList),
    h("section", { class: "card" }, h("h2", {}, "Best match over time"), curve),
    h("section", { class: "card" },
      h("h2", {}, "Tokens in two components"),
      h("div", { class: "scatterbar" }, views.length > 1 ? viewPicker : null, h("span", {}, scatterX, " × ", scatterY), allSteps),
      scatterCanvas));
  const help = h("div", { class: "help", role: "dialog", "aria-label": "keys", hidden: true, onclick: () => { help.hidden = true; } },
    h("div", { class: "card", onclick: (event) => event.stopPropagation() },
      h("header", {}, h("h2", {}, "Keys"), button("×", "close", () => { help.hidden = true; }, { class: "round", "aria-label": "close" })),
      h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]))));
  const copy = button("Copy link", "copy the address of this view (C)", () => copyLink());
  const titles = h("div", { class: "title" }, h("h1", {}, clip.name), h("p", {}, aboutClip()));
  const main = h("div", { class: "main" }, stages, transport, strip);
  const kernelBar = kernel && kernel.live ? kernelControls() : null;
  const body = h("div", { class: "vje", tabindex: -1, "data-lm-suppress-shortcuts": "true" },
    h("header", { class: "top" }, titles, h("div", { class: "actions" }, address && address.shared ? copy : null,
      button("◐", "light or dark (D)", () => setTheme(), { class: "round", "aria-label": "light or dark" }),
      button("?", "keys (?)", () => { help.hidden = !help.hidden; }, { class: "round", "aria-label": "keys" }))),
    kernelBar,
    h("div", { class: "tools" }, modes, tools, rgbBox, similarityBox, maskBox, hideBox,
      h("span", { class: "group" }, h("span", { class: "label" }, "frame"), strength, h("span", { class: "label" }, "overlay"), above)),
    hint, status,
    h("div", { class: "body" }, main, cards),
    aboutNumbers(), help);
  root.replaceChildren(body);

  function aboutClip() {
    const view = views[0], some = steps < page.whole ? `${steps} of ${page.whole}` : `${steps}`;
    const encoders = [...new Set(views.map((v) => v.encoder))].join(", ");
    return `${clip.width}×${clip.height}, ${clip.frames} frames · ${encoders} · encoded at ${view.picture[1]}×${view.picture[0]} · `
      + `${some} steps of ${columns}×${rows} patches`;
  }

  function aboutNumbers() {
    const cell = (tag, ...content) => h(tag, {}, ...content);
    const lines = views.map((v) => cell("tr", cell("th", v.encoder), cell("td", v.layer ? `block ${v.layer}` : "final norm"),
      cell("td", `${v.picture[1]}×${v.picture[0]}`), cell("td", `${v.components} of ${v.channels}`),
      cell("td", percent(v.explained.reduce((a, b) => a + b, 0), 1)), cell("td", fixed(v.error.mean, 4)), cell("td", fixed(v.error.p99, 4))));
    const head = cell("tr", ...["encoder", "layer", "encoded at", "components", "of the variance", "mean error", "99th percentile"].map((t) => cell("th", t)));
    return h("details", { class: "about" }, h("summary", {}, "How the numbers are made"),
      h("div", { class: "scroll" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...lines))),
      h("p", {}, `Context: ${page.context}. Each view keeps the leading principal components of its features over the clip, as 8-bit numbers with a scale `
        + `for each, not whitened, and their mean; so a cosine here is that of the uncentred features, off by the errors above (absolute, over `
        + `${views[0].pairs.toLocaleString("en")} sampled pairs). The same components are the colours, between their 1st and 99th percentile. `
        + "Several encoders have their own components, put into the order and sign that follow the first encoder's best. "
        + "Black in a similarity is the 5th percentile of the cosine over the sampled pairs."));
  }

  // -------------------------------------------------------------- stages and strip

  let drawn = { key: "", stages: [], strips: [], frames: null };

  function build(list) {
    const aspect = clip.width / clip.height, count = list.length;
    body.classList.toggle("side", aspect * count < 2.6);
    body.style.setProperty("--aspect", aspect);
    body.style.setProperty("--panels", count);
    body.classList.toggle("upright", aspect < 1 || count > 3);  // two beside each other on a telephone
    drawn = { key: list.map((p) => p.key + p.rows + p.columns + p.title).join("|"), stages: [], strips: [], frames: null };
    stages.replaceChildren(...list.map((panel, index) => {
      const frame = h("canvas", { class: "frame", width: pictures[0].width, height: pictures[0].height });
      const map = h("canvas", { class: "map", width: panel.columns, height: panel.rows });
      const veil = h("canvas", { class: "veil", width: panel.columns, height: panel.rows });
      const marks = h("svg", { class: "marks", viewBox: `0 0 ${panel.columns} ${panel.rows}`, preserveAspectRatio: "none" });
      const picture = h("div", { class: "picture", tabindex: 0, role: "img", "aria-label": `${panel.title}: click a patch to compare it with all others` }, frame, map, veil, marks);
      const bar = h("div", { class: "bar" });
      listen(picture, panel);
      drawn.stages.push({ frame, map, veil, marks, bar, picture, image: new ImageData(panel.columns, panel.rows), panel });
      return h("figure", { class: "panel" }, h("figcaption", { title: panel.full }, panel.title), picture, bar);
    }));
    const line = (label, canvas, marks) => {
      const thumbs = h("div", { class: "thumbs" }, canvas, marks);
      return h("div", { class: "row" }, h("span", { class: "rowlabel", title: label }, label), thumbs);
    };
    const frames = h("canvas", { class: "frame" });
    const frameMarks = h("svg", { class: "marks", preserveAspectRatio: "none" });
    drawn.frames = { canvas: frames, marks: frameMarks };
    const inner = h("div", { class: "inner" }, line("frames", frames, frameMarks));
    inner.firstChild.lastChild.addEventListener("click", (event) => setStep(Math.floor(fraction(event)[0] * steps)));
    list.filter((p) => !p.veiled).forEach((panel) => {
      const canvas = h("canvas", { class: "map" });
      const marks = h("svg", { class: "marks", preserveAspectRatio: "none" });
      const row = line(panel.title, canvas, marks);
      const thumbs = row.lastChild;
      const place = (event) => {
        const [x, y] = fraction(event), unit = panel.columns + 1, at = x * (steps * unit - 1);
        const step = Math.min(steps - 1, Math.floor(at / unit));
        return { step, x: Math.min(1, (at - step * unit) / panel.columns) * clip.width, y: y * clip.height };
      };
      thumbs.addEventListener("click", (event) => setStep(place(event).step));
      thumbs.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") point(place(event)); });
      thumbs.addEventListener("pointerleave", () => point(null));
      drawn.strips.push({ canvas, marks, panel, image: null });
      inner.append(row);
    });
    strip.replaceChildren(inner);
    layout();
  }

  const fraction = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((v) => Math.min(0.999999, Math.max(0, v)));
  };

  function layout() {
    const room = (strip.clientWidth || 600) - 8;
    const wide = Math.max(clip.width < clip.height ? 44 : 72, Math.min(clip.width < clip.height ? 96 : 150, room / steps));
    const tall = (wide * clip.height) / clip.width;
    strip.style.setProperty("--width", `${Math.round(wide * steps)}px`);
    strip.style.setProperty("--height", `${Math.round(tall)}px`);
    const ratio = window.devicePixelRatio || 1, { canvas } = drawn.frames;
    canvas.width = Math.round(wide * steps * ratio);
    canvas.height = Math.round(tall * ratio);
    const context = canvas.getContext("2d"), unit = columns + 1, scale = canvas.width / (steps * unit - 1);
    context.imageSmoothingQuality = "high";
    pictures.forEach((picture, s) => context.drawImage(picture, s * unit * scale, 0, columns * scale, canvas.height));
    drawn.frames.marks.setAttribute("viewBox", `0 0 ${steps * unit - 1} ${rows}`);
    for (const one of drawn.strips) {
      const width = steps * (one.panel.columns + 1) - 1;
      one.canvas.width = width;
      one.canvas.height = one.panel.rows;
      one.image = new ImageData(width, one.panel.rows);
      one.marks.setAttribute("viewBox", `0 0 ${width} ${one.panel.rows}`);
    }
  }

  function listen(picture, panel) {
    const place = (event) => {
      const [x, y] = fraction(event);
      return { x: x * clip.width, y: y * clip.height };
    };
    picture.addEventListener("pointermove", (event) => {
      const at = place(event);
      point(at);
      if (drag) dragTo(at);
    });
    picture.addEventListener("pointerleave", () => { if (!drag) point(null); });
    picture.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const at = place(event);
      point(at);
      picture.focus({ preventScroll: true });
      if (tool === "point") return;
      event.preventDefault();
      try { picture.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone already */ }
      startDrag(at);
    });
    picture.addEventListener("pointerup", () => endDrag());
    picture.addEventListener("pointercancel", () => endDrag());
    picture.addEventListener("click", (event) => { if (tool === "point") choose(place(event), event.shiftKey); });
  }

  function startDrag(at) {
    if (tool === "select") {
      drag = { from: patchAt(at.x, at.y, clip, rows, columns) };
      dragTo(at);
    } else if (tool === "hide") {
      painted = painted || new Uint8Array(steps * perStep);
      drag = { value: painted[tokenAt(at, state.step)] ? 0 : 1, last: at };
      dragTo(at);
    }
  }
  function dragTo(at) {
    const [row, column] = patchAt(at.x, at.y, clip, rows, columns);
    if (tool === "select") {
      const [r, c] = drag.from;
      change({ brush: { step: state.step, rect: [Math.min(r, row), Math.min(c, column), Math.max(r, row), Math.max(c, column)] } });
    } else {
      const [r, c] = patchAt(drag.last.x, drag.last.y, clip, rows, columns), many = Math.max(1, Math.abs(row - r), Math.abs(column - c));
      for (let i = 0; i <= many; i++) paintPatch(Math.round(r + ((row - r) * i) / many), Math.round(c + ((column - c) * i) / many), drag.value);
      drag.last = at;
      draw();
    }
  }
  function endDrag() {
    if (drag && tool === "hide") sendMask();
    drag = null;
  }
  function paintPatch(row, column, value) {
    const radius = Math.min(rows, columns) > 20 ? 1 : 0;  // a finger's width on fine grids
    for (let r = Math.max(0, row - radius); r <= Math.min(rows - 1, row + radius); r++) {
      for (let c = Math.max(0, column - radius); c <= Math.min(columns - 1, column + radius); c++) {
        for (let s = 0; s < steps; s++) if (paintThrough || s === state.step) painted[s * perStep + r * columns + c] = value;
      }
    }
  }
  function sendMask() {
    if (painted && !painted.some((v) => v)) painted = null;
    outdated = !!painted;
    kernel.set("mask", painted && { grid: [steps, rows, columns], hidden: [...painted.keys()].filter((i) => painted[i]) });
  }

  // -------------------------------------------------------------- actions

  function change(part, quiet = false) {
    state = { ...state, ...part };
    draw();
    tell();
    if (!quiet) remember();
  }
  /** Step and chosen point to Python, where they changed. */
  function tell() {
    if (!kernel) return;
    const pin = state.pins[state.active], point = pin ? [pin.x, pin.y] : null;
    if (told.step !== state.step) kernel.set("step", (told.step = state.step));
    if (JSON.stringify(told.point) !== JSON.stringify(point)) kernel.set("point", (told.point = point));
  }
  function setMode(mode) {
    if (mode === "prediction" && !predictions.length) return say(kernel ? "Hide some patches first: the tool at the right of these." : "This page was made without masks.");
    change({ mode });
  }
  function setTool(value) {
    if (value === "hide" && !kernel.live.predicts) return say("These encoders have no predictor: take a V-JEPA 2 checkpoint.");
    if (value === "hide" && tool !== value) kernel.ask({ ask: "prepare" });
    tool = value;
    body.dataset.tool = tool;
    draw();
  }
  function setStep(step) {
    const to = Math.min(steps - 1, Math.max(0, step));
    if (to === state.step) return;
    change({ step: to });
    if (kernel && painted && !playing && state.mode === "prediction") kernel.ask({ ask: "recover" });
  }
  function setPlaying(on) {
    clearTimeout(playing);
    playing = null;
    if (on && steps > 1) {
      const next = () => {
        const at = state.step, to = (at + 1) % steps;
        const lasts = to ? page.steps[to].time - page.steps[at].time : 0.6;
        playing = setTimeout(() => {
          change({ step: to }, true);
          next();
        }, 1000 * Math.min(1.5, Math.max(0.06, lasts)));
      };
      next();
    } else remember();
    draw();
  }
  function point(at) {
    pointer = at;
    draw();
  }
  function choose(at, another = false) {
    const pin = { step: state.step, x: Math.round(at.x * 10) / 10, y: Math.round(at.y * 10) / 10 };
    let { pins, active } = state;
    if (another && pins.length >= PIN_COLOURS.length) return say(`At most ${PIN_COLOURS.length} patches can be pinned: remove one first.`);
    if (another || !pins.length) { pins = [...pins, pin]; active = pins.length - 1; }
    else { pins = pins.map((old, i) => (i === active ? pin : old)); }
    const mode = state.mode === "colours" || state.mode === "change" ? "similarity" : state.mode;
    change({ pins, active, mode });
  }
  function removePin(index) {
    const pins = state.pins.filter((_, i) => i !== index);
    const active = Math.max(0, Math.min(pins.length - 1, index <= state.active ? state.active - (index < state.active ? 1 : 0) : state.active));
    change({ pins, active });
  }
  function say(text, keep = false) {
    status.textContent = text;
    clearTimeout(say.timer);
    if (!keep) say.timer = setTimeout(() => { status.textContent = ""; }, 6000);
  }
  async function copyLink() {
    remember(true);
    try {
      await navigator.clipboard.writeText(location.href);
      say("The link to this view is copied.");
    } catch {
      say("This browser lets no page copy: take the link from the address bar.");
    }
  }
  function setTheme() {
    const dark = getComputedStyle(body).getPropertyValue("--dark").trim() === "1";
    ink.at = -1e9;
    theme = dark ? "light" : "dark";
    body.dataset.theme = theme;
    document.documentElement.dataset.explorerTheme = theme;
    draw();
  }
  function remember(now = false) {
    if (!address) return;
    clearTimeout(remember.timer);
    remember.timer = setTimeout(() => address.write(toAddress(state)), now ? 0 : 250);
    if (now) address.write(toAddress(state));
  }

  // -------------------------------------------------------------- drawing

  let waiting = false;
  function draw() {
    if (waiting || destroyed) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (!destroyed) drawNow();
    });
  }

  function drawNow() {
    const list = panels();
    if (drawn.key !== list.map((p) => p.key + p.rows + p.columns + p.title).join("|")) build(list);
    list.forEach((panel, i) => drawStage(drawn.stages[i], panel));
    const inStrip = list.filter((p) => !p.veiled);
    inStrip.forEach((panel, i) => drawStrip(drawn.strips[i], panel));
    drawFrameMarks();
    drawControls();
    drawReadout(list);
    drawPins();
    drawCurve();
    drawScatter();
    drawTable();
  }

  function drawStage(stage, panel) {
    stage.panel = panel;
    const { frame, map, veil, marks, bar, image } = stage, step = panel.stepOf(state.step);
    frame.getContext("2d").drawImage(pictures[state.step], 0, 0, frame.width, frame.height);
    panel.paint(step, image.data, 0);
    map.getContext("2d").putImageData(image, 0, 0);
    map.style.opacity = panel.veiled ? 0 : panel.key === "cosine" ? Math.max(0.6, state.overlay) : state.overlay;
    frame.classList.toggle("above", state.above && !panel.veiled);
    veil.getContext("2d").putImageData(veilOf(panel, step), 0, 0);
    marks.replaceChildren(...marksOf(panel, step));
    drawBar(bar, panel.bar);
  }

  function veilOf(panel, step) {
    const image = new ImageData(panel.columns, panel.rows), size = panel.rows * panel.columns;
    const chosen = panel.view !== null ? selection() : null;
    for (let i = 0, o = 3; i < size; i++, o += 4) {
      if (panel.veiled && step !== null && panel.found.hidden[step * size + i]) {
        image.data.set([...GREY, 235], o - 3);
      } else if (chosen && !chosen[state.step * perStep + i]) {
        image.data.set([12, 14, 20, 190], o - 3);
      }
      const own = panel.rows === rows && panel.columns === columns;
      if (painted && own && painted[state.step * perStep + i] && (panel.veiled || (panel.view !== null && tool === "hide"))) image.data.set([...GREY, 215], o - 3);
    }
    return image;
  }

  const ring = (x, y, rx, ry, colour, thin = false) => [
    h("ellipse", { cx: x, cy: y, rx, ry, class: "under" }),
    h("ellipse", { cx: x, cy: y, rx, ry, class: thin ? "ring thin" : "ring", stroke: colour }),
  ];
  const square = (x, y, colour, name = "ring") => [
    h("rect", { x, y, width: 1, height: 1, class: "under" }),
    h("rect", { x, y, width: 1, height: 1, class: name, stroke: colour }),
  ];
  /** Pins (and the pointer, while similarity follows it) with what they find in a view. */
  function found(view) {
    const out = state.pins.map((pin, i) => ({
      ...similarityTo(view, tokenAt(pin, pin.step)), colour: PIN_COLOURS[i % PIN_COLOURS.length], chosen: i === state.active,
    }));
    if (followsPointer()) out.push({ ...query(view), colour: "#ffffff", chosen: true, follows: true });
    return out;
  }

  function marksOf(panel, step) {
    const out = [];
    if (panel.outlined && step !== null) out.push(outline(panel.found.hidden, step, panel.rows, panel.columns));
    if (panel.view !== null && state.mode !== "change" && (state.mode === "similarity" || state.pins.length)) {
      for (const one of found(panel.view)) {
        const best = one.best.tokens[state.step], own = Math.floor(one.token / perStep) === state.step, at = own ? one.token : best;
        const row = Math.floor((at % perStep) / columns), column = at % columns;
        const radius = Math.max(1.1, 0.028 * Math.min(rows, columns) + 0.5);
        if (own) out.push(...square(column, row, one.colour));
        else out.push(...ring(column + 0.5, row + 0.5, radius, radius, one.colour, !one.chosen));
      }
    }
    if (state.brush && state.brush.rect && state.brush.step === state.step && panel.view !== null) {
      const [top, left, bottom, right] = state.brush.rect;
      out.push(h("rect", { x: left, y: top, width: right - left + 1, height: bottom - top + 1, class: "brush" }));
    }
    if (pointer && (pointer.step === undefined || pointer.step === state.step)) {
      const [row, column] = patchAt(pointer.x, pointer.y, clip, panel.rows, panel.columns);
      out.push(...square(column, row, "#fff", "pointer"));
    }
    return out;
  }

  /** The border of a hidden region. */
  function outline(hidden, step, rows, columns) {
    const at = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && hidden[(step * rows + r) * columns + c];
    let path = "";
    for (let r = 0; r <= rows; r++) {
      for (let c = 0; c <= columns; c++) {
        if (!!at(r, c) !== !!at(r - 1, c)) path += `M${c} ${r}h1`;
        if (!!at(r, c) !== !!at(r, c - 1)) path += `M${c} ${r}v1`;
      }
    }
    return h("g", {}, h("path", { d: path, class: "under" }), h("path", { d: path, class: "region" }));
  }

  function drawStrip(one, panel) {
    const { image, canvas, marks } = one, size = panel.rows * panel.columns, buffer = new Uint8ClampedArray(4 * size);
    const chosen = panel.view !== null ? selection() : null, width = image.width;
    for (let s = 0; s < steps; s++) {
      panel.paint(panel.stepOf(s), buffer, 0);
      if (chosen) for (let i = 0; i < size; i++) if (!chosen[s * perStep + i]) for (let k = 0; k < 3; k++) buffer[4 * i + k] *= 0.22;
      for (let r = 0; r < panel.rows; r++) {
        image.data.set(buffer.subarray(4 * r * panel.columns, 4 * (r + 1) * panel.columns), 4 * (r * width + s * (panel.columns + 1)));
      }
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    const out = [], unit = panel.columns + 1;
    if (panel.view !== null && state.mode === "similarity") {
      for (const each of found(panel.view)) {
        for (let s = 0; s < steps; s++) {
          const best = Math.floor(each.token / perStep) === s ? each.token : each.best.tokens[s];
          const row = Math.floor((best % perStep) / columns), column = best % columns;
          const radius = Math.min(rows, columns) / 11;
          out.push(...ring(s * unit + column + 0.5, row + 0.5, radius, radius, each.colour, !each.chosen));
        }
      }
    }
    out.push(h("rect", { x: state.step * unit, y: 0, width: panel.columns, height: panel.rows, class: "here" }));
    marks.replaceChildren(...out);
  }

  function drawFrameMarks() {
    const unit = columns + 1;
    drawn.frames.marks.replaceChildren(h("rect", { x: state.step * unit, y: 0, width: columns, height: rows, class: "here" }));
    if (drawFrameMarks.last === state.step) return;
    drawFrameMarks.last = state.step;
    if (strip.scrollWidth > strip.clientWidth + 4) {
      strip.scrollLeft = (strip.firstChild.scrollWidth / steps) * (state.step + 0.5) - strip.clientWidth / 2;
    }
  }

  function drawBar(bar, about) {
    const key = JSON.stringify(about);
    if (bar.dataset.key === key) return;
    bar.dataset.key = key;
    if (about.text) return bar.replaceChildren(h("span", { class: "bartext" }, about.text));
    const { low, high } = about, digits = high - low < 0.2 ? 3 : 2;
    const gradient = [...Array(17).keys()].map((i) => {
      const k = 3 * Math.round((255 * i) / 16);
      return `rgb(${INFERNO[k]},${INFERNO[k + 1]},${INFERNO[k + 2]})`;
    });
    const fill = about.plain ? "#000, #fff" : gradient.join(",");
    return bar.replaceChildren(
      h("span", {}, fixed(low, digits)), h("i", { style: `background:linear-gradient(90deg,${fill})` }),
      h("span", {}, fixed(high, digits)), h("span", { class: "bartext" }, about.label));
  }

  function drawControls() {
    [modes, tools, ...pickers, above, unit, live, nearest, scatterX, scatterY, allSteps, through].forEach((one) => one.update());
    rgbBox.hidden = state.mode !== "colours" && !(state.mode === "similarity" && !state.pins.length && !pointer);
    if (state.mode === "similarity") rgbBox.hidden = true;
    similarityBox.hidden = state.mode !== "similarity";
    nearest.hidden = state.pins.length < 2;
    maskBox.hidden = state.mode !== "prediction";
    hideBox.hidden = tool !== "hide";
    if (maskPicker.length !== predictions.length) {
      maskPicker.replaceChildren(...predictions.map((one, i) => h("option", { value: i }, `${one.name} · ${shortName(one.encoder)}`)));
    }
    maskPicker.value = String(state.mask);
    viewPicker.value = String(state.view);
    strength.value = Math.round(100 * state.overlay);
    slider.value = state.step;
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-pressed", !!playing);
    const step = page.steps[state.step];
    stepLabel.textContent = `step ${state.step} of 0–${steps - 1} · ${framesOf(step.frames)} · ${step.time.toFixed(2)} s`;
    let text = HINTS[state.mode];
    if (tool === "select") text = "Drag over the picture to select patches; the scatter shows them, and a brush there selects them here.";
    if (tool === "hide") text = "Drag over the picture to hide patches; when you let go, the predictor recovers them.";
    if (state.mode === "change" && state.step === 0) text += " The first step has none before it.";
    if (state.mode === "prediction" && predictions.length && predictions[state.mask].stepOf(page.steps[state.step].frames[0]) === null) {
      text = "This step was not among the frames that were encoded jointly for this mask.";
    }
    hint.textContent = text;
  }

  function drawReadout(list) {
    const at = pointer || state.pins[state.active];
    const line = (name, ...value) => h("div", { class: "line" }, h("span", { class: "name" }, name), h("span", { class: "value" }, ...value));
    const out = [];
    if (!at) {
      readout.replaceChildren(h("p", { class: "quiet" }, "Point at a patch to read its numbers."));
      return;
    }
    const step = pointer ? pointer.step ?? state.step : at.step, [row, column] = patchAt(at.x, at.y, clip, rows, columns);
    const about = page.steps[step];
    out.push(line(pointer ? "pointer" : "chosen patch", `step ${step}, row ${row}, column ${column}`),
      line("of the clip", `${framesOf(about.frames)}, ${about.time.toFixed(2)} s, pixel ${Math.floor(at.x)}, ${Math.floor(at.y)}`));
    const prediction = list[0].found;
    if (prediction) {
      const [r, c] = patchAt(at.x, at.y, clip, prediction.grid[1], prediction.grid[2]), s = prediction.stepOf(about.frames[0]);
      const token = s === null ? -1 : (s * prediction.grid[1] + r) * prediction.grid[2] + c, place = s === null ? -1 : prediction.places[token];
      if (place < 0) out.push(line("cosine", "visible here"));
      else GUESSES.forEach((guess, k) => out.push(line(guess, fixed(prediction.cosines[k][place], 3))));
    } else {
      views.forEach((view, i) => {
        const token = step * perStep + row * columns + column, parts = [];
        if (state.mode === "change") parts.push(`1 − cosine ${fixed(changeOf(i).map[token], 3)}`);
        else if (state.pins.length) {
          state.pins.forEach((_, p) => {
            const colour = PIN_COLOURS[p % PIN_COLOURS.length];
            const dot = h("i", { class: `dot${p === state.active ? " on" : ""}` });
            dot.style.setProperty("--pin", colour);
            parts.push(dot, fixed(pinned(i)[p].map[token], 3), " ");
          });
        } else {
          const [r, g, b] = state.rgb.map((c) => fixed(view.values[c * view.count + token] * view.scale[c], 2));
          parts.push(`${r} / ${g} / ${b}`);
        }
        out.push(line(viewName(view), ...parts));
      });
      if (state.mode !== "change") out.push(h("p", { class: "quiet" }, state.pins.length ? "cosine with each pin" : "components drawn red / green / blue"));
    }
    readout.replaceChildren(...out);
  }

  function drawPins() {
    const key = JSON.stringify([state.pins, state.active]);
    if (drawPins.last === key) return;
    drawPins.last = key;
    return pinList.replaceChildren(
      ...state.pins.map((pin, i) => {
        const [row, column] = patchAt(pin.x, pin.y, clip, rows, columns);
        const chip = h("span", { class: `pin${i === state.active ? " on" : ""}` },
          button(`step ${pin.step}, row ${row}, column ${column}`, "compare with this patch", () => { change({ active: i, mode: state.mode === "prediction" ? state.mode : "similarity" }); setStep(pin.step); }),
          button("×", "remove this pin", () => removePin(i), { "aria-label": "remove this pin", class: "remove" }));
        chip.style.setProperty("--pin", PIN_COLOURS[i % PIN_COLOURS.length]);
        return chip;
      }),
      ...(state.pins.length > 1 ? [button("remove all", "remove all pins (Shift+X)", () => change({ pins: [], active: 0 }), { class: "all" })] : []),
    );
  }

  function drawCurve() {
    const width = 420, height = 220, left = 40, right = 8, top = 10, bottom = 26;
    const lines = [];
    views.forEach((_, v) => found(v).forEach((one) => lines.push({ ...one, view: v })));
    const lowest = lines.length ? Math.min(...lines.map((one) => Math.min(...one.best.cosines))) : 0;
    const low = lines.length ? Math.max(-1, Math.min(0.9, Math.floor((lowest - 0.02) * 10) / 10)) : 0;
    const x = (s) => left + ((width - left - right) * (steps > 1 ? s / (steps - 1) : 0.5));
    const y = (c) => top + (height - top - bottom) * (1 - share(c, low, 1));
    const out = [];
    for (let i = 0; i <= 4; i++) {
      const value = low + ((1 - low) * i) / 4;
      out.push(h("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
        h("text", { x: left - 6, y: y(value) + 3.5, "text-anchor": "end" }, fixed(value, 1 - low < 0.4 ? 3 : 2)));
    }
    const every = Math.max(1, Math.ceil(steps / 8));
    for (let s = 0; s < steps; s += every) out.push(h("text", { x: x(s), y: height - 8, "text-anchor": "middle" }, String(page.steps[s].frames[0])));
    out.push(h("line", { x1: x(state.step), x2: x(state.step), y1: top, y2: height - bottom, class: "now" }));
    for (const one of lines) {
      const points = [...one.best.cosines].map((c, s) => `${x(s).toFixed(1)},${y(c).toFixed(1)}`).join(" ");
      const colour = one.follows ? "var(--ink)" : one.colour, dash = ["", "5 3", "2 2", "8 3 2 3"][one.view % 4];
      out.push(h("polyline", { points, class: `halo`, "stroke-dasharray": dash }),
        h("polyline", { points, class: `best${one.chosen ? "" : " thin"}`, style: `stroke:${colour}`, "stroke-dasharray": dash }),
        h("circle", { cx: x(state.step), cy: y(one.best.cosines[state.step]), r: 3.5, class: "dot", style: `fill:${colour}` }));
    }
    const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "cosine of the best match in each step" }, ...out);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * width;
      setStep(Math.round(((at - left) / (width - left - right)) * (steps - 1)));
    });
    const legend = views.length > 1 && lines.length ? views.map((view, v) => h("span", {},
      h("svg", { viewBox: "0 0 26 6", width: 26, height: 6 }, h("line", { x1: 0, x2: 26, y1: 3, y2: 3, class: "key", "stroke-dasharray": ["", "5 3", "2 2", "8 3 2 3"][v % 4] })),
      viewName(view), lines.length ? ` ${fixed((lines.filter((l) => l.view === v && l.chosen).pop() || lines.filter((l) => l.view === v)[0]).best.cosines[state.step], 3)}` : "")) : [];
    const text = lines.length ? "cosine of the best match in each step, by first frame" : "Choose a patch, or point at one in Similarity.";
    curve.replaceChildren(svg, h("p", { class: "quiet legend" }, ...(legend.length ? legend : [text])));
  }

  // -------------------------------------------------------------- the scatter

  let scatterRange = null, ink = { at: -1e9, colour: "" };
  /** The text's colour, looked up once a second at most: that makes the browser lay out the page. */
  const inkNow = () => {
    const at = performance.now();
    if (at - ink.at > 1000) ink = { at, colour: getComputedStyle(body).getPropertyValue("--ink") };
    return ink.colour;
  };
  const MARGIN = 22;  // at the left and at the bottom, for the names of the components
  const scatterScale = (xs, ys, width, height) => ({
    px: (v) => MARGIN + ((v - xs[0]) / (xs[1] - xs[0])) * (width - MARGIN),
    py: (v) => (height - MARGIN) * (1 - (v - ys[0]) / (ys[1] - ys[0])),
  });
  function rangeOf(view, component) {
    const { values, count, scale } = view;
    let low = 127, high = -128;
    for (let i = component * count; i < (component + 1) * count; i++) {
      if (values[i] < low) low = values[i];
      if (values[i] > high) high = values[i];
    }
    const pad = Math.max(1, (high - low) * 0.04);
    return [(low - pad) * scale[component], (high + pad) * scale[component]];
  }
  function drawScatter() {
    const view = views[state.view], [cx, cy] = state.axes, ratio = window.devicePixelRatio || 1;
    const width = Math.max(160, scatterCanvas.clientWidth || 360), height = Math.max(160, scatterCanvas.clientHeight || 240);
    const key = JSON.stringify([state.view, state.axes, state.rgb, state.allSteps, state.allSteps ? 0 : state.step, state.brush, width, height, ratio, theme, inkNow()]);
    if (drawScatter.key !== key) {
      drawScatter.key = key;
      const canvas = (drawScatter.base = drawScatter.base || document.createElement("canvas"));
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      const context = canvas.getContext("2d"), style = getComputedStyle(body);
      context.scale(ratio, ratio);
      const [xs, ys] = [rangeOf(view, cx), rangeOf(view, cy)];
      scatterRange = { xs, ys, width, height };
      const { px, py } = scatterScale(xs, ys, width, height);
      context.strokeStyle = style.getPropertyValue("--line");
      context.beginPath();
      context.moveTo(px(0), 0); context.lineTo(px(0), height - MARGIN); context.moveTo(MARGIN, py(0)); context.lineTo(width, py(0));
      context.stroke();
      const chosen = selection(), colours = new Uint8ClampedArray(4 * view.count);
      paintColours(view, state.rgb, 0, view.count, colours);
      const [from, to] = state.allSteps ? [0, view.count] : [state.step * perStep, (state.step + 1) * perStep];
      const side = to - from > 20000 ? 1.5 : to - from > 3000 ? 2.2 : 3;
      for (const strong of chosen ? [false, true] : [true]) {
        for (let i = from; i < to; i++) {
          if (chosen && !!chosen[i] !== strong) continue;
          context.fillStyle = `rgba(${colours[4 * i]},${colours[4 * i + 1]},${colours[4 * i + 2]},${strong ? 0.9 : 0.13})`;
          context.fillRect(px(view.values[cx * view.count + i] * view.scale[cx]) - side / 2, py(view.values[cy * view.count + i] * view.scale[cy]) - side / 2, side, side);
        }
      }
      context.fillStyle = style.getPropertyValue("--quiet");
      context.font = "11px system-ui, sans-serif";
      context.fillText(`component ${cx + 1} (${percent(view.explained[cx], 1)}) →`, MARGIN + 2, height - 7);
      context.save();
      context.translate(14, height - MARGIN - 2);
      context.rotate(-Math.PI / 2);
      context.fillText(`component ${cy + 1} (${percent(view.explained[cy], 1)}) →`, 0, 0);
      context.restore();
    }
    const { xs, ys } = scatterRange, { px, py } = scatterScale(xs, ys, width, height);
    if (scatterCanvas.width !== width * ratio) scatterCanvas.width = width * ratio;
    if (scatterCanvas.height !== height * ratio) scatterCanvas.height = height * ratio;
    const context = scatterCanvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, scatterCanvas.width, scatterCanvas.height);
    context.drawImage(drawScatter.base, 0, 0);
    context.scale(ratio, ratio);
    const circle = (token, colour, radius) => {
      const x = px(view.values[cx * view.count + token] * view.scale[cx]), y = py(view.values[cy * view.count + token] * view.scale[cy]);
      for (const [stroke, wide] of [["#000", 4], [colour, 2]]) {
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.strokeStyle = stroke;
        context.lineWidth = wide;
        context.stroke();
      }
    };
    state.pins.forEach((pin, i) => circle(tokenAt(pin, pin.step), PIN_COLOURS[i % PIN_COLOURS.length], i === state.active ? 7 : 5));
    if (pointer) circle(tokenAt(pointer, pointer.step ?? state.step), "#fff", 6);
    const box = state.brush && state.brush.box && state.brush.axes[0] === cx && state.brush.axes[1] === cy ? state.brush.box : null;
    if (box) {
      context.strokeStyle = inkNow();
      context.lineWidth = 1;
      context.setLineDash([4, 3]);
      context.strokeRect(px(box[0]), py(box[3]), px(box[1]) - px(box[0]), py(box[2]) - py(box[3]));
      context.setLineDash([]);
    }
  }
  let scatterDrag = null;
  const scatterPlace = (event) => {
    const [x, y] = fraction(event), { xs, ys, width, height } = scatterRange;
    const across = (x * width - MARGIN) / (width - MARGIN), down = (y * height) / (height - MARGIN);
    return [xs[0] + across * (xs[1] - xs[0]), ys[1] - down * (ys[1] - ys[0])];
  };
  scatterCanvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    try { scatterCanvas.setPointerCapture(event.pointerId); } catch { /* gone already */ }
    scatterDrag = { from: scatterPlace(event), x: event.clientX, y: event.clientY };
  });
  scatterCanvas.addEventListener("pointermove", (event) => {
    if (!scatterDrag) {  // point at the nearest dot
      const [x, y] = scatterPlace(event), view = views[state.view], [cx, cy] = state.axes, { xs, ys } = scatterRange;
      const [from, to] = state.allSteps ? [0, view.count] : [state.step * perStep, (state.step + 1) * perStep];
      let best = -1, least = 0.0012;
      for (let i = from; i < to; i++) {
        const dx = (view.values[cx * view.count + i] * view.scale[cx] - x) / (xs[1] - xs[0]);
        const dy = (view.values[cy * view.count + i] * view.scale[cy] - y) / (ys[1] - ys[0]);
        if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = i; }
      }
      if (best < 0) return point(null);
      const step = Math.floor(best / perStep), row = Math.floor((best % perStep) / columns);
      const [px, py] = centreOf(row, best % columns, clip, rows, columns);
      return point({ step, x: px, y: py });
    }
    if (Math.abs(event.clientX - scatterDrag.x) + Math.abs(event.clientY - scatterDrag.y) < 4) return undefined;
    const [x, y] = scatterPlace(event), [a, b] = scatterDrag.from;
    return change({ brush: { axes: [...state.axes], box: [Math.min(a, x), Math.max(a, x), Math.min(b, y), Math.max(b, y)] } });
  });
  scatterCanvas.addEventListener("pointerup", (event) => {
    const moved = scatterDrag && Math.abs(event.clientX - scatterDrag.x) + Math.abs(event.clientY - scatterDrag.y) >= 4;
    if (scatterDrag && !moved) {
      if (state.brush) change({ brush: null });
      else if (pointer) choose(pointer, event.shiftKey);
    }
    scatterDrag = null;
  });
  scatterCanvas.addEventListener("pointerleave", () => { if (!scatterDrag) point(null); });
  scatterCanvas.addEventListener("keydown", (event) => {
    const { xs, ys } = scatterRange, [cx, cy] = state.axes, stepX = (xs[1] - xs[0]) / 40, stepY = (ys[1] - ys[0]) / 40;
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    let box = state.brush && state.brush.box;
    if (event.key === "Enter") box = [xs[0] + 15 * stepX, xs[0] + 25 * stepX, ys[0] + 15 * stepY, ys[0] + 25 * stepY];
    else if (box && arrows[event.key]) {
      const [dx, dy] = arrows[event.key];
      box = event.shiftKey ? [box[0], Math.max(box[0] + stepX, box[1] + dx * stepX), box[2], Math.max(box[2] + stepY, box[3] + dy * stepY)]
        : [box[0] + dx * stepX, box[1] + dx * stepX, box[2] + dy * stepY, box[3] + dy * stepY];
    } else return;
    event.preventDefault();
    event.stopPropagation();
    change({ brush: { axes: [cx, cy], box } });
  });

  // -------------------------------------------------------------- prediction

  function drawTable() {
    table.hidden = state.mode !== "prediction" || !predictions.length;
    if (table.hidden) return;
    const one = predictions[state.mask], key = `${state.mask}/${one.name}/${one.encoder}/${one.means}/${outdated}`;
    if (drawTable.last === key) return;
    drawTable.last = key;
    const bars = one.means.map(([name, value]) => h("div", { class: `guess ${name === "prediction" ? "own" : ""}`, title: GUESS_NOTES[name] },
      h("span", { class: "name" }, name), h("span", { class: "track" }, h("i", { style: `width:${100 * share(value ?? 0, 0, 1)}%` })),
      h("span", { class: "value" }, value === null ? "–" : fixed(value, 3))));
    const span = `${framesOf(one.frames[0]).split("+")[0]} to ${one.frames[one.frames.length - 1][1]}`;
    table.replaceChildren(h("h2", {}, `Mean cosine at the hidden patches: ${one.name}`), ...bars,
      h("p", { class: "quiet" }, `${percent(one.share)} hidden; the prediction beats all three baselines at ${percent(one.beaten)} of the hidden patches. `
        + "The baselines copy features that saw the whole clip, the prediction did not. "
        + `${one.encoder}, ${one.picture[1]}×${one.picture[0]}, ${span} encoded jointly${one.seconds ? `, in ${fixed(one.seconds, 1)} s` : ""}.`));
  }

  // -------------------------------------------------------------- keyboard

  let keyboardBrush = null;
  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target, typing = ["INPUT", "SELECT", "TEXTAREA"].includes(target.tagName) && target.type !== "checkbox";
    if (typing && (target.type !== "range" || /Arrow|Home|End|Page/.test(event.key))) return;
    if (target.tagName === "BUTTON" && [" ", "Enter"].includes(event.key)) return;
    if (target.type === "checkbox" && event.key === " ") return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, back = event.shiftKey;
    const at = pointer && pointer.step === undefined ? pointer : null;
    const move = (dr, dc) => {
      const from = at || state.pins[state.active] || { x: clip.width / 2, y: clip.height / 2 };
      const [row, column] = patchAt(from.x, from.y, clip, rows, columns);
      const r = Math.min(rows - 1, Math.max(0, row + dr)), c = Math.min(columns - 1, Math.max(0, column + dc));
      const [x, y] = centreOf(r, c, clip, rows, columns);
      point({ x, y });
      if (keyboardBrush) { drag = keyboardBrush; tool = "select"; dragTo({ x, y }); drag = null; }
    };
    const cycle = (i) => {
      const most = Math.min(...views.map((v) => v.components), 24);
      change({ rgb: state.rgb.map((c, k) => (k === i ? (c + (back ? most - 1 : 1)) % most : c)), mode: state.mode === "prediction" ? state.mode : "colours" });
    };
    const actions = {
      " ": () => setPlaying(!playing), ",": () => setStep(state.step - 1), ".": () => setStep(state.step + 1),
      "<": () => setStep(state.step - 1), ">": () => setStep(state.step + 1),
      Home: () => setStep(0), End: () => setStep(steps - 1),
      ArrowLeft: () => move(0, -1), ArrowRight: () => move(0, 1), ArrowUp: () => move(-1, 0), ArrowDown: () => move(1, 0),
      Enter: () => {
        if (!at) return;
        if (tool === "select") {
          keyboardBrush = keyboardBrush ? null : { from: patchAt(at.x, at.y, clip, rows, columns) };
          if (keyboardBrush) move(0, 0);
        } else if (tool === "hide") { startDrag(at); endDrag(); }
        else choose(at, back);
      },
      p: () => { if (at) choose(at, true); },
      n: () => { if (state.pins.length) change({ active: (state.active + 1) % state.pins.length }); },
      x: () => { if (back) change({ pins: [], active: 0 }); else if (state.pins.length) removePin(state.active); },
      1: () => setMode("colours"), 2: () => setMode("similarity"), 3: () => setMode("change"), 4: () => setMode("prediction"),
      r: () => cycle(0), g: () => cycle(1), b: () => cycle(2),
      "+": () => change({ overlay: Math.min(1, state.overlay + 0.1) }), "=": () => change({ overlay: Math.min(1, state.overlay + 0.1) }),
      "-": () => change({ overlay: Math.max(0, state.overlay - 0.1) }), "−": () => change({ overlay: Math.max(0, state.overlay - 0.1) }),
      f: () => change({ above: !state.above }), l: () => change({ live: !state.live }), a: () => change({ nearest: !state.nearest }),
      u: () => change({ unit: !state.unit }), s: () => { keyboardBrush = null; setTool(tool === "select" ? "point" : "select"); },
      v: () => change({ view: (state.view + 1) % views.length, brush: null }),
      k: () => { if (predictions.length) change({ mask: (state.mask + 1) % predictions.length }); },
      m: () => { if (kernel && kernel.live) setTool(tool === "hide" ? "point" : "hide"); },
      c: () => { if (address && address.shared) copyLink(); }, d: () => setTheme(), "?": () => { help.hidden = !help.hidden; },
      Escape: () => {
        if (!help.hidden) help.hidden = true;
        else if (state.brush || keyboardBrush) { keyboardBrush = null; change({ brush: null }); }
        else { point(null); setTool("point"); }
      },
    };
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
  const listenTo = address ? document : body;  // the page owns its window, a cell does not
  listenTo.addEventListener("keydown", onKey);

  // -------------------------------------------------------------- with a kernel

  function kernelControls() {
    const now = kernel.live;
    const encoders = h("input", { type: "text", value: now.encoders.join(" "), size: 26, "aria-label": "encoders", title: "one or several, with spaces between: shipped ones, Hugging Face ids or folders" });
    const size = h("input", { type: "text", value: now.size ?? "", size: 5, placeholder: "256", "aria-label": "size", title: "short side of the encoded picture in pixels" });
    const layers = h("input", { type: "text", value: now.layers.map((l) => l ?? "last").join(" "), size: 7, "aria-label": "layers", title: "blocks, with spaces between; last is the final norm" });
    const context = h("input", { type: "text", value: now.context, size: 5, "aria-label": "context", title: "pair, clip, frame or an even number of frames" });
    const field = (name, input) => h("label", { class: "field" }, h("span", { class: "label" }, name), input);
    const go = h("button", { type: "submit" }, "Encode");
    return h("form", { class: "kernel", onsubmit: (event) => {
      event.preventDefault();
      say("Encoding …", true);
      kernel.ask({ ask: "encode", encoders: encoders.value, size: size.value, layers: layers.value, context: context.value });
    } }, field("encoders", encoders), field("size", size), field("layers", layers), field("context", context), go);
  }

  // -------------------------------------------------------------- start

  const resized = new ResizeObserver(() => {
    if (drawn.frames) layout();
    draw();
  });
  resized.observe(root);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const schemeChanged = () => {
    ink.at = -1e9;
    draw();
  };
  scheme.addEventListener("change", schemeChanged);
  setTool("point");
  drawNow();

  return {
    get state() { return state; },
    say,
    change: (part) => change(part),
    /** A prediction that the kernel made: it takes the place of the one of its name. */
    async predicted(one, itsBuffers) {
      const decoded = await decodePrediction(one, itsBuffers), place = predictions.findIndex((old) => old.name === one.name && old.encoder === one.encoder);
      if (place < 0) predictions.push(decoded);
      else predictions[place] = decoded;
      maskPicker.replaceChildren();
      outdated = false;
      status.textContent = "";
      change({ mask: place < 0 ? predictions.length - 1 : place, mode: "prediction" });
    },
    /** What Python chose. */
    taken(name, value) {
      if (name === "step" && value !== state.step) {
        told.step = value;
        change({ step: Math.min(steps - 1, Math.max(0, value)) });
      }
      if (name === "point") {
        told.point = value;
        const pin = state.pins[state.active];
        if (!value) { if (pin) removePin(state.active); }
        else if (!pin || Math.abs(pin.x - value[0]) + Math.abs(pin.y - value[1]) > 0.1) choose({ x: value[0], y: value[1] });
      }
      if (name === "mask") {
        painted = value ? new Uint8Array(steps * perStep) : null;
        if (value) value.hidden.forEach((i) => { painted[i] = 1; });
        draw();
      }
    },
    destroy() {
      destroyed = true;
      clearTimeout(playing);
      resized.disconnect();
      scheme.removeEventListener("change", schemeChanged);
      listenTo.removeEventListener("keydown", onKey);
    },
  };
}

/** A prediction with its bytes decoded. */
export async function decodePrediction(one, buffers) {
  const [hidden, whole, filled, packed] = await Promise.all(
    ["hidden", "whole", "filled", "cosine"].map(async (name) => inflate(bytes(one[name], buffers))),
  );
  const count = hidden.length, places = new Int32Array(count).fill(-1);
  let many = 0;
  for (let i = 0; i < count; i++) if (hidden[i]) places[i] = many++;
  const raw = new Int8Array(packed.buffer);
  const cosines = GUESSES.map((_, k) => Float32Array.from(raw.subarray(k * many, (k + 1) * many), (v) => (v === -128 ? NaN : v / 127)));
  const cosineGrid = new Float32Array(count).fill(NaN);
  for (let i = 0; i < count; i++) if (hidden[i]) cosineGrid[i] = cosines[0][places[i]];
  const stepOf = (frame) => {
    const found = one.frames.findIndex(([first, last]) => first <= frame && frame <= last);
    return found < 0 ? null : found;
  };
  return { ...one, hidden, whole, filled, places, cosines, cosineGrid, stepOf };
}

// ---------------------------------------------------------------- page and notebook

/** The page: data beside the script, state in the address. */
export async function openPage(root, data) {
  const address = {
    shared: location.protocol !== "about:",  // in a frame of a notebook nobody else can open it
    read: () => location.hash,
    write(text) {
      try {
        history.replaceState(null, "", `#${text}`);
      } catch {
        location.hash = text;  // a page in a frame of its own origin
      }
    },
  };
  const page = JSON.parse(data);
  let explorer = await explore(root, page, { address });
  window.addEventListener("hashchange", () => {
    if (location.hash.slice(1) !== toAddress(explorer.state)) explorer.change(fromAddress(location.hash, page));
  });
  document.documentElement.dataset.ready = "1";
  window.explorer = explorer;
}

/**
 * The notebook: anywidget calls this. Data comes when asked for; until then, and without a kernel, the
 * page that was stored in the cell is there, and is hidden once this one lives.
 */
async function render({ model, el }) {
  let explorer = null, queue = Promise.resolve(), gone = false;
  const kernel = {
    live: null,
    set(name, value) {
      model.set(name, value);
      model.save_changes();
    },
    ask: (what) => model.send(what),
  };
  const show = async (page, buffers) => {
    if (gone) return;
    let state = { step: model.get("step") };
    if (explorer) {
      state = { ...explorer.state, step: model.get("step"), brush: null, view: 0, mask: 0, rgb: [0, 1, 2], axes: [0, 1] };
      state.pins = state.pins.filter((pin) => pin.step < page.steps.length);
      state.active = 0;
      if (state.mode === "prediction") state.mode = "colours";
      explorer.destroy();
    }
    explorer = await explore(el, page, { buffers, kernel, state });
    if (!state.pins && model.get("point")) explorer.taken("point", model.get("point"));
    explorer.taken("mask", model.get("mask"));
    for (const stored of document.querySelectorAll(`[id="${model.get("_fallback")}"]`)) {
      (stored.closest(".jp-OutputArea-child") || stored).style.display = "none";
    }
    el.dataset.ready = "1";
  };
  const onMessage = (message, buffers) => {
    queue = queue.then(async () => {
      if (message.kind === "page") {
        kernel.live = message.live;
        await show(message.page, buffers);
      } else if (message.kind === "prediction" && explorer) await explorer.predicted(message.prediction, buffers);
      else if (message.kind === "say" && explorer) explorer.say(message.text, message.keep);
    }).catch((error) => console.error(error));
  };
  model.on("msg:custom", onMessage);
  const watchers = ["point", "step", "mask"].map((name) => {
    const watcher = () => explorer && explorer.taken(name, model.get(name));
    model.on(`change:${name}`, watcher);
    return [name, watcher];
  });
  model.send({ ask: "page" });
  return () => {
    gone = true;
    if (explorer) explorer.destroy();
    model.off("msg:custom", onMessage);
    watchers.forEach(([name, watcher]) => model.off(`change:${name}`, watcher));
  };
}

export default { render };
