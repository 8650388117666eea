// What the pointer does in a picture: a table of tools. A tool is clicked, or it is dragged:
// `start` gives what `move` is given back.

const TOOLS = {
  point: {
    name: "Choose",
    click(ex, at, { shiftKey }) {
      const { click } = MODES[ex.state.mode];
      if (click) click(ex, at, shiftKey);
      else ex.choose(at, shiftKey);
    },
  },
  pin: {
    name: "Pin",
    hint: "Each click pins another patch, in a colour of its own.",
    offered: (ex) => ex.state.mode !== "segment",
    click: (ex, at) => ex.choose(at, true),
  },
  not: {
    name: "Not this",
    hint: "Click what is wrongly taken for the thing.",
    offered: (ex) => ex.state.mode === "segment",
    click: (ex, at) => addClick(ex, at, false),
  },
  select: {
    name: "Select",
    hint: "Drag over the picture to select patches; the scatter shows them, and a brush there "
      + "selects them here. In Similarity they are what all others are compared with.",
    holds: true,  // Enter begins, and another Enter ends
    start: (ex, at) => ({ from: cellAt(ex, at) }),
    move(ex, { from: [r, c] }, at) {
      const [row, column] = cellAt(ex, at);
      const rect = [Math.min(r, row), Math.min(c, column), Math.max(r, row), Math.max(c, column)];
      ex.change({ brush: { step: ex.state.step, rect } });
    },
  },
  move: EDIT,
  hide: {
    name: "Hide",
    hint: "Drag over the picture to hide patches; when you let go, the predictor recovers them.",
    offered: (ex) => Boolean(ex.kernel),
    start(ex, at) {
      ex.painted = ex.painted || new Uint8Array(ex.steps * ex.perStep);
      return { value: ex.painted[tokenOf(ex, { x: at.x, y: at.y })] ? 0 : 1, last: at };
    },
    move(ex, drag, at) {
      const patches = [drag.last, at].map((p) => cellAt(ex, p));
      patchesBetween(...patches).forEach((patch) => paintPatch(ex, patch, drag.value));
      drag.last = at;
      ex.draw();
    },
    end: (ex) => sendMask(ex),
  },
};

const CLICK = 5;  // pixels of the screen that a click may move

const offersTool = (ex, tool) => !TOOLS[tool].offered || TOOLS[tool].offered(ex);

function paintPatch(ex, [row, column], value) {
  const radius = (ex.brushSize - 1) / 2;
  const [top, left] = [row, column].map((at) => Math.max(0, at - radius));
  const bottom = Math.min(ex.rows - 1, row + radius);
  const right = Math.min(ex.columns - 1, column + radius);
  for (let step = 0; step < ex.steps; step++) {
    if (!ex.through && step !== ex.state.step) continue;
    for (let r = top; r <= bottom; r++) {
      const start = step * ex.perStep + r * ex.columns;
      ex.painted.fill(value, start + left, start + right + 1);
    }
  }
}

function sendMask(ex) {
  if (ex.painted && !ex.painted.some((hidden) => hidden)) ex.painted = null;
  ex.kernel.set("mask", ex.painted && [...ex.painted]);
}

/** Listeners of a picture. */
function pointing(ex) {
  const place = (event) => {
    const [x, y] = fraction(event);
    return { x: x * ex.clip.width, y: y * ex.clip.height };
  };
  const end = () => {
    if (ex.drag && TOOLS[ex.tool].end) TOOLS[ex.tool].end(ex, ex.drag);
    ex.drag = null;
  };
  return {
    onpointermove(event) {
      ex.point(place(event));
      if (ex.drag) TOOLS[ex.tool].move(ex, ex.drag, place(event));
    },
    onpointerleave() { if (!ex.drag) ex.point(null); },
    onpointerdown(event) {
      if (event.button) return;
      const at = place(event), tool = TOOLS[ex.tool], picture = event.currentTarget;
      ex.point(at);
      ex.pressed = [event.clientX, event.clientY];
      picture.focus({ preventScroll: true });
      if (!tool.start) return;
      event.preventDefault();
      try { picture.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone */ }
      ex.drag = tool.start(ex, at);
      tool.move(ex, ex.drag, at);
    },
    onpointerup: end,
    onpointercancel: end,
    onclick(event) {
      const { click } = TOOLS[ex.tool], [x, y] = ex.pressed || [event.clientX, event.clientY];
      ex.pressed = null;
      const dragged = Math.hypot(event.clientX - x, event.clientY - y) > CLICK;
      if (click && !dragged) click(ex, place(event), event);
    },
  };
}
