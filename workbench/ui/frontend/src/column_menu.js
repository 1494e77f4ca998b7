// The menu of columns: which are shown, and in which order.

import { arranged } from "./columns.js";
import { element } from "./dom.js";
import { ALONG_COLUMN, ALONG_ROW, KEY } from "./keys.js";

/** @typedef {import("./types.js").Column} Column */

/** @type {Partial<Record<string, number>>} */
const MOVES = { ...ALONG_ROW, "<": -1, ">": 1 };

export class ColumnMenu {
  /** @type {Column[]} */
  columns = [];
  /** @type {Set<string>} */
  hidden = new Set();

  /**
   * @param {HTMLElement} root
   * @param {(order: string[], hidden: string[]) => void} onChange both empty: as it was at first
   * @param {(key?: string) => void} onClose
   */
  constructor(root, onChange, onClose) {
    this.root = root;
    this.onChange = onChange;
    this.onClose = onClose;
    this.box = element("div", "aq-menu aq-column-menu", { hidden: true });
    this.box.setAttribute("role", "menu");
    this.box.setAttribute("aria-label", "columns");
    this.box.addEventListener(KEY, (event) => this.key(event));
    root.append(this.box);
    root.addEventListener("pointerdown", (event) => {
      if (!this.box.hidden && !this.box.contains(/** @type {Node} */ (event.target))) this.hide();
    });
  }

  /**
   * @param {Column[]} columns all there are, in the chosen order
   * @param {string[]} hidden
   * @param {string | undefined} key of the column to begin with
   * @param {Element} anchor
   */
  show(columns, hidden, key, anchor) {
    this.columns = columns;
    this.hidden = new Set(hidden);
    this.draw(key ?? columns[0].key);
    this.box.hidden = false;
    const [frame, place] = [this.root.getBoundingClientRect(), anchor.getBoundingClientRect()];
    this.box.style.maxHeight = `${Math.max(120, frame.bottom - place.bottom - 8)}px`;
    const left = Math.max(4, Math.min(place.left - frame.left, frame.width - this.box.offsetWidth - 4));
    Object.assign(this.box.style, { left: `${left}px`, top: `${place.bottom - frame.top}px` });
    this.focus(key ?? columns[0].key);
  }

  hide() {
    this.box.hidden = true;
  }

  /** @param {string} key of the column that has the focus */
  draw(key) {
    const items = this.columns.map((column) => {
      const shown = !this.hidden.has(column.key);
      const name = column.label ?? column.title;
      const move = (/** @type {number} */ step, /** @type {string} */ sign, /** @type {string} */ side) => {
        const made = element("button", "aq-move", {
          type: "button",
          tabIndex: -1,
          textContent: sign,
          title: `move ${name} to the ${side}`,
        });
        made.setAttribute("aria-label", made.title);
        made.addEventListener("click", () => this.move(column.key, step));
        return made;
      };
      const tick = element("span", "aq-tick", { textContent: shown ? "✓" : "" });
      tick.setAttribute("aria-hidden", true);
      const item = element(
        "button",
        "aq-item",
        { type: "button", tabIndex: column.key === key ? 0 : -1, title: column.hint },
        tick,
        name,
      );
      item.dataset.key = column.key;
      item.setAttribute("role", "menuitemcheckbox");
      item.setAttribute("aria-checked", shown);
      item.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight");
      item.disabled = column.key === "name"; // a row without its name is nobody's
      item.addEventListener("click", () => this.toggle(column.key));
      const line = element("div", "aq-line", {}, item, move(-1, "←", "left"), move(1, "→", "right"));
      line.setAttribute("role", "none");
      return line;
    });
    const reset = element("button", "aq-item", {
      type: "button",
      tabIndex: -1,
      textContent: "All columns, as they were",
    });
    reset.setAttribute("role", "menuitem");
    reset.addEventListener("click", () => {
      this.hide();
      this.onChange([], []);
      this.onClose();
    });
    this.box.replaceChildren(...items, reset);
  }

  /** @returns {HTMLButtonElement[]} those that can be chosen */
  items() {
    return [...this.box.querySelectorAll("button")].filter((one) => one.matches(".aq-item:not(:disabled)"));
  }

  /** @param {string} key */
  focus(key) {
    const items = this.items();
    (items.find((item) => item.dataset.key === key) ?? items[0]).focus();
  }

  /** @param {string} key */
  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    this.changed(key);
  }

  /**
   * @param {string} key
   * @param {number} step
   */
  move(key, step) {
    const keys = this.columns.map((column) => column.key);
    const to = Math.max(0, Math.min(keys.length - 1, keys.indexOf(key) + step));
    this.columns = arranged(this.columns, moved(keys, key, to), []);
    this.changed(key);
  }

  /** @param {string} key */
  changed(key) {
    this.onChange(
      this.columns.map((column) => column.key),
      [...this.hidden],
    );
    this.draw(key);
    this.focus(key);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const items = this.items();
    const target = /** @type {HTMLButtonElement} */ (event.target);
    const place = items.indexOf(target);
    const step = ALONG_COLUMN[event.key];
    const side = MOVES[event.key];
    if (step) items[(place + step + items.length) % items.length].focus();
    else if (side && target.dataset.key) this.move(target.dataset.key, side);
    else if (event.key === "Home") items[0].focus();
    else if (event.key === "End") items.at(-1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      this.hide();
      this.onClose(target.dataset.key);
    } else if (event.key === "Enter" || event.key === " ") target.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

/**
 * The keys with one of them at another place.
 * @param {string[]} keys
 * @param {string} key
 * @param {number} to
 */
export function moved(keys, key, to) {
  const others = keys.filter((one) => one !== key);
  return [...others.slice(0, to), key, ...others.slice(to)];
}
