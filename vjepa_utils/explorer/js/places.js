// Points in pixels of the clip, (x, y), patches, (row, column), and regions of them.

/** (row, column) of the patch under a point of the clip; the first begins at `offset` patches. */
export function patchAt({ x, y }, clip, rows, columns, offset = 0) {
  const at = (value, length, count) =>
    Math.min(count - 1, Math.max(0, Math.floor((value / length) * count - offset)));
  return [at(y, clip.height, rows), at(x, clip.width, columns)];
}

/** The point in pixels of the clip at the centre of a patch. */
export function centreOf(row, column, clip, rows, columns, offset = 0) {
  const [x, y] = [column, row].map((at) => at + 0.5 + offset);
  return { x: (x * clip.width) / columns, y: (y * clip.height) / rows };
}

/**
 * Which tokens a brush selects: Uint8Array (count) of 0 and 1.
 * {axes: [x, y], box: [left, right, bottom, top]} in units of two components, over all steps, or
 * {step, rect: [top, left, bottom, right]} in patches of one step, the last ones included.
 */
export function brushed(view, brush) {
  const { values, count, scale, perStep, columns } = view;
  const out = new Uint8Array(count);
  if (brush.rect) {
    const [top, left, bottom, right] = brush.rect;
    for (let row = top; row <= bottom; row++) {
      const start = brush.step * perStep + row * columns;
      out.fill(1, start + left, start + right + 1);
    }
    return out;
  }
  const [cx, cy] = brush.axes, [left, right, bottom, top] = brush.box;
  for (let i = 0; i < count; i++) {
    const x = values[cx * count + i] * scale[cx], y = values[cy * count + i] * scale[cy];
    out[i] = x >= left && x <= right && y >= bottom && y <= top ? 1 : 0;
  }
  return out;
}

/** The patches on a straight way from one patch to another, both included. */
export function patchesBetween([row, column], [toRow, toColumn]) {
  const many = Math.max(1, Math.abs(toRow - row), Math.abs(toColumn - column));
  return [...Array(many + 1).keys()].map((i) => [
    Math.round(row + ((toRow - row) * i) / many),
    Math.round(column + ((toColumn - column) * i) / many),
  ]);
}
