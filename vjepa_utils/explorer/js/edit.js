// Drag a patch to another place, and see whether the forecast of the next steps moves.

/** An answer of the kernel, decoded: two `maps`, moved and by random changes; NaN where visible. */
export async function decodeEdit(edit) {
  const [hidden, moved, random] = await Promise.all(
    ["hidden", "moved", "random"].map((name) => inflate(bytes(edit[name]))),
  );
  const [from, to] = edit.points.map(([x, y]) => ({ x, y }));
  const maps = [moved, random].map((map) => new Float32Array(map.buffer));
  return { ...edit, from, to, hidden, maps };
}

const EDIT = {
  name: "Move",
  hint: "Drag a patch to another place: its features are put there, in this step and those before, "
    + "and the predictor forecasts the next ones.",
  offered: (ex) => Boolean(ex.kernel),
  holds: true,
  start: (ex, at) => ({ from: at, to: at }),
  move(ex, drag, at) {
    drag.to = at;
    ex.draw();
  },
  end(ex, { from, to }) {
    if (tokenOf(ex, from) === tokenOf(ex, to)) return;
    ex.kernel.set("edit", [from, to].map((at) => [at.x, at.y]));
    ex.say("Forecasting …", true);
  },
};

/** A line from the patch that is taken to the square where it is put. */
function moveMarks(ex, { from, to }) {
  const [a, b] = [from, to].map((at) => cellAt(ex, at));
  const d = `M${a[1] + 0.5} ${a[0] + 0.5}L${b[1] + 0.5} ${b[0] + 0.5}`;
  return [...twice("path", { d }, "ring thin", PIN_COLOURS[0]),
    ...square(b[1], b[0], PIN_COLOURS[0])];
}

/** What was moved, how far the forecast moved, and how far random changes move it. */
function editPanels(ex, edit) {
  const { grid: [, rows, columns], means, maps, hidden } = edit, size = rows * columns;
  const high = Math.max(1e-6, ...maps.map((map) => percentile(map, 1)));
  const shared = { rows, columns, hidden, stepOf: stepIn(ex, edit), full: edit.encoder, edit };
  const panel = (i, title) => ({ ...shared, key: title, strong: true, title,
    bar: { low: 0, high, label: `1 − cosine with the forecast before, mean ${means[i]}` },
    paint: known(size, (from, to, out) => paintHeat(maps[i], from, to, 0, high, out)) });
  return [{ ...shared, key: "changed", title: "moved, and what is forecast", veiled: true,
    paint: (step, out) => out, bar: { text: "grey: forecast, not shown to the encoder" } },
  panel(0, "forecast moved"), panel(1, "by random changes of equal length")];
}
