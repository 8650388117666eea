// The tokens in two components; a box drawn there selects patches in the pictures.

const MARGIN = 22;  // at the left and at the bottom, for the names of the components

/** The range of a component over all tokens, and a little more. */
function rangeOf(view, component) {
  const plane = view.values.subarray(component * view.count, (component + 1) * view.count);
  let low = 127, high = -128;
  for (const value of plane) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const pad = Math.max(1, (high - low) * 0.04);
  return [(low - pad) * view.scale[component], (high + pad) * view.scale[component]];
}

/** {canvas, draw()} */
function scatterOf(ex) {
  const canvas = h("canvas", { class: "scattermap", tabindex: 0,
    "aria-label": "tokens in two components; Enter opens a brush" });
  const base = document.createElement("canvas"), kept = memo();
  let range = null, drag = null;

  const shownTokens = () => (ex.state.allSteps ? [0, ex.views[ex.state.view].count]
    : [ex.state.step * ex.perStep, (ex.state.step + 1) * ex.perStep]);
  const placeOf = (token) => ex.state.axes.map((c) => valueOf(ex.views[ex.state.view], c, token));
  /** Values of the two components to pixels of the canvas. */
  const toCanvas = ([x, y]) => {
    const { xs, ys, width, height } = range;
    return [MARGIN + ((x - xs[0]) / (xs[1] - xs[0])) * (width - MARGIN),
      (height - MARGIN) * (1 - (y - ys[0]) / (ys[1] - ys[0]))];
  };
  /** Where an event is, as values of the two components. */
  const toValues = (event) => {
    const [x, y] = fraction(event), { xs, ys, width, height } = range;
    const across = (x * width - MARGIN) / (width - MARGIN), down = (y * height) / (height - MARGIN);
    return [xs[0] + across * (xs[1] - xs[0]), ys[1] - down * (ys[1] - ys[0])];
  };
  /** Give a canvas the size that is shown, and a context in whose units a pixel is one of CSS. */
  const prepared = (target) => {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [range.width, range.height].map((side) => Math.round(side * ratio));
    if (target.width !== width) target.width = width;
    if (target.height !== height) target.height = height;
    const context = target.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, range.width, range.height);
    return context;
  };

  function drawAxes(context) {
    const { explained } = ex.views[ex.state.view], { width, height } = range;
    const [zeroX, zeroY] = toCanvas([0, 0]), [cx, cy] = ex.state.axes;
    const nameOf = (c) => `component ${c + 1} (${percent(explained[c], 1)}) →`;
    context.strokeStyle = ex.ink("--line");
    context.beginPath();
    context.moveTo(zeroX, 0);
    context.lineTo(zeroX, height - MARGIN);
    context.moveTo(MARGIN, zeroY);
    context.lineTo(width, zeroY);
    context.stroke();
    context.fillStyle = ex.ink("--quiet");
    context.font = "11px system-ui, sans-serif";
    context.fillText(nameOf(cx), MARGIN + 2, height - 7);
    context.save();
    context.translate(14, height - MARGIN - 2);
    context.rotate(-Math.PI / 2);
    context.fillText(nameOf(cy), 0, 0);
    context.restore();
  }

  function drawTokens(context) {
    const view = ex.views[ex.state.view], [from, to] = shownTokens(), chosen = selection(ex);
    const colours = new Uint8ClampedArray(4 * (to - from));
    paintColours(view, ex.state.rgb, from, to, colours);
    const side = to - from > 20000 ? 1.5 : to - from > 3000 ? 2.2 : 3;
    for (const strong of chosen ? [0, 1] : [1]) {
      for (let i = from; i < to; i++) {
        if (chosen && chosen[i] !== strong) continue;
        const [x, y] = toCanvas(placeOf(i)), rgb = colours.subarray(4 * (i - from));
        context.fillStyle = `rgba(${rgb[0]},${rgb[1]},${rgb[2]},${strong ? 0.9 : 0.13})`;
        context.fillRect(x - side / 2, y - side / 2, side, side);
      }
    }
  }

  function drawBase(width, height) {
    const [xs, ys] = ex.state.axes.map((c) => rangeOf(ex.views[ex.state.view], c));
    range = { xs, ys, width, height };
    const context = prepared(base);
    drawAxes(context);
    drawTokens(context);
  }

  function circle(context, token, colour, radius) {
    for (const [stroke, wide] of [["#000", 4], [colour, 2]]) {
      context.beginPath();
      context.arc(...toCanvas(placeOf(token)), radius, 0, 7);
      context.strokeStyle = stroke;
      context.lineWidth = wide;
      context.stroke();
    }
  }

  function draw() {
    const { view, axes, rgb, allSteps, step, brush, pins, active } = ex.state;
    const width = Math.max(160, canvas.clientWidth || 360);
    const height = Math.max(160, canvas.clientHeight || 240);
    const key = [view, axes, rgb, allSteps, allSteps || step, brush, width, height,
      window.devicePixelRatio, ex.ink("--ink")];
    kept(JSON.stringify(key), () => drawBase(width, height));
    const context = prepared(canvas);
    context.drawImage(base, 0, 0, width, height);
    pins.forEach((pin, i) =>
      circle(context, tokenOf(ex, pin), PIN_COLOURS[i], i === active ? 7 : 5));
    if (ex.pointer) circle(context, tokenOf(ex, ex.pointer), "#fff", 6);
    if (brush && brush.box && String(brush.axes) === String(axes)) {
      const [left, right, bottom, top] = brush.box;
      const [x, y] = toCanvas([left, top]), [toX, toY] = toCanvas([right, bottom]);
      context.strokeStyle = ex.ink("--ink");
      context.setLineDash([4, 3]);
      context.strokeRect(x, y, toX - x, toY - y);
    }
  }

  const brushTo = (box) => ex.change({ brush: { axes: [...ex.state.axes], box } });

  /** Point at the nearest token, if one is near. */
  function pointAt(event) {
    const [x, y] = toValues(event), { xs, ys } = range, [from, to] = shownTokens();
    let best = -1, least = 0.0012;
    for (let i = from; i < to; i++) {
      const [px, py] = placeOf(i);
      const off = ((px - x) / (xs[1] - xs[0])) ** 2 + ((py - y) / (ys[1] - ys[0])) ** 2;
      if (off < least) { least = off; best = i; }
    }
    if (best < 0) return ex.point(null);
    const step = Math.floor(best / ex.perStep), place = best % ex.perStep;
    const row = Math.floor(place / ex.columns), column = place % ex.columns;
    return ex.point({ step, ...centreOf(row, column, ex.clip, ex.rows, ex.columns, ex.offset) });
  }

  const moved = (event) =>
    Math.abs(event.clientX - drag.x) + Math.abs(event.clientY - drag.y) >= 4;
  on(canvas, "pointerdown", (event) => {
    if (event.button) return;
    try { canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that is gone */ }
    drag = { from: toValues(event), x: event.clientX, y: event.clientY };
  });
  on(canvas, "pointermove", (event) => {
    if (!drag) return pointAt(event);
    if (!moved(event)) return undefined;
    const [x, y] = toValues(event), [a, b] = drag.from;
    return brushTo([Math.min(a, x), Math.max(a, x), Math.min(b, y), Math.max(b, y)]);
  });
  on(canvas, "pointerup", (event) => {
    if (drag && !moved(event)) {
      if (ex.state.brush) ex.change({ brush: null });
      else if (ex.pointer) ex.choose(ex.pointer, event.shiftKey);
    }
    drag = null;
  });
  on(canvas, "pointercancel", () => { drag = null; });
  on(canvas, "pointerleave", () => { if (!drag) ex.point(null); });

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  on(canvas, "keydown", (event) => {
    const { xs, ys } = range, unitX = (xs[1] - xs[0]) / 40, unitY = (ys[1] - ys[0]) / 40;
    const box = ex.state.brush && ex.state.brush.box, arrow = ARROWS[event.key];
    if (event.key !== "Enter" && !(box && arrow)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Enter") {
      brushTo([xs[0] + 15 * unitX, xs[0] + 25 * unitX, ys[0] + 15 * unitY, ys[0] + 25 * unitY]);
      return;
    }
    const [left, right, bottom, top] = box, dx = arrow[0] * unitX, dy = arrow[1] * unitY;
    brushTo(event.shiftKey
      ? [left, Math.max(left + unitX, right + dx), bottom, Math.max(bottom + unitY, top + dy)]
      : [left + dx, right + dx, bottom + dy, top + dy]);
  });
  return { canvas, draw };
}
