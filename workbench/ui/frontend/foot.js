// The foot of the panel: the job that runs, and the Python of what was done last.

import { button } from "./bars.js";
import { element } from "./columns.js";

export class JobBar {
  constructor(onCancel) {
    this.bar = element("progress", "", { max: 1 });
    this.bar.setAttribute("aria-label", "progress");
    this.text = element("span", "aq-job");
    this.cancel = button("Cancel", "Cancel the job", onCancel);
    this.root = element("div", "aq-jobs", { hidden: true }, this.bar, this.text, this.cancel);
  }

  show(job) {
    this.root.hidden = !job;
    if (!job) return;
    this.bar.value = job.fraction;
    this.text.textContent = job.text;
    this.cancel.disabled = job.stopping;
  }
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission (an insecure page, a frame): by way of a selection.
    const area = element("textarea", "", { value: text });
    Object.assign(area.style, { position: "fixed", opacity: 0 });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export class ScriptLine {
  constructor(opening) {
    this.opening = opening;
    this.lines = [];
    this.line = element("code");
    this.said = element("span", "aq-copied");
    this.said.setAttribute("role", "status");
    this.root = element("div", "aq-script", {}, this.line,
      button("Copy as Python", "Copy the last line", () => this.copy(this.lines.at(-1) ?? "")),
      button("Copy all", "Copy all lines from opening the session on", () =>
        this.copy(["import workbench as wb", "", this.opening, ...this.lines].join("\n"))), this.said);
  }

  // The lines since a version; each version has one.
  add(lines, base) {
    this.lines.splice(base, Infinity, ...lines);
    const last = this.lines.at(-1) ?? "";
    this.line.textContent = last || "# nothing was changed yet";
    this.line.title = this.root.dataset.last = last;
  }

  async copy(text) {
    await copied(text);
    this.said.textContent = "copied";
    setTimeout(() => { this.said.textContent = ""; }, 1500);
  }
}
