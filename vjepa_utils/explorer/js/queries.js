// What an explorer (`ex`, see explorer.js) is asked about its tokens. A point is {x, y}, in pixels
// of the clip, with the step where it is if that is not the one that is shown.

const tokenOf = (ex, point) => {
  const [row, column] = patchAt(point, ex.clip, ex.rows, ex.columns);
  return (point.step ?? ex.state.step) * ex.perStep + row * ex.columns + column;
};

/** Cosine of a token with all tokens of a view, and the best match of each step. */
const similarityTo = (ex, view, token) => ex.kept.maps(`${view}/${token}`, () => {
  const map = cosineMap(ex.views[view], token);
  return { map, token, best: bestMatches(map, ex.perStep) };
});

const pinned = (ex, view) => ex.state.pins.map((pin, i) => ({
  ...similarityTo(ex, view, tokenOf(ex, pin)), chosen: i === ex.state.active,
  colour: PIN_COLOURS[i],
}));

const followsPointer = (ex) => ex.pointer && (ex.state.live || !ex.state.pins.length);

/** What every token is compared with in *Similarity*: the pointer or the chosen pin; or null. */
function query(ex, view) {
  const point = followsPointer(ex) ? ex.pointer : ex.state.pins[ex.state.active];
  return point ? similarityTo(ex, view, tokenOf(ex, point)) : null;
}

/** Pins, and the pointer while similarity follows it, with what they find in a view. */
function findings(ex, view) {
  const follows = { colour: "#ffffff", chosen: true, follows: true };
  return followsPointer(ex) ? [...pinned(ex, view), { ...query(ex, view), ...follows }]
    : pinned(ex, view);
}

const showsNearest = (ex) =>
  ex.state.nearest && ex.state.pins.length > 1 && !followsPointer(ex);

const changeOf = (ex, view) => ex.kept.changes(view, () => {
  const map = changeMap(ex.views[view]);
  return { map, top: Math.max(percentile(map, 0.99) || 0, 1e-6) };
});

/** The tokens that the brush selects, or null. */
function selection(ex) {
  const { brush, view } = ex.state;
  if (!brush) return null;
  return ex.kept.selection(JSON.stringify([brush, view]), () => brushed(ex.views[view], brush));
}

/** The value of a component at a token, in its own units. */
const valueOf = (view, component, token) =>
  view.values[component * view.count + token] * view.scale[component];
