// The box that tells what the symbols of the panel and its policies mean.

import { button } from "./bars.js";
import { element } from "./columns.js";
import { KEY } from "./keys.js";
import { TERMS } from "./terms.js";

// Options of a list that say what they do, under the pointer and to assistive software.
export function explain(select, about) {
  for (const option of select.options) option.title = about[option.value] ?? "";
  select.title = Object.entries(about).map(([name, text]) => `${name}: ${text}`).join("\n");
}

export class Glossary {
  constructor(root, policies) {
    const entry = ([term, text]) => [element("dt", "", { textContent: term }), element("dd", "", { textContent: text })];
    const list = (title, entries) => [element("b", "", { textContent: title }), element("dl", "", {}, ...Object.entries(entries).flatMap(entry))];
    this.box = element("div", "aq-menu aq-glossary", { hidden: true, tabIndex: -1 }, ...list("In the table", TERMS),
      ...(Object.keys(policies).length ? list("Policies", policies) : []));
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
      if (!this.box.hidden && !this.box.contains(event.target) && !this.button.contains(event.target)) this.show(false);
    });
    root.append(this.box);
    this.root = root;
  }

  show(yes) {
    this.box.hidden = !yes;
    this.button.setAttribute("aria-expanded", yes);
    if (!yes) return;
    const [frame, place] = [this.root.getBoundingClientRect(), this.button.getBoundingClientRect()];
    const left = Math.max(4, Math.min(place.left - frame.left, frame.width - this.box.offsetWidth - 4));
    Object.assign(this.box.style, { left: `${left}px`, top: `${place.bottom - frame.top}px`, maxHeight: `${Math.max(160, frame.bottom - place.bottom - 8)}px` });
    this.box.focus();
  }
}
