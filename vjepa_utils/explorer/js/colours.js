// Numbers as colours, into the RGBA bytes of a canvas.

const INFERNO_STOPS =
  "00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69"
  + "166e71196e781c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d"
  + "3ddf5337e45a31e9612bed6925f1711ff47918f78212f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37"
  + "f6d746f4e156f2ea69f2f27df5f992fcffa4";

/** matplotlib's inferno: Uint8Array (256 * 3). */
export const INFERNO = (() => {
  const stops = INFERNO_STOPS.match(/../g).map((hex) => parseInt(hex, 16));
  const out = new Uint8Array(768), last = stops.length / 3 - 1;
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * last, low = Math.min(Math.floor(at), last - 1);
    for (let k = 0; k < 3; k++) {
      const below = stops[3 * low + k], above = stops[3 * low + 3 + k];
      out[3 * i + k] = Math.round(below + (above - below) * (at - low));
    }
  }
  return out;
})();

export const GREY = [205, 205, 205];  // where there is nothing to show
export const PIN_COLOURS = [
  "#35d0e6", "#ff6fae", "#8ee04e", "#ffd23f", "#a78bfa", "#ff8a4c", "#ffffff", "#4d9dff",
];

export const rgbOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** Values of some tokens as inferno, black at `low` and yellow at `high`; NaN is grey. */
export function paintHeat(map, start, end, low, high, out) {
  for (let i = start, o = 0; i < end; i++, o += 4) {
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

/** Three components as red, green and blue, each between its percentiles. */
export function paintColours(view, rgb, start, end, out) {
  rgb.forEach((component, channel) => {
    const { scale, low, high, values, count } = view;
    const from = low[component], to = high[component], flat = to - from < 1e-12;
    const table = new Uint8Array(256);
    for (let v = -128; v < 128; v++) {
      table[v + 128] = flat ? 128 : Math.round(255 * share(v * scale[component], from, to));
    }
    const plane = component * count;
    for (let i = start, o = channel; i < end; i++, o += 4) out[o] = table[values[plane + i] + 128];
  });
  for (let i = start, o = 3; i < end; i++, o += 4) out[o] = 255;
  return out;
}

/** Each token in the colour of the pin it is most similar to, the brighter the more similar. */
export function paintNearest(maps, colours, start, end, low, out) {
  for (let i = start, o = 0; i < end; i++, o += 4) {
    let best = 0;
    for (let p = 1; p < maps.length; p++) if (maps[p][i] > maps[best][i]) best = p;
    const bright = share(maps[best][i], low, 1);
    for (let k = 0; k < 3; k++) out[o + k] = Math.round(colours[best][k] * bright);
    out[o + 3] = 255;
  }
  return out;
}

/** One grey for `size` tokens. */
export function paintGrey(size, out) {
  for (let o = 0; o < 4 * size; o += 4) out.set([...GREY, 255], o);
  return out;
}
