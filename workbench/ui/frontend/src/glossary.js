// The box that tells what the symbols of the panel and its policies mean.

import { button } from "./bars.js";
import { element } from "./dom.js";
import { KEY } from "./keys.js";
import { TERMS } from "./terms.js";

// Options of a list that say what they do, under the pointer and to assistive software.
/**
 * @param {HTMLSelectElement} select
 * @param {Record<string, string>} about by an option's value
 */
export function explain(select, about) {
  for (const option of select.options) option.title = about[option.value] ?? "";
  select.title = Object.entries(about)
    .map(([name, text]) => `${name}: ${text}`)
    .join("\n");
}

export class Glossary {
  /**
   * @param {HTMLElement} root
   * @param {Record<string, string>} policies
   */
  constructor(root, policies) {
    const entry = (/** @type {[string, string]} */ [term, text]) => [
      element("dt", "", { textContent: term }),
      element("dd", "", { textContent: text }),
    ];
    const list = (/** @type {string} */ title, /** @type {Record<string, string>} */ entries) => [
      element("b", "", { textContent: title }),
      element("dl", "", {}, ...Object.entries(entries).flatMap(entry)),
    ];
    this.box = element(
      "div",
      "aq-menu aq-glossary",
      { hidden: true, tabIndex: -1 },
      ...list("In the table", TERMS),
      ...(Object.keys(policies).length ? list("Policies", policies) : []),
    );
    this.box.setAttribute("role", "dialog");
    this.box.setAttribute("aria-label", "what the symbols mean");
    this.button = button("?", "what the symbols mean", () => this.show(this.box.hidden), "aq-help");
    this.button.setAttribute("aria-expanded", false);
    this.box.addEventListener(KEY, (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.show(false);
      this.button.focus();
    });
    root.addEventListener("pointerdown", (event) => {
      const target = /** @type {Node} */ (event.target);
      if (!this.box.hidden && !this.box.contains(target) && !this.button.contains(target)) this.show(false);
    });
    root.append(this.box);
    this.root = root;
  }

  /** @param {boolean} yes */
  show(yes) {
    this.box.hidden = !yes;
    this.button.setAttribute("aria-expanded", yes);
    if (!yes) return;
    const [frame, place] = [this.root.getBoundingClientRect(), this.button.getBoundingClientRect()];
    const left = Math.max(4, Math.min(place.left - frame.left, frame.width - this.box.offsetWidth - 4));
    Object.assign(this.box.style, {
      left: `${left}px`,
      top: `${place.bottom - frame.top}px`,
      maxHeight: `${Math.max(160, frame.bottom - place.bottom - 8)}px`,
    });
    this.box.focus();
  }
}
