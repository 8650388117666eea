// The things that *Segment* finds: their clicks in the state, their masks, and how they are drawn.

const DARK = [24, 27, 35];  // where no thing is

/** Say that the patch at a point is the present thing, or is not. */
function addClick(ex, at, is) {
  const { clicks, thing } = ex.state;
  ex.change({ clicks: [...clicks, { ...ex.pinAt(at), thing, is }] });
}

/** Forget the last click on the present thing. */
function removeClick(ex) {
  const { clicks, thing } = ex.state;
  const last = clicks.map((click) => click.thing).lastIndexOf(thing);
  ex.change({ clicks: clicks.filter((_, i) => i !== last) });
}

/** How many things there are, the one that waits for its first click included. */
const countThings = ({ clicks, thing }) => Math.max(thing, ...clicks.map((c) => c.thing)) + 1;

/** In each view each thing: {mask, areas, colours} of what is on it; without clicks {}. */
function thingsOf(ex, view) {
  const { clicks, cut } = ex.state;
  return ex.kept.things(JSON.stringify([view, clicks, cut]), () => {
    const tokens = (wanted) => clicks.filter(wanted).map((click) => tokenOf(ex, click));
    const cosineWith = (token) => similarityTo(ex, view, token).map;
    const count = Math.max(-1, ...clicks.map((click) => click.thing)) + 1;
    const things = [...Array(count).keys()].map((thing) => {
      const inside = tokens((c) => c.thing === thing && c.is);
      const outside = tokens((c) => (c.thing === thing) !== c.is);
      return inside.length ? segment(ex.views[view], inside, outside, cut, cosineWith) : {};
    });
    return separated(things).map((thing) => (thing.mask
      ? { ...thing, areas: areasOf(thing.mask, ex.steps), colours: memo() } : thing));
  });
}

/** A token that two things claim goes to the one with the higher score. */
function separated(things) {
  const found = things.filter(({ mask }) => mask);
  if (found.length < 2) return things;
  for (let i = 0; i < found[0].mask.length; i++) {
    const claims = found.filter(({ mask }) => mask[i]);
    const top = Math.max(...claims.map(({ score }) => score[i]));
    claims.forEach(({ mask, score }) => { if (score[i] < top) mask[i] = 0; });
  }
  return things;
}

/** Share of each step that a mask covers. */
function areasOf(mask, steps) {
  const perStep = mask.length / steps;
  return Float32Array.from({ length: steps }, (_, step) =>
    mask.subarray(step * perStep, (step + 1) * perStep).reduce((sum, on) => sum + on, 0) / perStep);
}

function paintThings(ex, view, from, to, out) {
  const things = thingsOf(ex, view);
  for (let i = from, o = 0; i < to; i++, o += 4) out.set([...DARK, 255], o);
  things.forEach(({ mask, colours }, thing) => {
    if (!mask) return;
    const flat = rgbOf(PIN_COLOURS[thing]);
    const shades = ex.state.alone
      ? colours(0, () => componentsOf(ex.views[view], mask)) : null;
    for (let i = from, o = 0; i < to; i++, o += 4) {
      if (!mask[i]) continue;
      for (let k = 0; k < 3; k++) out[o + k] = shades ? Math.round(255 * shades[k][i]) : flat[k];
    }
  });
  return out;
}

/** The area of each thing over time, for the curve. */
function areaSeries(ex) {
  const lines = ex.views.flatMap((_, view) => thingsOf(ex, view).flatMap(({ areas }, thing) =>
    (areas ? [{ view, values: areas, colour: PIN_COLOURS[thing], chosen: thing === ex.state.thing }]
      : [])));
  const most = Math.max(0.01, ...lines.map(({ values }) => Math.max(...values)));
  return { title: "Area over time", lines, low: 0, high: most,
    write: (value) => percent(value, most < 0.1 ? 1 : 0),
    text: lines.length ? "share of each step that is taken, by first frame"
      : "Click a thing in the picture." };
}

/** A plus or a minus at each click of a step. */
function clickMarks(ex, step) {
  return ex.state.clicks.filter((click) => click.step === step).flatMap((click) => {
    const [row, column] = cellAt(ex, click);
    const d = `M${column - 0.3} ${row + 0.5}h1.6${click.is ? "m-0.8 -0.8v1.6" : ""}`;
    return twice("path", { d }, "ring", click.is ? PIN_COLOURS[click.thing] : "#ff3b30");
  });
}

/** The things as chips: choose one, forget one, begin another. */
function thingsList(ex) {
  const { clicks, thing } = ex.state, count = countThings(ex.state);
  const chips = [...Array(count).keys()].map((i) => {
    const counts = [true, false].map((is) =>
      clicks.filter((click) => click.thing === i && click.is === is).length);
    return h("span", { class: `pin${i === thing ? " on" : ""}`, style: `--pin:${PIN_COLOURS[i]}` },
      button(`thing ${i + 1}: + ${counts[0]} − ${counts[1]}`, "add clicks to this thing",
        () => ex.change({ thing: i })),
      button("×", "forget its clicks", () => ex.change({
        clicks: clicks.filter((click) => click.thing !== i) }),
      { "aria-label": "forget its clicks", class: "remove" }));
  });
  const another = count < PIN_COLOURS.length ? [button("another thing", "begin another thing",
    () => ex.change({ thing: count }), { class: "all" })] : [];
  return [...chips, ...another];
}
