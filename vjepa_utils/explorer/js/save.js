// The pictures that are shown as one PNG: with their marks, colour bars, and what they are of.

const SHEET = { gap: 16, line: 24, bar: 34, font: "system-ui, sans-serif" };

/** Draw an SVG's outlines, whose unit is a patch, at `scale` pixels a patch. */
function drawMarks(context, svg, scale, thickness) {
  for (const shape of svg.querySelectorAll("ellipse, rect, path")) {
    const at = (name) => Number(shape.getAttribute(name)), path = new Path2D();
    const style = getComputedStyle(shape), whole = new Path2D();
    if (shape.tagName === "ellipse") path.ellipse(at("cx"), at("cy"), at("rx"), at("ry"), 0, 0, 7);
    else if (shape.tagName === "rect") path.rect(at("x"), at("y"), at("width"), at("height"));
    else path.addPath(new Path2D(shape.getAttribute("d")));
    whole.addPath(path, new DOMMatrix([scale[0], 0, 0, scale[1], 0, 0]));
    context.strokeStyle = style.stroke;
    context.lineWidth = thickness * parseFloat(style.strokeWidth);
    context.stroke(whole);
  }
}

/** One picture as it is seen, its upper left corner at the origin. */
function drawPicture(context, element, width, height) {
  const [frame, map, veil] = ["frame", "map", "veil"].map((name) =>
    element.querySelector(`canvas.${name}`));
  const scale = [width / veil.width, height / veil.height];
  const shift = scale.map((size) => size * (element.dataset.offset || 0));
  const layer = (canvas, { alpha = 1, blend = "source-over", smooth = false, at = [0, 0] }) => {
    Object.assign(context, { globalAlpha: alpha, globalCompositeOperation: blend,
      imageSmoothingEnabled: smooth, imageSmoothingQuality: "high" });
    context.drawImage(canvas, ...at, width, height);
  };
  const above = frame.classList.contains("above"), alpha = Number(map.style.opacity);
  context.save();
  context.beginPath();
  context.rect(0, 0, width, height);
  context.clip();
  context.fillStyle = "#0c0e13";
  context.fillRect(0, 0, width, height);
  if (!above) layer(frame, { smooth: true });
  layer(map, { alpha, at: map.classList.contains("guided") ? [0, 0] : shift });
  if (above) layer(frame, { blend: "luminosity", smooth: true });
  layer(veil, { at: shift });
  context.globalCompositeOperation = "source-over";
  context.translate(...shift);
  drawMarks(context, element.querySelector("svg"), scale, width / element.clientWidth);
  context.restore();
}

/** The scale of a picture: its ends as numbers, and what is measured; or a sentence. */
function drawScale(context, { text, low, high, label: name, plain }) {
  if (text) return context.fillText(text, 0, 0);
  const ends = [low, high].map((value) => fixed(value, high - low < 0.2 ? 3 : 2));
  const left = context.measureText(`${ends[0]} `).width, fill = context.fillStyle;
  const gradient = context.createLinearGradient(left, 0, left + 140, 0);
  const colours = barColours(plain);
  colours.forEach((colour, i) => gradient.addColorStop(i / (colours.length - 1), colour));
  context.fillText(ends[0], 0, 0);
  context.fillStyle = gradient;
  context.fillRect(left, -9, 140, 9);
  context.fillStyle = fill;
  return context.fillText(` ${ends[1]} ${name}`, left + 140, 0);
}

/** All pictures of the step that is shown, on one canvas. */
function sheetOf(ex) {
  const panels = panelsOf(ex), elements = [...ex.body.querySelectorAll(".picture")];
  const width = Math.max(480, ex.pictures[0].width), { gap, line, bar, font } = SHEET;
  const height = Math.round((width * ex.clip.height) / ex.clip.width);
  const sheet = h("canvas", { width: gap + panels.length * (width + gap),
    height: 2 * gap + 2 * line + height + bar });
  const context = sheet.getContext("2d");
  context.fillStyle = ex.ink("--ground");
  context.fillRect(0, 0, sheet.width, sheet.height);
  const write = (text, x, y, style = "") => {
    context.fillStyle = ex.ink("--ink");
    context.font = `${style} 15px ${font}`;
    context.fillText(text, x, y);
  };
  write(`${ex.clip.name} · ${stepName(ex)} · ${MODES[ex.state.mode].name}`, gap, gap + 15);
  panels.forEach((panel, i) => {
    const left = gap + i * (width + gap), top = gap + 2 * line;
    write(panel.title, left, top - 8, "600");
    context.save();
    context.translate(left, top);
    drawPicture(context, elements[i], width, height);
    context.translate(0, height + 22);
    context.fillStyle = ex.ink("--quiet");
    context.font = `13px ${font}`;
    drawScale(context, panel.bar);
    context.restore();
  });
  return sheet;
}

async function savePicture(ex) {
  const blob = await new Promise((done) => { sheetOf(ex).toBlob(done, "image/png"); });
  const href = URL.createObjectURL(blob), name = ex.clip.name.replace(/\.\w+$/, "");
  h("a", { href, download: `${name} step ${ex.state.step} ${ex.state.mode}.png` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10000);
}
