// What an explorer shows, as one table: FIELDS has the first value of each part of the state, and
// how it stands in the address after #. FLAGS are the parts that are on or off.

/** Each flag: its key, its name beside a box, and what it does. */
export const FLAGS = {
  above: { key: "f", label: "frame above",
    help: "draw the frame above the overlay, keeping its colours" },
  live: { key: "l", label: "follow the pointer",
    help: "similarity follows the pointer, even when a patch is chosen" },
  nearest: { key: "a", label: "nearest pin",
    help: "each token in the colour of the pin that it is most similar to" },
  unit: { key: "u", label: "0 to 1",
    help: "similarity from 0 to 1; otherwise black is the clip's 5th percentile" },
  alone: { key: "o", label: "its colours alone",
    help: "segment: colour a thing by the three components of its own tokens" },
  guided: { key: "e", label: "guided by the frame",
    help: "for display: upsample the map and let it follow the outlines of the frame" },
  allSteps: { key: "t", label: "all steps", help: "scatter: tokens of all steps, or of this one" },
};

const number = (word) => (word.trim() === "" ? NaN : Number(word));
const numbers = (word) => word.split(",").map(number);
const whole = (word, below) =>
  (/^\d+$/.test(word) && Number(word) < below ? Number(word) : undefined);
const rounded = (value) => Number(value.toPrecision(4));

/** Components, counted from 1 in the address. */
const components = (first) => ({
  first,
  write: (chosen) => chosen.map((c) => c + 1).join("."),
  read(word, limits) {
    const chosen = word.split(".").map((part) => whole(part, limits.components + 1));
    return chosen.length === first.length && chosen.every((c) => c)
      ? chosen.map((c) => c - 1) : undefined;
  },
});
const axes = components([0, 1]);
const counted = (limit) => ({ first: 0, read: (word, limits) => whole(word, limits[limit]) });

const pins = {
  first: [],
  write: (list) => list.map((p) => [p.step, ...[p.x, p.y].map((v) => Math.round(v * 10) / 10)]
    .join(",")).join(";"),
  read: (word, { steps, clip }) => word.split(";").slice(0, PIN_COLOURS.length).map(numbers)
    .filter(([step, x, y, ...more]) => Number.isInteger(step) && step >= 0 && step < steps
      && x >= 0 && x <= clip.width && y >= 0 && y <= clip.height && !more.length)
    .map(([step, x, y]) => ({ step, x, y })),
};

/** A brush in the picture is step,top,left,bottom,right; one in the scatter is x.y,box. */
const brush = {
  first: null,
  write: ({ step, rect, axes: which, box }) => (rect ? [step, ...rect]
    : [axes.write(which), ...box.map(rounded)]).join(","),
  read(word, limits) {
    const [which, ...edges] = word.split(",");
    const inScatter = axes.read(which, limits), box = edges.map(number);
    if (box.length !== 4 || !box.every(Number.isFinite)) return undefined;
    if (inScatter) return { axes: inScatter, box };
    const step = whole(which, limits.steps), [top, left, bottom, right] = box;
    const inside = box.every((v) => Number.isInteger(v) && v >= 0) && step !== undefined
      && top <= bottom && bottom < limits.rows && left <= right && right < limits.columns;
    return inside ? { step, rect: box } : undefined;
  },
};

/** Clicks of *Segment*: what is, or is not, which thing. */
const clicks = {
  first: [],
  write: (list) => list.map((click) => [pins.write([click]), click.thing, Number(click.is)].join())
    .join(";"),
  read: (word, limits) => word.split(";").flatMap((text) => {
    const [, place, thing, is] = /^(.*),(\d),([01])$/.exec(text) || [];
    const [pin] = place ? pins.read(place, limits) : [];
    return pin && Number(thing) < PIN_COLOURS.length
      ? [{ ...pin, thing: Number(thing), is: is === "1" }] : [];
  }),
};

export const FIELDS = {
  step: counted("steps"),
  mode: { first: "colours", read: (word, { modes }) => (modes.includes(word) ? word : undefined) },
  rgb: components([0, 1, 2]),
  overlay: { first: 0.8, write: (value) => Math.round(100 * value),
    read: (word) => (whole(word, 101) === undefined ? undefined : Number(word) / 100) },
  pins,
  active: { first: 0, read: (word, limits, state) => whole(word, state.pins.length) },
  view: counted("views"),
  axes,
  mask: counted("masks"),
  brush,
  clicks,
  thing: { first: 0, read: (word) => whole(word, PIN_COLOURS.length) },
  shown: { first: 64, read: (word) => whole(word, 65) || undefined },
  pull: { first: [0, 0], write: ([component, by]) => `${component + 1}_${by}`,
    read(word, limits) {
      const [component, by] = word.split("_").map(number);
      return whole(String(component - 1), limits.components) !== undefined && Math.abs(by) <= 1
        ? [component - 1, by] : undefined;
    } },
  cut: { first: 0, read: (word) => (Math.abs(number(word)) <= 1 ? number(word) : undefined) },
  ...Object.fromEntries(Object.keys(FLAGS).map((name) => [name, {
    first: false, write: Number, read: (word) => (word === "1" ? true : undefined),
  }])),
};

/** What a new explorer shows. */
export const initialState = () =>
  Object.fromEntries(Object.entries(FIELDS).map(([name, field]) =>
    [name, Array.isArray(field.first) ? [...field.first] : field.first]));

/** What a state may refer to in a page, for `fromAddress`. */
export function limitsOf(page) {
  const [, rows, columns] = page.views[0].grid, masks = (page.predictions || []).length;
  return {
    steps: page.steps.length, rows, columns, clip: page.clip, views: page.views.length, masks,
    components: Math.min(...page.views.map((view) => view.components)),
    modes: Object.keys(MODES).filter((name) => (name !== "prediction" || masks) && name !== "edit"
      && (name !== "pixels" || page.views.every((view) => view.pixels))),
  };
}

/** The state as the part of the address after #: what differs from a new explorer's. */
export function toAddress(state) {
  const words = Object.entries(FIELDS).filter(([name, { first }]) =>
    JSON.stringify(state[name]) !== JSON.stringify(first));
  return words.map(([name, { write = String }]) => `${name}=${write(state[name])}`).join("&");
}

/** The state that an address asks for, as far as this page can show it; nonsense is left out. */
export function fromAddress(text, page) {
  const state = initialState(), limits = limitsOf(page);
  const words = new Map(text.replace(/^#/, "").split("&").map((part) => part.split("=", 2)));
  for (const [name, { read }] of Object.entries(FIELDS)) {
    if (words.has(name)) state[name] = read(words.get(name) ?? "", limits, state) ?? state[name];
  }
  return state;
}
