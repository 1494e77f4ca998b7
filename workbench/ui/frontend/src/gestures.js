// What keys, the pointer and clicks do to the rows of a table.

import { keyOf } from "./keys.js";
import { sweep } from "./sweep.js";

/**
 * @param {import("./layer_table.js").Table} table
 * @param {KeyboardEvent} event
 */
export function keyed(table, event) {
  if (event.target !== table.grid.root) return;
  const found = keyOf(event);
  if (!found) return;
  event.preventDefault();
  event.stopPropagation();
  const { order } = table.grid;
  const at = order.indexOf(table.selection.current);
  if (found.act === "edit" && found.action) table.edit(found.action, found.bits);
  else if (found.act === "filter") table.bar.filter.select();
  else if (found.act === "menu") table.openMenu(table.selection.current);
  else if (found.act === "move" || found.act === "page") {
    const by = (found.by ?? 0) * (found.act === "page" ? table.grid.page : 1);
    const to = Math.max(0, Math.min(order.length - 1, at + by));
    table.choose(() => table.selection.take(order, to, { extend: event.shiftKey }));
    table.grid.reveal(to);
  } else if (found.act === "toggle") {
    table.choose(() => table.selection.take(order, Math.max(at, 0), { toggle: true }));
  } else if (found.act === "all") table.choose(() => table.selection.all(order));
  else table.choose(() => table.selection.clear());
}

/**
 * @param {import("./layer_table.js").Table} table
 * @param {PointerEvent} event
 */
export function pressed(table, event) {
  const target = /** @type {Element} */ (event.target);
  const row = /** @type {HTMLElement | null} */ (target.closest(".aq-row"));
  if (event.button !== 0 || !row || target.closest("button")) return;
  event.preventDefault();
  table.grid.root.focus({ preventScroll: true });
  const { order } = table.grid;
  const toggle = event.ctrlKey || event.metaKey;
  table.choose(() => table.selection.take(order, Number(row.dataset.position), { toggle, extend: event.shiftKey }));
  sweep(table.grid, event, (to) => {
    if (order[to] !== table.selection.current) table.choose(() => table.selection.sweep(order, to, toggle));
  });
}

/**
 * @param {import("./layer_table.js").Table} table
 * @param {MouseEvent} event
 */
export function clicked(table, event) {
  const button = /** @type {Element} */ (event.target).closest("button");
  if (!button) return;
  const row = Number(/** @type {HTMLElement} */ (button.closest(".aq-row")).dataset.row);
  const rows = table.selection.rows.has(row) ? table.subject : [row];
  if (button.classList.contains("aq-lock")) {
    table.edit(table.plan.shown.locked[row] ? "unlock" : "lock", undefined, rows);
    table.grid.root.focus({ preventScroll: true });
  } else table.openMenu(row);
}
