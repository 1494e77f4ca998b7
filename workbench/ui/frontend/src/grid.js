// The rows on screen: a header that stays, a pool of row elements, and as much empty height as there are layers.

import { element } from "./dom.js";
import { ALONG_ROW, KEY } from "./keys.js";

export const ROW = 26;
const SPARE = 6;
let made = 0;

/** @typedef {import("./types.js").Column} Column */

/**
 * @typedef {object} GridOptions
 * @property {string} label
 * @property {(row: HTMLElement, layer: number) => void} paint
 * @property {(key: string) => void} onSort
 * @property {(key: string, width: number | null) => void} onResize
 * @property {(title: string) => void} onRemove
 * @property {(act: import("./types.js").Arrangement, key?: string) => void} onArrange
 */

/** @type {Partial<Record<string, import("./types.js").Arrangement>>} keys on a header */
const ARRANGEMENTS = { "<": "left", ">": "right", h: "hide", m: "menu", ContextMenu: "menu" };

/**
 * What a cell of the header is sorted by.
 * @param {HTMLElement} cell
 */
const buttonOf = (cell) => /** @type {HTMLButtonElement} */ (cell.firstElementChild);

export class Grid {
  id = `aq${++made}`;
  /** @type {{ element: HTMLElement, position: number }[]} row elements, of which each shows a position */
  pool = [];
  /** @type {number[]} rows, as they are shown */
  order = [];
  /** @type {Column[]} */
  columns = [];
  /** @type {number[]} pixels of each column */
  widths = [];
  /** @type {Record<string, number>} widths that were chosen by hand, by key */
  chosen = {};
  /** @type {number | undefined} */
  frame;

  /** @param {GridOptions} options */
  constructor({ label, paint, onSort, onResize, onRemove, onArrange }) {
    this.paint = paint;
    this.onSort = onSort;
    this.onResize = onResize;
    this.onRemove = onRemove;
    this.onArrange = onArrange;
    this.header = element("div", "aq-row aq-header");
    this.header.setAttribute("role", "row");
    this.header.setAttribute("aria-rowindex", 1);
    this.body = element("div", "aq-body");
    this.body.setAttribute("role", "rowgroup");
    this.top = element("div", "aq-top", {}, this.header);
    this.top.setAttribute("role", "rowgroup");
    this.empty = element("div", "aq-empty", { textContent: "No layer matches the filter." });
    this.root = element("div", "aq-grid", { tabIndex: 0 }, this.top, this.body, this.empty);
    this.root.setAttribute("role", "grid");
    this.root.setAttribute("aria-label", label);
    this.root.setAttribute("aria-multiselectable", true);
    this.root.addEventListener("scroll", () => this.later(), { passive: true });
    this.header.addEventListener(KEY, (event) => this.headerKey(event));
    this.header.addEventListener("contextmenu", (event) => {
      event.preventDefault();
      this.onArrange("menu", this.columnAt(event.target)?.key);
    });
    this.watch = new ResizeObserver(() => {
      this.size();
      this.later();
    });
    this.watch.observe(this.root);
  }

  // Draws in the next frame, once however often it is asked.
  later() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  close() {
    this.watch.disconnect();
    if (this.frame) cancelAnimationFrame(this.frame);
  }

  /**
   * @param {Column[]} columns
   * @param {Record<string, number>} widths that were chosen by hand
   */
  setColumns(columns, widths) {
    this.columns = columns;
    this.chosen = { ...widths };
    this.widths = columns.map((column) => widths[column.key] ?? column.width);
    this.header.replaceChildren(...columns.map((column, place) => this.headerCell(column, place)));
    this.root.setAttribute("aria-colcount", columns.length);
    this.pool = [];
    this.body.replaceChildren();
    this.size();
  }

  /**
   * @param {Column} column
   * @param {number} place
   */
  headerCell(column, place) {
    const button = element("button", "aq-sort", { type: "button", tabIndex: place ? -1 : 0, title: column.hint });
    button.append(element("span", "", { textContent: column.title }), element("i"));
    if (column.note) button.append(element("small", "aq-prefix", { textContent: column.note }));
    if (column.label) button.setAttribute("aria-label", column.label);
    button.addEventListener("click", () => this.onSort(column.key));
    const grip = element("span", "aq-grip", { title: "drag to resize, double click to reset" });
    grip.addEventListener("pointerdown", (event) => this.drag(event, place, grip));
    grip.addEventListener("dblclick", () => this.resize(place, column.fit ? null : column.width, true));
    const cell = element("div", "aq-cell", {}, button);
    if (column.custom) {
      const remove = element("button", "aq-remove", { type: "button", tabIndex: -1, textContent: "×" });
      remove.setAttribute("aria-label", `remove column ${column.title}`);
      remove.addEventListener("click", () => this.onRemove(column.title));
      cell.append(remove);
    }
    cell.append(grip);
    cell.dataset.key = column.key;
    cell.classList.toggle("aq-right", Boolean(column.right));
    cell.classList.toggle("aq-sticky", Boolean(column.sticky));
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", place + 1);
    cell.setAttribute("aria-sort", "none");
    return cell;
  }

  /** @returns {HTMLElement[]} the cells of the header */
  get cells() {
    return /** @type {HTMLElement[]} */ ([...this.header.children]);
  }

  /**
   * @param {EventTarget | null} target
   * @returns {Column | undefined}
   */
  columnAt(target) {
    return this.columns[this.cells.findIndex((cell) => cell.contains(/** @type {Node} */ (target)))];
  }

  /**
   * The header that the keys go on from, after columns were arranged.
   * @param {string | undefined} key
   */
  focusHeader(key) {
    const { cells } = this;
    const cell = cells.find((one) => one.dataset.key === key) ?? cells[0];
    for (const one of cells) buttonOf(one).tabIndex = one === cell ? 0 : -1;
    if (cell) buttonOf(cell).focus();
  }

  /**
   * Arrows walk along the headers; with Shift they make a column wider or narrower. < and > move it, H hides it, and the
   * menu key or M opens the menu of columns.
   * @param {KeyboardEvent} event
   */
  headerKey(event) {
    const act = ARRANGEMENTS[event.key];
    const column = this.columnAt(event.target);
    if (act && column) {
      event.preventDefault();
      event.stopPropagation();
      this.onArrange(act, column.key);
      return;
    }
    const step = ALONG_ROW[event.key];
    const { cells } = this;
    const place = column ? this.columns.indexOf(column) : -1;
    if (event.key === "Delete" && column?.custom) this.onRemove(column.title);
    if (event.key === "ArrowDown") this.root.focus();
    if (!step || place < 0) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.shiftKey) {
      this.resize(place, this.widths[place] + 8 * step, true);
      return;
    }
    const next = buttonOf(cells[(place + step + cells.length) % cells.length]);
    for (const cell of cells) buttonOf(cell).tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }

  /**
   * @param {PointerEvent} event
   * @param {number} place
   * @param {HTMLElement} grip
   */
  drag(event, place, grip) {
    event.preventDefault();
    event.stopPropagation();
    const from = event.clientX - this.widths[place];
    grip.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ moved) => this.resize(place, moved.clientX - from, false);
    grip.addEventListener("pointermove", move);
    const end = (/** @type {PointerEvent} */ ended) => {
      grip.removeEventListener("pointermove", move);
      this.resize(place, ended.clientX - from, true);
    };
    grip.addEventListener("pointerup", end, { once: true });
  }

  /**
   * Sets a column's width; null gives it back to what it takes by itself.
   * @param {number} place
   * @param {number | null} width
   * @param {boolean} done whether the pointer was let go
   */
  resize(place, width, done) {
    const { key } = this.columns[place];
    if (width === null) delete this.chosen[key];
    else this.chosen[key] = this.widths[place] = Math.max(28, Math.round(width));
    this.size();
    if (done) this.onResize(key, width === null ? null : this.widths[place]);
  }

  // Sets the widths: what a column takes by itself depends on the room that the others leave.
  size() {
    let changed = false;
    const table = this.root.clientWidth;
    this.columns.forEach((column, place) => {
      if (!column.fit || !table) return;
      column.setFont?.(getComputedStyle(this.root).font);
      const others = this.widths.reduce((sum, width, other) => sum + (other === place ? 0 : width), 0);
      const found = column.fit(table - others, table, this.chosen[column.key]);
      this.widths[place] = found.width;
      changed ||= found.changed;
    });
    this.root.style.setProperty("--aq-columns", this.widths.map((width) => `${width}px`).join(" "));
    this.root.style.setProperty("--aq-width", `${this.widths.reduce((sum, width) => sum + width, 0)}px`);
    if (changed) this.draw(true);
  }

  /**
   * @param {string} key
   * @param {boolean} descending
   */
  showSort(key, descending) {
    for (const cell of this.cells) {
      const direction = descending ? "descending" : "ascending";
      cell.setAttribute("aria-sort", cell.dataset.key === key ? direction : "none");
    }
  }

  /** @param {number[]} order */
  setOrder(order) {
    this.order = order;
    this.root.setAttribute("aria-rowcount", order.length + 1);
    this.body.style.height = `${order.length * ROW}px`;
    this.empty.hidden = order.length > 0;
    for (const row of this.pool) row.position = -1;
    this.draw();
  }

  // Draws what is in sight; all of it, or only rows that came into sight.
  draw(all = false) {
    const first = Math.max(0, Math.floor(this.root.scrollTop / ROW) - SPARE);
    const fits = Math.ceil(this.root.clientHeight / ROW) + 2 * SPARE;
    while (this.pool.length < Math.min(fits, this.order.length)) this.pool.push(this.makeRow());
    const last = Math.min(this.order.length, first + this.pool.length);
    const start = Math.max(0, last - this.pool.length);
    for (const [place, row] of this.pool.entries()) {
      // Each position has its own element of the pool, so that scrolling draws only what is new.
      const position = start + ((((place - start) % this.pool.length) + this.pool.length) % this.pool.length);
      const seen = position < last;
      row.element.hidden = !seen;
      if (!seen || (row.position === position && !all)) continue;
      row.position = position;
      const layer = this.order[position];
      row.element.style.transform = `translateY(${position * ROW}px)`;
      row.element.id = `${this.id}-${layer}`;
      row.element.dataset.row = String(layer);
      row.element.dataset.position = String(position);
      row.element.setAttribute("aria-rowindex", position + 2);
      row.element.classList.toggle("aq-odd", position % 2 === 1);
      this.paint(row.element, layer);
    }
  }

  makeRow() {
    const row = element("div", "aq-row", { hidden: true });
    row.setAttribute("role", "row");
    for (const [place, column] of this.columns.entries()) {
      const cell = row.appendChild(element("div", "aq-cell"));
      cell.dataset.key = column.key;
      cell.classList.toggle("aq-right", Boolean(column.right));
      cell.classList.toggle("aq-sticky", Boolean(column.sticky));
      cell.setAttribute("role", "gridcell");
      cell.setAttribute("aria-colindex", place + 1);
    }
    this.body.append(row);
    return { element: row, position: -1 };
  }

  /** @param {number} position */
  reveal(position) {
    const room = this.root.clientHeight - this.top.offsetHeight;
    const above = position * ROW;
    if (above < this.root.scrollTop) this.root.scrollTop = above;
    else if (above + ROW > this.root.scrollTop + room) this.root.scrollTop = above + ROW - room;
    this.draw();
  }

  get page() {
    return Math.max(1, Math.floor((this.root.clientHeight - this.top.offsetHeight) / ROW) - 1);
  }

  /** @param {number} clientY */
  positionAt(clientY) {
    const offset = clientY - this.body.getBoundingClientRect().top;
    return Math.max(0, Math.min(this.order.length - 1, Math.floor(offset / ROW)));
  }

  /** @param {number} row */
  elementOf(row) {
    return this.pool.find((one) => !one.element.hidden && one.element.dataset.row === String(row))?.element;
  }
}
