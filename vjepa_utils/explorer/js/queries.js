// What an explorer (`ex`, see explorer.js) is asked about its tokens. A point is {x, y}, in pixels
// of the clip, with the step where it is if that is not the one that is shown.

/** (row, column) of the token at a point. */
const cellAt = (ex, point) => patchAt(point, ex.clip, ex.rows, ex.columns, ex.offset);

const tokenOf = (ex, point) => {
  const [row, column] = cellAt(ex, point);
  return (point.step ?? ex.state.step) * ex.perStep + row * ex.columns + column;
};

/** Cosine of a token, or of several, with all tokens of a view; the best match of each step. */
const similarityTo = (ex, view, token) => ex.kept.maps(`${view}/${token}`, () => {
  const map = cosineMap(ex.views[view], token);
  return { map, token: Array.isArray(token) ? -1 : token, best: bestMatches(map, ex.perStep) };
});

const pinned = (ex, view) => ex.state.pins.map((pin, i) => ({
  ...similarityTo(ex, view, tokenOf(ex, pin)), chosen: i === ex.state.active,
  colour: PIN_COLOURS[i],
}));

/** In *Similarity* the tokens of a region that is selected in a picture; or null. */
function regionOf(ex) {
  const { mode, brush } = ex.state;
  if (mode !== "similarity" || !brush || !brush.rect) return null;
  const { step, rect: [top, left, bottom, right] } = brush, tokens = [];
  for (let row = top; row <= bottom; row++) {
    for (let c = left; c <= right; c++) tokens.push(step * ex.perStep + row * ex.columns + c);
  }
  return tokens;
}

const followsPointer = (ex) =>
  ex.pointer && !regionOf(ex) && (ex.state.live || !ex.state.pins.length);

/** What tokens are compared with in *Similarity*: region, pointer or chosen pin; or null. */
function query(ex, view) {
  const region = regionOf(ex);
  if (region) return similarityTo(ex, view, region);
  const point = followsPointer(ex) ? ex.pointer : ex.state.pins[ex.state.active];
  return point ? similarityTo(ex, view, tokenOf(ex, point)) : null;
}

/** Pins, a region, and the pointer while it is followed, with what they find in a view. */
function findings(ex, view) {
  const follows = { colour: "#ffffff", chosen: true, follows: true };
  const more = regionOf(ex) || followsPointer(ex) ? [{ ...query(ex, view), ...follows }] : [];
  return [...pinned(ex, view), ...more];
}

const showsNearest = (ex) =>
  ex.state.nearest && ex.state.pins.length > 1 && !followsPointer(ex) && !regionOf(ex);

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

/** The selected tokens where others are veiled: not where they are compared. */
const unveiled = (ex) => (regionOf(ex) ? null : selection(ex));

/** The value of a component at a token, in its own units. */
const valueOf = (view, component, token) =>
  view.values[component * view.count + token] * view.scale[component];
