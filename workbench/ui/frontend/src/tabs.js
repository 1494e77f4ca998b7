// Panes of which one is seen, chosen by tabs.

import { element } from "./columns.js";
import { KEY } from "./keys.js";

export class Tabs {
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
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const { length } = this.tabs;
      this.choose((this.tabs.indexOf(event.target) + step + length) % length);
      event.preventDefault();
    });
    this.root = element("div", "aq-side", {}, list, ...Object.values(panes));
    this.choose(0, false);
  }

  choose(chosen, focus = true) {
    this.panes.forEach(([, pane], place) => {
      pane.hidden = place !== chosen;
      this.tabs[place].setAttribute("aria-selected", place === chosen);
      this.tabs[place].tabIndex = place === chosen ? 0 : -1;
    });
    if (focus) this.tabs[chosen].focus();
    this.onChange?.();
  }
}
