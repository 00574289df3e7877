// What tools do to a square of cells. A cell has one value and nothing in between: no edge is ever blended.

// Give a value to all cells within size / 2 of the way from one cell to another, measured between their centres.
export function stroke(cells, side, from, to, size, value) {
  const radius = size / 2 + 1e-6, [x0, y0] = from, [x1, y1] = to;
  const [dx, dy] = [x1 - x0, y1 - y0], length = dx * dx + dy * dy;
  const least = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - radius));
  const most = (a, b) => Math.min(side - 1, Math.ceil(Math.max(a, b) + radius));
  for (let y = least(y0, y1); y <= most(y0, y1); y++) {
    for (let x = least(x0, x1); x <= most(x0, x1); x++) {
      const part = length ? Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length)) : 0;
      if (Math.hypot(x - x0 - part * dx, y - y0 - part * dy) <= radius) cells[y * side + x] = value;
    }
  }
}

// Give a value to the area around a cell, as far as cells with an edge in common have one value.
export function fill(cells, side, [x, y], value) {
  const start = y * side + x, old = cells[start];
  if (old === value) return;
  const open = [start];
  cells[start] = value;
  while (open.length) {
    const cell = open.pop(), column = cell % side;
    for (const [next, inside] of [
      [cell - 1, column > 0], [cell + 1, column < side - 1], [cell - side, cell >= side], [cell + side, true],
    ]) {
      if (inside && cells[next] === old) {
        cells[next] = value;
        open.push(next);
      }
    }
  }
}
