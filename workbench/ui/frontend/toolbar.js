// The toolbar: target, budget, temperature, solve, undo, policies, locks, plans and exports.

import { button } from "./bars.js";
import { element } from "./columns.js";
import { significant, size, whole } from "./format.js";
import { explain } from "./glossary.js";
import { KEY } from "./keys.js";
import { TERMS } from "./terms.js";

let fields = 0;

const field = (text, control) => {
  control.id = `aq-field-${++fields}`;
  return element("span", "aq-field", {}, element("label", "", { textContent: text, htmlFor: control.id }), control);
};

// A choice that does something: the arrow keys open it, for each step of a closed one would do it already.
function choice(label, groups, onChoose) {
  const made = element("select", "aq-choice", {}, ...groups);
  made.setAttribute("aria-label", label);
  made.addEventListener("change", () => onChoose(made.value));
  made.addEventListener(KEY, (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || ["Tab", "Enter", " ", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key.startsWith("Arrow")) made.showPicker?.();
  });
  return made;
}

const options = (values, prefix = "") => values.map((value) =>
  element("option", "", { value: prefix + value, textContent: value }));

const group = (label, ...inner) => element("optgroup", "", { label }, ...inner);

// Decimal megabytes, upwards, so that what is shown can be solved for again.
const megabytes = (bytes) => `${(Math.ceil(bytes / 1e3) / 1e3).toFixed(3)} MB`;

export class Toolbar {
  constructor(table, header) {
    this.table = table;
    this.target = choice("target format", options(header.targets), (target) => this.act("retarget", { target }));
    this.budget = element("input", "aq-budget", { type: "range", min: 0, max: 1, step: "any", disabled: true });
    this.size = element("input", "aq-size", { placeholder: "2.5 GB", spellcheck: false, title: "bytes of the payload, such as 2.5 GB or 900 MiB (Enter)" });
    this.size.setAttribute("aria-label", "size to solve for");
    this.solve = button("Solve", "Solve: the best plan within this size", () => this.act("solve", { size: this.size.value }), "aq-primary");
    this.price = element("input", "aq-price", { inputMode: "decimal", spellcheck: false,
      title: `T, ${TERMS.T} (Enter)` });
    this.policy = choice("take a simple policy's plan", [element("option", "", { value: "", textContent: "Policy" }),
      ...options(header.policies)], (policy) => this.once(this.policy, "follow", { policy }));
    explain(this.policy, header.about_policies);
    const roles = header.roles.slice().sort();
    this.lock = choice("lock or unlock by role", [element("option", "", { value: "", textContent: "Lock" }),
      group("lock", ...options(roles, "lock ")),
      group("unlock", element("option", "", { value: "unlock", textContent: "all" }), ...options(roles, "unlock "))],
    (value) => {
      const [act, role] = value.split(" ");
      this.once(this.lock, act, role ? { role } : {});
    });
    const { undo, redo } = table.bar;
    undo.append("\u00a0Undo");
    redo.append("\u00a0Redo");
    this.plans = this.makePlans();
    this.exports = this.makeExports();
    const row = element("div", "aq-tools", {},
      element("b", "aq-model", { textContent: header.model, title: header.model }), field("target", this.target),
      element("span", "aq-field aq-wide", {}, element("label", "", { textContent: "budget", htmlFor: "" }), this.budget, this.size, this.solve),
      field("T", this.price), element("span", "aq-field", {}, undo, redo), this.policy, this.lock,
      this.plans.toggle, this.exports.toggle);
    this.budget.id = `aq-field-${++fields}`;
    row.querySelector(".aq-wide label").htmlFor = this.budget.id;
    this.root = element("div", "aq-toolbar", {}, row, this.plans.root, this.exports.root);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "workbench");
    this.listen();
  }

  // A row that a button opens.
  drawer(text, ...inner) {
    const root = element("div", "aq-drawer", { hidden: true }, ...inner);
    const toggle = button(`${text} ▾`, `${text} …`, () => open(root.hidden));
    const open = (yes) => {
      root.hidden = !yes;
      toggle.setAttribute("aria-expanded", yes);
      if (yes) root.querySelector("input").select();
      if (yes && text === "Export") this.predict();
    };
    toggle.setAttribute("aria-expanded", false);
    for (const heard of [KEY, "keydown"]) {
      root.addEventListener(heard, (event) => {
        if (event.key !== "Escape") return;
        open(false);
        toggle.focus();
      });
    }
    return { root, toggle, open };
  }

  makePlans() {
    const path = element("input", "aq-path", { value: "plan.yaml", spellcheck: false });
    return this.drawer("Plan", field("file", path),
      button("Save plan", "Save the plan to the file", () => this.act("save", { path: path.value })),
      button("Load plan", "Load a plan from the file", () => this.act("load", { path: path.value })));
  }

  makeExports() {
    const folder = element("input", "aq-path", { value: "export", spellcheck: false });
    this.ahead = element("span", "aq-ahead");
    this.ahead.setAttribute("role", "status");
    const write = () => {
      this.act("export", { folder: folder.value });
      made.open(false);
    };
    folder.addEventListener("keydown", (event) => event.key === "Enter" && write());
    const made = this.drawer("Export", field("folder", folder), button("Write", "Write the export", write, "aq-primary"), this.ahead);
    return made;
  }

  listen() {
    const { budget, price } = this;
    budget.addEventListener("input", () => {
      this.dragging = true;
      this.frame ??= requestAnimationFrame(() => {
        this.frame = undefined;
        if (this.dragging) this.table.attempt(this.walked());
      });
    });
    budget.addEventListener("change", () => {
      this.dragging = false;
      this.act("budget", { nbytes: Math.round(budget.valueAsNumber) }, this.walked() ?? undefined);
    });
    this.size.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.act("solve", { size: this.size.value });
    });
    price.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const temperature = Number(price.value.replace("−", "-"));
      if (price.value.trim() && temperature >= 0 && Number.isFinite(temperature)) this.act("solve", { temperature });
      else this.table.complain(`T is ${price.value || "empty"}; it must be a number from 0 on, such as 2e-9.`);
    });
    for (const input of [this.size, price]) input.addEventListener("blur", () => this.refresh(this.totals));
  }

  act(act, content, proposal) {
    this.table.act({ act, ...content }, proposal);
  }

  // For a list that is back at its name after it was chosen from.
  once(control, act, content) {
    control.value = "";
    this.act(act, content);
  }

  // What the solver begins with at the slider's place; null before the hulls are here.
  walked() {
    const { plan } = this.table;
    return this.steps ? this.steps.walk(plan, this.budget.valueAsNumber - plan.overhead) : null;
  }

  setSteps(steps) {
    this.steps = steps;
    this.dragging = false;
    this.refresh(this.totals);
  }

  predict() {
    this.table.connection.send({ type: "predict" }, true);
  }

  predicted({ nbytes, is_exact: exact, seconds, peak_bytes: peak }) {
    this.ahead.textContent = `${exact ? "" : "at most "}${whole(nbytes)} bytes, about ${whole(Math.ceil(seconds))} s, `
      + `at most ${whole(Math.round(peak / 1e6))} MB of memory`;
  }

  // A job that did not come about leaves the target as it was.
  showTarget(target) {
    this.target.value = target;
  }

  refresh(totals) {
    if (!totals) return;
    this.totals = totals;
    const { budget, price, steps, table } = this;
    const { plan, connection: { dead } } = table;
    const focus = this.root.getRootNode().activeElement;
    if (focus !== this.size || this.dragging) this.size.value = megabytes(totals.nbytes);
    if (focus !== price) price.value = significant(totals.temperature).replace("−", "-");
    if (steps && !this.dragging) {
      const [low, high] = steps.range(plan).map((bytes) => bytes + plan.overhead);
      Object.assign(budget, { min: low, max: Math.max(high, low + 1), value: totals.nbytes });
    }
    budget.setAttribute("aria-valuetext", size(totals.nbytes));
    for (const control of this.root.querySelectorAll("input, select, button")) {
      if (control !== table.bar.undo && control !== table.bar.redo) control.disabled = dead || (control === budget && !steps);
    }
    if (this.version !== undefined && this.version !== plan.version && !this.exports.root.hidden) this.predict();
    this.version = plan.version;
  }
}
