// The layer table: ties the plan, the rows, the bars and the kernel together.

import { Bar, Strip, Totals } from "./bars.js";
import { ColumnMenu, moved } from "./column_menu.js";
import { arranged, columnsOf } from "./columns.js";
import { Connection } from "./connection.js";
import { element } from "./dom.js";
import { clicked, keyed, pressed } from "./gestures.js";
import { Glossary } from "./glossary.js";
import { Grid } from "./grid.js";
import { KEY, keepKeys } from "./keys.js";
import { Menu } from "./menu.js";
import { isCondition, ordered } from "./order.js";
import { unpack } from "./packing.js";
import { LayerPlan } from "./plan.js";
import { Selection } from "./selection.js";
import { spoken } from "./spoken.js";
import { followTheme } from "./theme.js";

const QUIET = 120; // ms until a selection that keeps moving is told to the kernel
const PAUSE = 250; // ms without typing until a filter is

/**
 * @typedef {object} Around what else is there
 * @property {(message: import("./messages.js").ToBrowser) => void} [hear] messages that are not the table's
 * @property {(message: import("./messages.js").PlanChanged) => void} [settled] an answer that was taken over
 * @property {(totals: ReturnType<LayerPlan["totals"]>) => void} [refreshed]
 * @property {() => void} [chosen]
 * @property {() => void} [renewed] another target came
 * @property {() => void} [dismissed] the message bar was closed
 */

export class Table {
  /** @type {Uint8Array | null} layers that meet the filter's condition */
  mask = null;
  /** @type {Uint8Array} layers in sight of the filter */
  visible = new Uint8Array();
  /** @type {import("./types.js").Column[]} */
  columns = [];
  /** @type {import("./types.js").Column[]} also those that are hidden */
  everyColumn = [];
  /** @type {[event: string, act: () => void][]} */
  follows = [];
  stale = false;
  asked = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  telling;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  asking;
  unfollowTheme = () => {};
  freeKeys = () => {};

  /**
   * @param {import("./types.js").Model} model
   * @param {HTMLElement} host
   * @param {Around} around
   */
  constructor(model, host, around = {}) {
    this.model = model;
    this.around = around;
    this.plan = new LayerPlan(model.get("data"), unpack);
    this.selection = new Selection(model.get("selected"), model.get("current"));
    this.grid = new Grid({
      label: "layers",
      paint: (one, row) => this.paint(one, row),
      onSort: (key) => this.sortBy(key),
      onResize: (key, width) => {
        const { [key]: _, ...others } = model.get("widths");
        this.connection.save("widths", width === null ? others : { ...others, [key]: width });
      },
      onArrange: (act, key) => this.arrange(act, key),
      onRemove: (title) => this.connection.send({ type: "remove_column", title }, true),
    });
    this.bar = new Bar({
      edit: (action, bits) => {
        this.edit(action, bits);
        this.grid.root.focus();
      }, // the keys go on from there
      again: () => {
        this.again();
        this.grid.root.focus();
      },
      arrange: () => this.arrange("menu"),
      addColumn: (title, expression) => this.connection.send({ type: "add_column", title, expression }, true),
    });
    this.strip = new Strip(() => around.dismissed?.());
    this.totals = new Totals();
    this.voice = element("div", "aq-voice");
    this.voice.setAttribute("role", "status");
    this.voice.setAttribute("aria-live", "polite");
    this.root = element(
      "div",
      "aq-view aq-table",
      {},
      this.bar.root,
      this.strip.root,
      this.grid.root,
      this.totals.root,
      this.voice,
    );
    this.menu = new Menu(this.root, (key, rows, more) => {
      this.menu.hide();
      this.grid.root.focus({ preventScroll: true });
      if (key !== null) this.edit(key === "keep" ? "keep" : "bits", Number(key), rows, more);
    });
    this.columnMenu = new ColumnMenu(
      this.root,
      (order, hidden) => this.setColumns(order, hidden),
      (key) => (key ? this.grid.focusHeader(key) : this.bar.arrange.focus()),
    );
    this.glossary = new Glossary(this.root, model.get("data").header.about_policies ?? {});
    this.bar.rest.append(this.glossary.button);
    host.append(this.root);
    this.connection = new Connection(model, {
      id: model.get("data").header.model_id,
      root: this.root,
      onMessage: (message, buffers) => this.hear(message, buffers),
      onState: (text, kind) => {
        void (text ? this.strip.say(text, kind) : this.strip.end("slow"));
        this.root.dataset.connection = kind || "live";
        this.refresh();
      },
    });
    this.listen();
    this.setHeight();
    this.bar.filter.value = model.get("filter");
    this.showColumns();
    this.refilter();
    // What the model holds may be older than the session, where the table is shown a second time.
    this.greet();
    this.root.dataset.ready = "true";
  }

  // ---- what happens -------------------------------------------------------------------------------------------

  listen() {
    const follow = {
      data: () => this.renew(),
      selected: () => this.follow(new Set(this.model.get("selected"))),
      current: () => this.point(this.model.get("current")),
      filter: () => {
        if (this.bar.filter.value === this.model.get("filter")) return;
        this.bar.filter.value = this.asked = this.model.get("filter");
        this.refilter();
      },
      sort: () => this.refilter(),
      column_order: () => this.showColumns(),
      hidden_columns: () => this.showColumns(),
      min_cosine: () => this.refresh(),
      height: () => this.setHeight(),
    };
    this.follows = Object.entries(follow).map(([name, act]) => [`change:${name}`, act]);
    for (const [event, act] of this.follows) this.model.on(event, act);
    this.unfollowTheme = followTheme(this.root);
    this.freeKeys = keepKeys(this.root);
    this.grid.root.addEventListener(KEY, (event) => keyed(this, event));
    this.grid.root.addEventListener("copy", (event) => {
      const names = this.subject.map((row) => this.plan.names[row]);
      event.clipboardData?.setData("text/plain", names.join("\n"));
      event.preventDefault();
    });
    this.grid.body.addEventListener("pointerdown", (event) => pressed(this, event));
    this.grid.body.addEventListener("click", (event) => clicked(this, event));
    this.root.addEventListener("pointerdown", (event) => {
      if (this.menu.open && !this.menu.box.contains(/** @type {Node} */ (event.target))) this.menu.hide();
    });
    this.bar.filter.addEventListener("input", () => this.refilter());
    this.bar.filter.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === "ArrowDown") this.grid.root.focus();
      if (event.key === "Enter") this.ask();
      if (event.key !== "Escape") return;
      this.bar.filter.value = "";
      this.refilter();
      this.grid.root.focus();
    });
  }

  close() {
    for (const [event, act] of this.follows) this.model.off(event, act);
    this.unfollowTheme();
    this.freeKeys();
    this.connection.close();
    this.grid.close();
    clearTimeout(this.telling);
    clearTimeout(this.asking);
  }

  /** @param {number} row */
  openMenu(row) {
    const position = this.grid.order.indexOf(row);
    if (position < 0 || this.connection.dead) return;
    if (!this.selection.rows.has(row)) this.choose(() => this.selection.take(this.grid.order, position));
    this.grid.reveal(position);
    const shown = this.grid.elementOf(row);
    if (!shown) return;
    /** @type {HTMLElement | null} */
    const anchor = shown.querySelector(".aq-bits") ?? shown.querySelector('[data-key="name"]');
    if (!anchor) return;
    this.menu.show(this.plan, row, this.subject, anchor);
    this.connection.send({ type: "options", row }, true);
  }

  // What an edit is about: chosen layers in sight of the filter, or that under the cursor.
  get subject() {
    return this.selection.subject.filter((row) => this.visible[row]);
  }

  // Another target: everything is another but what is chosen and shown.
  renew() {
    this.plan = new LayerPlan(this.model.get("data"), unpack);
    this.mask = null;
    this.menu.hide();
    this.around.renewed?.();
    this.showColumns();
    this.again();
  }

  // ---- the kernel ---------------------------------------------------------------------------------------------

  /**
   * Asks for what is no edit of rows.
   * @param {import("./types.js").Act} content
   * @param {import("./types.js").Proposal} proposal what it will do to the rows, as far as that is known
   */
  act(content, proposal = { rows: [] }) {
    this.plan.attempt(null);
    this.strip.over();
    const id = this.connection.send({ type: "do", ...content }, true);
    if (id) this.plan.propose(id, { action: "act", ...proposal });
    this.refresh();
    return id;
  }

  /**
   * Shows what is not asked for yet; null ends it.
   * @param {import("./types.js").Proposal | null} trial
   */
  attempt(trial) {
    this.plan.attempt(trial);
    this.refresh();
  }

  /**
   * @param {import("./types.js").EditAction} asked
   * @param {number} [bits]
   * @param {number[]} rows
   * @param {import("./types.js").Variety | null} more whose cost the kernel alone knows
   */
  edit(asked, bits, rows = this.subject, more = null) {
    if (this.connection.dead) return;
    const moves = asked === "undo" || asked === "redo";
    if (!moves && !rows.length) return;
    const areLocked = rows.every((row) => this.plan.shown.locked[row]);
    const action = asked !== "toggle" ? asked : areLocked ? "unlock" : "lock";
    const edit = moves ? { action } : { action, rows, ...(action === "bits" ? { bits } : {}), ...more };
    this.strip.over();
    const id = this.connection.send({ type: "edit", ...edit }, true);
    if (!id) return;
    this.plan.propose(id, more ? { action: "act", rows: [] } : { rows: [], ...edit });
    this.refresh();
    this.say(`${spoken(this.plan, action, rows, bits ?? 0, more)}. ${this.totals.values.nbytes.textContent}`);
  }

  /**
   * @param {import("./messages.js").ToBrowser} message
   * @param {DataView[]} buffers
   */
  hear(message, buffers) {
    if (message.type === "plan") this.settle(message, unpack(message.layout, buffers[0]));
    else if (message.type === "filter") this.takeMask(message, buffers);
    else if (message.type === "options") this.menu.addVariants(message.row, message.options);
    else if (message.type === "columns") this.takeColumns(message, buffers);
    else if (message.type === "focus") this.point(message.row);
    else if (message.type === "error") this.complain(message.error);
    else if (message.type === "here") {
      this.plan.forget(message.ack); // it was answered before, and that answer may be lost
      if (message.version !== undefined && message.version > this.plan.version) this.greet();
      this.refresh();
    } else this.around.hear?.(message);
    if ("ack" in message && message.ack) this.root.dataset.acked = String(Number(this.root.dataset.acked ?? 0) + 1);
  }

  /**
   * @param {import("./messages.js").PlanChanged} message
   * @param {import("./types.js").Arrays} arrays
   */
  settle(message, arrays) {
    const moved = this.plan.version !== message.version;
    if (!this.plan.confirm(message, arrays)) return void this.greet();
    if (message.error) this.complain(message.error);
    else if (message.note) this.complain(message.note, "note");
    this.around.settled?.(message);
    this.stale ||= moved && Boolean(this.model.get("sort") || this.mask);
    this.refresh();
  }

  // Asks for the plan where the session's is another than that shown.
  greet() {
    this.connection.send({ type: "hello", version: this.plan.version }, true);
  }

  /**
   * @param {string} text
   * @param {"error" | "note"} kind
   */
  complain(text, kind = "error") {
    this.strip.say(text, kind);
    this.say(text);
  }

  /** @param {string} text */
  say(text) {
    this.voice.textContent = text;
  }

  /**
   * @param {import("./messages.js").Filtered} message
   * @param {DataView[]} buffers
   */
  takeMask(message, [mask]) {
    if (message.text !== this.bar.filter.value) return;
    this.bar.complain(message.error ?? "");
    if (message.error) return;
    this.mask = new Uint8Array(mask.buffer.slice(mask.byteOffset, mask.byteOffset + mask.byteLength));
    this.reorder();
  }

  /**
   * @param {import("./messages.js").Columns} message
   * @param {DataView[]} buffers
   */
  takeColumns(message, [blob]) {
    if (!message.columns || !message.layout) {
      this.bar.complain(message.error ?? "");
      return;
    }
    this.plan.setColumns(message.columns, unpack(message.layout, blob));
    if (!this.bar.form.hidden && message.ack) {
      this.bar.title.value = this.bar.expression.value = "";
      this.bar.toggleForm(false);
    }
    this.showColumns();
    this.reorder();
  }

  // ---- what is shown ------------------------------------------------------------------------------------------

  showColumns() {
    const every = columnsOf(this.plan);
    this.everyColumn = arranged(every, this.model.get("column_order"), []);
    this.columns = arranged(every, this.model.get("column_order"), this.model.get("hidden_columns"));
    this.grid.setColumns(this.columns, this.model.get("widths"));
    const sort = this.model.get("sort");
    this.grid.showSort(sort.replace(/^-/, ""), sort.startsWith("-"));
    this.grid.draw(true);
  }

  /**
   * Shows columns in this order, and hides some; told to the kernel, so that it is still so after a reload.
   * @param {string[]} order
   * @param {string[]} hidden
   */
  setColumns(order, hidden) {
    this.model.set("column_order", order);
    this.connection.save("hidden_columns", hidden);
    this.showColumns();
    this.say(`${this.columns.length} of ${this.everyColumn.length} columns shown`);
  }

  /**
   * @param {import("./types.js").Arrangement} act
   * @param {string} [key]
   */
  arrange(act, key) {
    const hidden = this.model.get("hidden_columns");
    const keys = this.everyColumn.map((column) => column.key);
    if (act === "menu") {
      const header = key && this.grid.header.querySelector(`[data-key="${CSS.escape(key)}"]`);
      this.columnMenu.show(this.everyColumn, hidden, key, header || this.bar.arrange);
      return;
    }
    if (!key) return;
    const at = this.columns.findIndex((column) => column.key === key);
    const beside = this.columns[at + (act === "left" ? -1 : 1)]?.key;
    if (act === "hide" && key !== "name") this.setColumns(keys, [...hidden, key]);
    else if (act !== "hide" && beside) this.setColumns(moved(keys, key, keys.indexOf(beside)), hidden);
    this.grid.focusHeader(act === "hide" && key !== "name" ? beside : key);
  }

  refilter() {
    const text = this.bar.filter.value;
    this.bar.complain("");
    clearTimeout(this.asking);
    this.asking = setTimeout(() => this.ask(), PAUSE);
    if (!isCondition(text)) this.mask = null;
    if (!this.mask) this.reorder();
  }

  // Tells the kernel of the filter, which answers if it is an expression; once for the same text.
  ask() {
    clearTimeout(this.asking);
    const text = this.bar.filter.value;
    if (text === this.asked) return;
    this.asked = text;
    if (text !== this.model.get("filter")) this.connection.save("filter", text);
    else if (isCondition(text)) this.connection.send({ type: "filter", text });
  }

  again() {
    if (isCondition(this.bar.filter.value)) this.connection.send({ type: "filter", text: this.bar.filter.value });
    this.reorder();
  }

  // Filters and sorts. Edits do not: rows must not run away from under the hand that edits them.
  reorder() {
    const text = this.bar.filter.value;
    const words = isCondition(text) ? [] : text.toLowerCase().split(/\s+/).filter(Boolean);
    const sort = this.model.get("sort");
    const key = sort.replace(/^-/, "");
    const column = this.everyColumn.find((one) => one.key === key);
    this.stale = false;
    this.grid.showSort(key, sort.startsWith("-"));
    const order = ordered(this.plan, { words, mask: this.mask }, column, sort.startsWith("-"));
    this.visible = new Uint8Array(this.plan.count);
    for (const row of order) this.visible[row] = 1;
    this.grid.setOrder(order);
    this.refresh();
  }

  /** @param {string} key */
  sortBy(key) {
    const sort = this.model.get("sort");
    this.connection.save("sort", sort === key ? `-${key}` : sort === `-${key}` ? "" : key);
    this.reorder();
  }

  /**
   * @param {HTMLElement} one
   * @param {number} row
   */
  paint(one, row) {
    const { selection, plan } = this;
    one.setAttribute("aria-selected", selection.rows.has(row));
    one.classList.toggle("aq-current", selection.current === row);
    one.classList.toggle("aq-pending", plan.pending.size > 0 && plan.touched.has(row));
    const cells = /** @type {HTMLCollectionOf<HTMLElement>} */ (one.children);
    for (const [place, column] of this.columns.entries()) column.draw(cells[place], plan, row);
  }

  refresh() {
    this.grid.draw(true);
    const { plan, selection, connection } = this;
    const minCosine = this.model.get("min_cosine");
    const totals = plan.totals(minCosine);
    this.totals.update(totals, minCosine, this.grid.order.length, plan.count, connection.slow ? plan.pending.size : 0);
    const about = this.subject;
    const subject = about.length;
    this.bar.showWidths(plan, subject ? about : plan.everyRow);
    this.bar.update({
      chosen: selection.rows.size,
      hidden: selection.rows.size ? selection.rows.size - subject : 0,
      subject,
      stale: this.stale,
      dead: connection.dead,
      canUndo: plan.canUndo || plan.pending.size > 0,
      canRedo: plan.canRedo,
    });
    const current = this.grid.elementOf(selection.current);
    if (current) this.grid.root.setAttribute("aria-activedescendant", current.id);
    else this.grid.root.removeAttribute("aria-activedescendant");
    Object.assign(this.root.dataset, { version: plan.version, pending: plan.pending.size });
    this.around.refreshed?.(totals);
  }

  /** @param {() => void} change */
  choose(change) {
    change();
    this.refresh();
    this.around.chosen?.();
    clearTimeout(this.telling);
    this.telling = setTimeout(() => {
      this.model.set("current", this.selection.current);
      this.connection.save(
        "selected",
        [...this.selection.rows].sort((a, b) => a - b),
      );
    }, QUIET);
  }

  /** @param {Set<number>} rows */
  follow(rows) {
    const { selection } = this;
    if (rows.size === selection.rows.size && [...rows].every((row) => selection.rows.has(row))) return;
    selection.rows = rows;
    selection.before = new Set(rows);
    this.refresh();
    this.around.chosen?.();
  }

  /** @param {number} row */
  point(row) {
    this.selection.current = this.selection.anchor = row;
    const position = this.grid.order.indexOf(row);
    if (position >= 0) this.grid.reveal(position);
    this.refresh();
  }

  setHeight() {
    this.grid.root.style.maxHeight = `${this.model.get("height")}px`;
  }
}
