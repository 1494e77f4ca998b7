// Lines to copy, and the Python of what was done last.

import { button } from "./bars.js";
import { element } from "./dom.js";

/** @param {string} text */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission (an insecure page, a frame): by way of a selection.
    const area = element("textarea", "", { value: text });
    Object.assign(area.style, { position: "fixed", opacity: "0" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/**
 * What a button that copies does.
 * @param {HTMLElement} said where it is told
 * @param {() => string} text
 */
const copier = (said, text) => async () => {
  await copied(text());
  said.textContent = "copied";
  setTimeout(() => {
    said.textContent = "";
  }, 1500);
};

// Where it was exported to last, and the lines that load it.
export class Snippet {
  folder = "";

  constructor() {
    this.said = element("span", "aq-copied");
    this.said.setAttribute("role", "status");
    this.text = element("div", "aq-written");
    this.lines = element("pre", "aq-lines");
    this.root = element(
      "div",
      "aq-done",
      { hidden: true },
      this.text,
      this.lines,
      button(
        "Copy",
        "Copy the lines that load the export",
        copier(this.said, () => this.lines.textContent),
      ),
      this.said,
    );
  }

  /** @param {import("./messages.js").Exported | null} exported */
  show(exported) {
    this.root.hidden = !exported;
    if (!exported) return;
    this.folder = exported.folder;
    this.text.textContent = exported.text;
    this.lines.textContent = exported.lines;
  }
}

export class ScriptLine {
  /** @type {string[]} */
  lines = [];

  /** @param {string} opening the line that opens the session */
  constructor(opening) {
    this.opening = opening;
    this.line = element("code");
    this.said = element("span", "aq-copied");
    this.said.setAttribute("role", "status");
    this.root = element(
      "div",
      "aq-script",
      {},
      this.line,
      button(
        "Copy as Python",
        "Copy the last line",
        copier(this.said, () => this.lines.at(-1) ?? ""),
      ),
      button(
        "Copy all",
        "Copy all lines from opening the session on",
        copier(this.said, () => ["import workbench as wb", "", this.opening, ...this.lines].join("\n")),
      ),
      this.said,
    );
  }

  /**
   * Takes the lines since a version; each version has one.
   * @param {string[]} lines
   * @param {number} base
   */
  add(lines, base) {
    this.lines.splice(base, Infinity, ...lines);
    const last = this.lines.at(-1) ?? "";
    this.line.textContent = last || "# nothing was changed yet";
    this.line.title = this.root.dataset.last = last;
  }
}
