// What lies over a picture: rings, squares, outlines, and the veil over what is hidden or not
// selected. One unit of a picture's SVG is one patch.

const twice = (tag, shape, name, stroke) => [
  h(tag, { ...shape, class: "under" }), h(tag, { ...shape, class: name, stroke }),
];
const ring = (x, y, radius, colour, chosen) =>
  twice("ellipse", { cx: x + 0.5, cy: y + 0.5, rx: radius, ry: radius },
    chosen ? "ring" : "ring thin", colour);
const square = (x, y, colour, name = "ring") =>
  twice("rect", { x, y, width: 1, height: 1 }, name, colour);

/** The border of a hidden region in one step. */
function outline({ hidden, rows, columns }, step) {
  const at = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns
    && Boolean(hidden[(step * rows + row) * columns + column]);
  let d = "";
  for (let row = 0; row <= rows; row++) {
    for (let column = 0; column <= columns; column++) {
      if (at(row, column) !== at(row - 1, column)) d += `M${column} ${row}h1`;
      if (at(row, column) !== at(row, column - 1)) d += `M${column} ${row}v1`;
    }
  }
  return h("g", {}, ...twice("path", { d }, "region"));
}

/** Rings on what the pins find in one step of a view, `left` patches further to the right. */
function ringsOf(ex, view, step, { left = 0, radius, squares = false }) {
  return findings(ex, view).flatMap(({ token, best, colour, chosen }) => {
    const here = Math.floor(token / ex.perStep) === step, at = here ? token : best.tokens[step];
    const row = Math.floor((at % ex.perStep) / ex.columns), column = left + (at % ex.columns);
    return here && squares ? square(column, row, colour)
      : ring(column, row, radius, colour, chosen);
  });
}

/** Squares on the pins of a step. */
const pinMarks = (ex, step) => ex.state.pins.flatMap((pin, i) => {
  const [row, column] = cellAt(ex, pin);
  return pin.step === step ? square(column, row, PIN_COLOURS[i]) : [];
});

function marksOf(ex, panel, step) {
  const { state, pointer } = ex, { brush } = state, mode = MODES[state.mode], marks = [];
  if (panel.outlined && step !== null) marks.push(outline(panel, step));
  if (panel.view !== undefined && mode.rings !== false) {
    const radius = Math.max(1.1, 0.028 * Math.min(ex.rows, ex.columns) + 0.5);
    marks.push(...ringsOf(ex, panel.view, step, { radius, squares: true }));
  }
  const drag = ex.tool === "move" && (ex.drag || ex.held);
  if (drag) marks.push(...moveMarks(ex, drag));
  if (mode.marks) marks.push(...mode.marks(ex, state.step));
  if (brush && brush.rect && brush.step === state.step && panel.view !== undefined) {
    const [y, x, bottom, right] = brush.rect;
    marks.push(h("rect", { x, y, width: right - x + 1, height: bottom - y + 1, class: "brush" }));
  }
  if (pointer && (pointer.step ?? ex.pointedIn) === state.step) {
    const [row, column] = panel.view === undefined
      ? patchAt(pointer, ex.clip, panel.rows, panel.columns) : cellAt(ex, pointer);
    marks.push(...square(column, row, "#fff", "pointer"));
  }
  return marks;
}

const VEIL = { hidden: [...GREY, 235], painted: [...GREY, 215], unselected: [12, 14, 20, 190] };

function veilOf(ex, panel, step) {
  const image = new ImageData(panel.columns, panel.rows), size = panel.rows * panel.columns;
  const isView = panel.view !== undefined, selected = isView ? unveiled(ex) : null;
  const here = ex.state.step * ex.perStep;
  const paints = ex.painted && size === ex.perStep && panel.columns === ex.columns
    && (panel.veiled || (isView && ex.tool === "hide"));
  for (let i = 0; i < size; i++) {
    let veil = null;
    if (selected && !selected[here + i]) veil = VEIL.unselected;
    if (panel.veiled && step !== null && panel.hidden[step * size + i]) {
      veil = VEIL.hidden;
    }
    if (paints && ex.painted[here + i]) veil = VEIL.painted;
    if (veil) image.data.set(veil, 4 * i);
  }
  return image;
}
