// The menu of columns: which are shown, and in which order.

import { element } from "./columns.js";
import { KEY } from "./keys.js";

export class ColumnMenu {
  // `onChange` takes the order of the keys and the hidden ones; both empty: as it was at first.
  constructor(root, onChange, onClose) {
    Object.assign(this, { root, onChange, onClose });
    this.box = element("div", "aq-menu aq-column-menu", { hidden: true });
    this.box.setAttribute("role", "menu");
    this.box.setAttribute("aria-label", "columns");
    this.box.addEventListener(KEY, (event) => this.key(event));
    root.append(this.box);
    root.addEventListener("pointerdown", (event) => {
      if (!this.box.hidden && !this.box.contains(event.target)) this.hide();
    });
  }

  // `columns` are all there are, in the chosen order.
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

  draw(key) {
    const items = this.columns.map((column) => {
      const shown = !this.hidden.has(column.key);
      const name = column.label ?? column.title;
      const move = (step, sign, side) => {
        const made = element("button", "aq-move", { type: "button", tabIndex: -1, textContent: sign, title: `move ${name} to the ${side}` });
        made.setAttribute("aria-label", made.title);
        made.addEventListener("click", () => this.move(column.key, step));
        return made;
      };
      const tick = element("span", "aq-tick", { textContent: shown ? "✓" : "" });
      tick.setAttribute("aria-hidden", true);
      const item = element("button", "aq-item", { type: "button", tabIndex: column.key === key ? 0 : -1, title: column.hint },
        tick, name);
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
    const reset = element("button", "aq-item", { type: "button", tabIndex: -1, textContent: "All columns, as they were" });
    reset.setAttribute("role", "menuitem");
    reset.addEventListener("click", () => {
      this.hide();
      this.onChange([], []);
      this.onClose();
    });
    this.box.replaceChildren(...items, reset);
  }

  focus(key) {
    const items = [...this.box.querySelectorAll(".aq-item:not(:disabled)")];
    (items.find((item) => item.dataset.key === key) ?? items[0]).focus();
  }

  toggle(key) {
    if (!this.hidden.delete(key)) this.hidden.add(key);
    this.changed(key);
  }

  move(key, step) {
    const keys = this.columns.map((column) => column.key);
    const to = Math.max(0, Math.min(keys.length - 1, keys.indexOf(key) + step));
    this.columns = moved(keys, key, to).map((one) => this.columns.find((column) => column.key === one));
    this.changed(key);
  }

  changed(key) {
    this.onChange(this.columns.map((column) => column.key), [...this.hidden]);
    this.draw(key);
    this.focus(key);
  }

  key(event) {
    const items = [...this.box.querySelectorAll(".aq-item:not(:disabled)")];
    const place = items.indexOf(event.target);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const side = { ArrowLeft: -1, ArrowRight: 1, "<": -1, ">": 1 }[event.key];
    if (step) items[(place + step + items.length) % items.length].focus();
    else if (side && event.target.dataset.key) this.move(event.target.dataset.key, side);
    else if (event.key === "Home") items[0].focus();
    else if (event.key === "End") items.at(-1).focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      this.hide();
      this.onClose(event.target.dataset.key);
    } else if (event.key === "Enter" || event.key === " ") event.target.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

// The keys with one of them at another place.
export function moved(keys, key, to) {
  const others = keys.filter((one) => one !== key);
  return [...others.slice(0, to), key, ...others.slice(to)];
}
