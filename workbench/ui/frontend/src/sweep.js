// A pointer that is held down over the rows, until it is let go: each position it comes to; past an edge they scroll.

/**
 * @param {import("./grid.js").Grid} grid
 * @param {PointerEvent} event that began it
 * @param {(position: number) => void} visit
 */
export function sweep(grid, { clientY }, visit) {
  const { body, root, top } = grid;
  let y = clientY;
  const move = (/** @type {PointerEvent} */ moved) => {
    y = moved.clientY;
    visit(grid.positionAt(y));
  };
  const scroll = setInterval(() => {
    const frame = root.getBoundingClientRect();
    const past = y > frame.bottom - 4 ? 1 : y < frame.top + top.offsetHeight ? -1 : 0;
    if (!past) return;
    root.scrollTop += past * 26;
    visit(grid.positionAt(y));
  }, 40);
  const end = () => {
    clearInterval(scroll);
    body.ownerDocument.removeEventListener("pointermove", move);
  };
  body.ownerDocument.addEventListener("pointermove", move);
  body.ownerDocument.addEventListener("pointerup", end, { once: true });
  body.ownerDocument.addEventListener("pointercancel", end, { once: true });
}
