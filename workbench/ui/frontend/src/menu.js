// The menu of what a layer can be.

import { nameOfScheme, paint, schemeOf } from "./columns.js";
import { element } from "./dom.js";
import { significant, whole } from "./format.js";
import { ALONG_COLUMN, KEY } from "./keys.js";

/** @typedef {import("./types.js").MenuOption} MenuOption */
/** @typedef {import("./messages.js").Variant} Variant */

export class Menu {
  row = -1;
  /** @type {number[]} */
  rows = [];
  /** @type {HTMLElement | null} */
  anchor = null;

  /**
   * @param {HTMLElement} root
   * @param {(key: MenuOption["key"] | null, rows?: number[], variety?: import("./types.js").Variety) => void} onChoose
   */
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.box = element("div", "aq-menu", { hidden: true });
    this.box.setAttribute("role", "menu");
    this.box.addEventListener(KEY, (event) => this.key(event));
    root.append(this.box);
  }

  get open() {
    return !this.box.hidden;
  }

  /**
   * @param {MenuOption | Variant} option
   * @param {string} scheme as it is shown
   * @param {() => void} choose
   */
  item(option, scheme, choose) {
    const swatch = element("span", "aq-swatch");
    paint(swatch, option.bits, "key" in option && option.key === "keep");
    const item = element(
      "button",
      "aq-item",
      { type: "button", tabIndex: -1 },
      swatch,
      element("b", "", { textContent: String(option.bits) }),
      element("span", "", { textContent: scheme }),
      element("span", "aq-right", { textContent: `${whole(option.nbytes)} B` }),
      element("span", "aq-right", { textContent: `damage ${significant(option.damage)}` }),
    );
    item.setAttribute("role", "menuitemradio");
    item.setAttribute("aria-checked", option.present);
    item.addEventListener("click", () => {
      this.hide();
      choose();
    });
    return item;
  }

  /**
   * Adds the other schemes and group sizes of the present width, as the kernel knows them.
   * @param {number} row
   * @param {Variant[]} variants
   */
  addVariants(row, variants) {
    if (!this.open || row !== this.row || variants.length < 2) return;
    const items = variants.map((option) =>
      this.item(option, nameOfScheme(option.scheme, option.group), () =>
        this.onChoose(option.bits, this.rows, { scheme: option.scheme, group_size: option.group }),
      ),
    );
    this.box.append(
      element("div", "aq-title", { textContent: `scheme and group size at ${variants[0].bits} bits` }),
      ...items,
    );
    this.place();
  }

  /**
   * @param {import("./plan.js").LayerPlan} plan
   * @param {number} row
   * @param {number[]} rows that the choice is for
   * @param {HTMLElement} anchor
   */
  show(plan, row, rows, anchor) {
    this.row = row;
    this.rows = rows;
    this.anchor = anchor;
    const items = plan.menu(row).map((option) => {
      const item = this.item(option, schemeOf(plan, option.scheme, option.group), () =>
        this.onChoose(option.key, rows),
      );
      item.dataset.key = String(option.key);
      return item;
    });
    const title = rows.length > 1 ? `${rows.length} layers, as this one` : plan.names[row];
    this.box.setAttribute("aria-label", `bits of ${title}`);
    this.box.replaceChildren(element("div", "aq-title", { textContent: title, title }), ...items);
    this.box.hidden = false;
    this.place();
    (items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0]).focus();
  }

  place() {
    const { anchor } = this;
    if (!anchor) return;
    this.box.style.maxHeight = `${this.root.clientHeight - 8}px`;
    const [frame, cell] = [this.root.getBoundingClientRect(), anchor.getBoundingClientRect()];
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const left = Math.max(4, Math.min(cell.left - frame.left, frame.width - width - 4));
    const below = cell.bottom - frame.top;
    const above = cell.top - frame.top - height;
    const top = below + height <= frame.height ? below : Math.max(4, above >= 4 ? above : frame.height - height - 4);
    Object.assign(this.box.style, { left: `${left}px`, top: `${top}px` });
  }

  hide() {
    this.box.hidden = true;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const items = [...this.box.querySelectorAll("button")];
    const place = items.indexOf(/** @type {HTMLButtonElement} */ (event.target));
    const step = ALONG_COLUMN[event.key];
    const wanted = items.find((item) => item.dataset.key === event.key);
    if (step) items[(place + step + items.length) % items.length].focus();
    else if (event.key === "Home") items[0].focus();
    else if (event.key === "End") items.at(-1)?.focus();
    else if (event.key === "Escape" || event.key === "Tab") this.onChoose(null);
    else if (wanted) wanted.click();
    else if (event.key !== "Enter" && event.key !== " ") return;
    else items[place]?.click();
    event.preventDefault();
    event.stopPropagation();
  }
}
