// Panes of which one is seen, chosen by tabs.

import { element } from "./dom.js";
import { ALONG_ROW, KEY } from "./keys.js";

export class Tabs {
  onChange = () => {};

  /** @param {Record<string, HTMLElement>} panes */
  constructor(panes) {
    this.panes = Object.entries(panes);
    this.tabs = this.panes.map(([name, pane], place) => {
      const tab = element("button", "aq-tab", { type: "button", textContent: name });
      tab.setAttribute("role", "tab");
      tab.addEventListener("click", () => this.choose(place));
      pane.setAttribute("role", "tabpanel");
      pane.setAttribute("aria-label", name);
      return tab;
    });
    const list = element("div", "aq-tabs", {}, ...this.tabs);
    list.setAttribute("role", "tablist");
    list.addEventListener(KEY, (event) => {
      const step = ALONG_ROW[event.key];
      if (!step) return;
      const { length } = this.tabs;
      this.choose((this.tabs.indexOf(/** @type {HTMLButtonElement} */ (event.target)) + step + length) % length);
      event.preventDefault();
    });
    this.root = element("div", "aq-side", {}, list, ...Object.values(panes));
    this.choose(0, false);
  }

  /** @param {number} chosen */
  choose(chosen, focus = true) {
    this.panes.forEach(([, pane], place) => {
      pane.hidden = place !== chosen;
      this.tabs[place].setAttribute("aria-selected", place === chosen);
      this.tabs[place].tabIndex = place === chosen ? 0 : -1;
    });
    if (focus) this.tabs[chosen].focus();
    this.onChange();
  }
}
