// The numbers beside the pictures. Each part is {element, draw(panels)}.

const dotOf = (colour, chosen) =>
  h("i", { class: `dot${chosen ? " on" : ""}`, style: `--pin:${colour}` });

/** What stands at the patch under the pointer, or at the chosen one. */
function readoutOf(ex) {
  const element = h("div", { class: "readout" }), { page, views } = ex;
  const line = (name, ...value) => h("div", { class: "line" },
    h("span", { class: "name" }, name), h("span", { class: "value" }, ...value));
  const quiet = (text) => h("p", { class: "quiet" }, text);

  function predicted(at, step, prediction) {
    const [, rows, columns] = prediction.grid, [row, column] = patchAt(at, ex.clip, rows, columns);
    const s = stepIn(ex, prediction)(step);
    const place = s === null ? -1 : prediction.places[(s * rows + row) * columns + column];
    if (place < 0) return [line("cosine", "visible here")];
    return GUESSES.map((name, k) => line(name, fixed(prediction.cosines[k][place], 3)));
  }

  function forecast(at, step, edit) {
    const [, rows, columns] = edit.grid, [row, column] = patchAt(at, ex.clip, rows, columns);
    const s = stepIn(ex, edit)(step), token = (s * rows + row) * columns + column;
    return ["forecast moved", "by random changes"].map((name, i) =>
      line(name, s === null ? "–" : fixed(edit.maps[i][token], 3)));
  }

  function ofView(view, index, token) {
    if (ex.state.mode === "segment") {
      return thingsOf(ex, index).flatMap(({ mask, score }, thing) => (mask
        ? [dotOf(PIN_COLOURS[thing], mask[token]), fixed(score[token]), " "] : []));
    }
    if (ex.state.mode === "change") {
      return [`1 − cosine ${fixed(changeOf(ex, index).map[token], 3)}`];
    }
    if (ex.state.mode === "pixels") {
      const [c] = ex.state.pull, pull = pulled(ex, index), value = valueOf(view, c, token);
      return [pull && pull.at(token) ? `${fixed(value)} → ${fixed(value + pull.by * view.scale[c])}`
        : fixed(value)];
    }
    if (regionOf(ex)) return [fixed(query(ex, index).map[token], 3)];
    if (ex.state.pins.length) {
      return pinned(ex, index).flatMap(({ map, colour, chosen }) =>
        [dotOf(colour, chosen), fixed(map[token], 3), " "]);
    }
    return [ex.state.rgb.map((c) => fixed(valueOf(view, c, token), 2)).join(" / ")];
  }

  function draw([{ prediction, edit }]) {
    const at = ex.pointer || ex.state.pins[ex.state.active];
    if (!at) return element.replaceChildren(quiet("Point at a patch to read its numbers."));
    const step = at.step ?? ex.state.step, { frames, time } = page.steps[step];
    const [row, column] = cellAt(ex, at);
    const name = ex.pointer ? "pointer" : "chosen patch";
    const pixel = `pixel ${Math.floor(at.x)}, ${Math.floor(at.y)}`;
    const lines = [line(name, `step ${step}, row ${row}, column ${column}`),
      line("of the clip", `${framesOf(frames)}, ${time.toFixed(2)} s, ${pixel}`)];
    if (prediction) return element.replaceChildren(...lines, ...predicted(at, step, prediction));
    if (edit) return element.replaceChildren(...lines, ...forecast(at, step, edit));
    views.forEach((view, i) =>
      lines.push(line(viewName(view), ...ofView(view, i, tokenOf(ex, at)))));
    if (ex.state.mode === "segment") lines.push(quiet("score for each thing; ringed if taken"));
    else if (ex.state.mode === "pixels") lines.push(quiet(`component ${ex.state.pull[0] + 1}`));
    else if (regionOf(ex)) lines.push(quiet("mean cosine with the selected patches"));
    else if (ex.state.mode !== "change") {
      lines.push(quiet(ex.state.pins.length ? "cosine with each pin"
        : "components drawn red / green / blue"));
    }
    return element.replaceChildren(...lines);
  }
  return { element, draw };
}

/** The pins, or the things of *Segment*: click one to choose it, or take it away. */
function pinsOf(ex) {
  const element = h("div", { class: "pins" }), kept = memo();
  const chip = (pin, i) => {
    const [row, column] = cellAt(ex, pin);
    const mode = ex.state.mode === "prediction" ? "prediction" : "similarity";
    const name = `step ${pin.step}, row ${row}, column ${column}`;
    const chosen = i === ex.state.active ? " on" : "";
    return h("span", { class: `pin${chosen}`, style: `--pin:${PIN_COLOURS[i]}` },
      button(name, "compare with this patch",
        () => ex.change({ active: i, mode, step: pin.step })),
      button("×", "remove this pin", () => ex.removePin(i),
        { "aria-label": "remove this pin", class: "remove" }));
  };
  return { element, draw() {
    const { pins, active, mode, clicks, thing } = ex.state;
    kept(JSON.stringify([pins, active, mode, clicks, thing]), () => {
      if (mode === "segment") return element.replaceChildren(...thingsList(ex));
      element.replaceChildren(...pins.map(chip));
      if (pins.length > 1) {
        element.append(button("remove all", "remove all pins (Shift+X)",
          () => ex.change({ pins: [], active: 0 }), { class: "all" }));
      }
      return element;
    });
  } };
}

const DASHES = ["", "5 3", "2 2", "8 3 2 3"];  // of the lines of each view
const CURVE = { width: 420, height: 220, left: 40, right: 8, top: 10, bottom: 26 };

/** Cosine of the best match in each step, for the curve. */
function matchSeries(ex) {
  const lines = ex.views.flatMap((_, view) =>
    findings(ex, view).map((one) => ({ ...one, view, values: one.best.cosines })));
  const lowest = Math.min(...lines.map(({ values }) => Math.min(...values)));
  const low = lines.length ? Math.max(-1, Math.min(0.9, Math.floor((lowest - 0.02) * 10) / 10)) : 0;
  return { title: "Best match over time", lines, low, high: 1,
    write: (value, narrow) => fixed(value, narrow ? 3 : 2),
    text: lines.length ? "cosine of the best match in each step, by first frame"
      : "Choose a patch, or point at one in Similarity." };
}

/** What changes over time: one line for each thing that is followed, in each view. */
function curveOf(ex) {
  const { width, height, left, right, top, bottom } = CURVE, { steps } = ex;
  const heading = h("h2"), curve = h("div", { class: "curve" });
  const x = (step) => left + (width - left - right) * (steps > 1 ? step / (steps - 1) : 0.5);

  function axes(y, { low, high, write }) {
    const marks = [];
    for (let i = 0; i <= 4; i++) {
      const value = low + ((high - low) * i) / 4;
      marks.push(
        h("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
        h("text", { x: left - 6, y: y(value) + 3.5, "text-anchor": "end" },
          write(value, high - low < 0.4)));
    }
    for (let step = 0; step < steps; step += Math.max(1, Math.ceil(steps / 8))) {
      marks.push(h("text", { x: x(step), y: height - 8, "text-anchor": "middle" },
        String(ex.page.steps[step].frames[0])));
    }
    const now = x(ex.state.step);
    marks.push(h("line", { x1: now, x2: now, y1: top, y2: height - bottom, class: "now" }));
    return marks;
  }

  function drawLine({ values, view, colour, chosen, follows }, y) {
    const points = [...values].map((v, s) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
    const stroke = follows ? "var(--ink)" : colour, dash = DASHES[view % 4];
    return [
      h("polyline", { points, class: "halo", "stroke-dasharray": dash }),
      h("polyline", { points, class: `best${chosen ? "" : " thin"}`, style: `stroke:${stroke}`,
        "stroke-dasharray": dash }),
      h("circle", { cx: x(ex.state.step), cy: y(values[ex.state.step]), r: 3.5, class: "dot",
        style: `fill:${stroke}` }),
    ];
  }

  /** With several views, which dash is which, and its number now. */
  const legend = ({ lines, write }) => ex.views.map((view, v) => {
    const here = lines.filter((line) => line.view === v);
    const line = here.filter((each) => each.chosen).pop() || here[0];
    return h("span", {},
      h("svg", { viewBox: "0 0 26 6", width: 26, height: 6 }, h("line", { x1: 0, x2: 26, y1: 3,
        y2: 3, class: "key", "stroke-dasharray": DASHES[v % 4] })),
      `${viewName(view)} ${line ? write(line.values[ex.state.step], true) : "–"}`);
  });

  function draw() {
    const series = (MODES[ex.state.mode].series || matchSeries)(ex), { lines, low, high } = series;
    const y = (value) => top + (height - top - bottom) * (1 - share(value, low, high));
    const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": series.text,
      onclick(event) {
        const at = fraction(event)[0] * width;
        ex.setStep(Math.round(((at - left) / (width - left - right)) * (steps - 1)));
      } }, ...axes(y, series), ...lines.flatMap((line) => drawLine(line, y)));
    heading.textContent = series.title;
    curve.replaceChildren(svg, h("p", { class: "quiet" }, series.text));
    if (lines.length && ex.views.length > 1) {
      curve.append(h("p", { class: "quiet legend" }, ...legend(series)));
    }
  }
  return { element: h("section", { class: "card" }, heading, curve), draw };
}

const GUESS_NOTES = {
  prediction: "the predictor, from the visible patches",
  mean: "baseline: mean of all visible patches",
  nearest: "baseline: the nearest visible patch",
  "same place": "baseline: same place in the nearest step where it is visible",
};

/** The means of a prediction and its baselines. */
function numbersOf(ex) {
  const element = h("div", { class: "card numbers", hidden: true }), kept = memo();
  const line = ([name, value]) => h("div",
    { class: `guess${name === "prediction" ? " own" : ""}`, title: GUESS_NOTES[name] },
    h("span", { class: "name" }, name),
    h("span", { class: "track" }, h("i", { style: `width:${100 * share(value ?? 0, 0, 1)}%` })),
    h("span", { class: "value" }, fixed(value ?? NaN, 3)));
  return { element, draw([{ prediction }]) {
    element.hidden = !prediction;
    if (!prediction) return;
    kept(prediction, () => {
      const { name, means, frames, picture } = prediction;
      const first = frames[0][0], last = frames[frames.length - 1][1];
      element.replaceChildren(h("h2", {}, `Mean cosine at the hidden patches: ${name}`),
        ...means.map(line), h("p", { class: "quiet" },
          `${percent(prediction.share)} hidden; the prediction beats all three baselines at `
          + `${percent(prediction.beaten)} of the hidden patches. The baselines copy features that `
          + `saw the whole clip, the prediction did not. ${prediction.encoder}, `
          + `${picture[1]}×${picture[0]}, frames ${first} to ${last} encoded jointly.`));
    });
  } };
}
