// The toolbar: target, budget, temperature, solve, undo, policies, locks, plans and exports.

import { button } from "./bars.js";
import { element } from "./dom.js";
import { Snippet } from "./foot.js";
import { significant, size, whole } from "./format.js";
import { explain } from "./glossary.js";
import { KEY } from "./keys.js";
import { TERMS } from "./terms.js";

let fields = 0;

/**
 * A control with its label.
 * @param {string} text
 * @param {HTMLElement} control
 */
const field = (text, control) => {
  control.id = `aq-field-${++fields}`;
  return element("span", "aq-field", {}, element("label", "", { textContent: text, htmlFor: control.id }), control);
};

/**
 * A choice that does something: the arrow keys open it, for each step of a closed one would do it already.
 * @param {string} label
 * @param {HTMLElement[]} groups
 * @param {(value: string) => void} onChoose
 */
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

/**
 * @param {string[]} values
 * @param {string} prefix before the value that is sent
 */
const options = (values, prefix = "") =>
  values.map((value) => element("option", "", { value: prefix + value, textContent: value }));

/**
 * @param {string} label
 * @param {HTMLOptionElement[]} inner
 */
const group = (label, ...inner) => element("optgroup", "", { label }, ...inner);

/** @type {Partial<Record<string, string>>} */
const NAMES = { original: "original (ComfyUI)", checkpoint: "diffusers" };

// A field whose text is the reader's from the first key on, until it is acted on or given up by Escape; else it shows
// what is the case.
class Typed {
  /**
   * @param {HTMLInputElement} input
   * @param {() => void} onEnter
   */
  constructor(input, onEnter) {
    this.input = input;
    this.dirty = false;
    this.now = "";
    input.addEventListener("input", () => this.mark(true));
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") onEnter();
      if (event.key !== "Escape" || !this.dirty) return;
      event.stopPropagation();
      this.giveUp();
    });
  }

  /** @param {boolean} dirty */
  mark(dirty) {
    this.dirty = dirty;
    this.input.classList.toggle("aq-typed", dirty);
  }

  /** @param {string} text */
  show(text) {
    this.now = text;
    if (!this.dirty) this.input.value = text;
  }

  giveUp() {
    this.mark(false);
    this.input.value = this.now;
  }
}

// As the totals show it.
/** @param {number} bytes */
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(3)} MB`;

export class Toolbar {
  onDrawer = () => {};
  endQuestion = () => {};
  /** @type {import("./steps.js").Steps | null} */
  steps = null;
  dragging = false;
  /** @type {number | undefined} */
  frame;
  /** @type {string | null} the request whose answer ends what was typed */
  solving = null;
  /** @type {number | undefined} of the plan that was shown last */
  version;
  /** @type {ReturnType<import("./plan.js").LayerPlan["totals"]> | undefined} */
  totals;
  shownTarget = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  asking;
  folder = element("input", "aq-path", { value: "export", spellcheck: false });
  ahead = element("div", "aq-ahead");
  exportSlot = element("span", "aq-slot");
  done = new Snippet();
  slot = element("div", "aq-slot");
  question = element("div", "aq-question", { hidden: true });

  /**
   * @param {import("./layer_table.js").Table} table
   * @param {import("./types.js").PanelHeader} header
   */
  constructor(table, header) {
    this.table = table;
    this.target = choice("target format", options(header.targets), (target) => this.act("retarget", { target }));
    this.names = choice(
      "names of the layers",
      header.possible_names.map((value) => element("option", "", { value, textContent: NAMES[value] ?? value })),
      (names) => this.act("retarget", { target: this.shownTarget, names }),
    );
    this.names.classList.add("aq-names");
    this.names.title =
      "original: as in the single-file checkpoint, which ComfyUI reads; diffusers: as in this checkpoint's files";
    this.budget = element("input", "aq-budget", { type: "range", min: "0", max: "1", step: "any", disabled: true });
    this.size = element("input", "aq-size", {
      placeholder: "2.5 GB",
      spellcheck: false,
      title: "bytes of the payload, such as 2.5 GB or 900 MiB; Enter solves, Escape shows the present size again",
    });
    this.size.setAttribute("aria-label", "size to solve for");
    this.solve = button("Solve", "Solve: the best plan within this size", () => this.solveSize(), "aq-primary");
    this.price = element("input", "aq-price", {
      inputMode: "decimal",
      spellcheck: false,
      title: `T, ${TERMS.T}; Enter solves`,
    });
    this.typed = {
      size: new Typed(this.size, () => this.solveSize()),
      price: new Typed(this.price, () => this.solvePrice()),
    };
    this.policy = choice(
      "take a simple policy's plan",
      [element("option", "", { value: "", textContent: "Policy" }), ...options(header.policies)],
      (policy) => this.once(this.policy, "follow", { policy }),
    );
    explain(this.policy, header.about_policies);
    const roles = header.roles.slice().sort();
    this.lock = choice(
      "lock or unlock by role",
      [
        element("option", "", { value: "", textContent: "Lock" }),
        group("lock", ...options(roles, "lock ")),
        group("unlock", element("option", "", { value: "unlock", textContent: "all" }), ...options(roles, "unlock ")),
      ],
      (value) => {
        const [act, role] = value.split(" ");
        this.once(this.lock, act === "lock" ? "lock" : "unlock", role ? { role } : {});
      },
    );
    const { undo, redo } = table.bar;
    undo.append("\u00a0Undo");
    redo.append("\u00a0Redo");
    this.plans = this.makePlans();
    this.exports = this.makeExports();
    const budget = field("budget", this.budget);
    budget.classList.add("aq-wide");
    budget.append(this.size, this.solve);
    const row = element(
      "div",
      "aq-tools",
      {},
      element("b", "aq-model", { textContent: header.model, title: header.model }),
      field("target", this.target),
      ...(header.possible_names.length > 1 ? [field("names", this.names)] : []),
      budget,
      field("T", this.price),
      element("span", "aq-field", {}, undo, redo),
      element("span", "aq-field aq-more", {}, this.policy, this.lock, this.plans.toggle, this.exports.toggle),
    );
    this.question.setAttribute("role", "alertdialog");
    this.root = element("div", "aq-toolbar", {}, row, this.slot, this.plans.root, this.exports.root, this.question);
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", "workbench");
    this.listen();
  }

  /**
   * A row that a button opens.
   * @param {string} text on the button
   * @param {(Node | string)[]} inner
   */
  drawer(text, ...inner) {
    const root = element("div", "aq-drawer", { hidden: true }, ...inner);
    const toggle = button(`${text} ▾`, `${text} …`, () => open(root.hidden));
    const open = (/** @type {boolean} */ yes) => {
      root.hidden = !yes;
      toggle.setAttribute("aria-expanded", yes);
      if (yes) root.querySelector("input")?.select();
      if (yes && text === "Export") this.predict();
      this.onDrawer();
    };
    toggle.setAttribute("aria-expanded", false);
    for (const heard of [KEY, "keydown"]) {
      root.addEventListener(heard, (event) => {
        if (/** @type {KeyboardEvent} */ (event).key !== "Escape") return;
        open(false);
        toggle.focus();
      });
    }
    return { root, toggle, open };
  }

  makePlans() {
    const path = element("input", "aq-path", { value: "plan.yaml", spellcheck: false });
    return this.drawer(
      "Plan",
      field("file", path),
      button("Save plan", "Save the plan to the file", () => this.act("save", { path: path.value })),
      button("Load plan", "Load a plan from the file", () => this.act("load", { path: path.value })),
    );
  }

  makeExports() {
    const { folder } = this;
    this.ahead.setAttribute("role", "status");
    const write = () => this.act("export", { folder: folder.value });
    folder.addEventListener("keydown", (event) => event.key === "Enter" && write());
    folder.addEventListener("input", () => {
      clearTimeout(this.asking);
      this.asking = setTimeout(() => this.predict(), 300);
    });
    return this.drawer(
      "Export",
      field("folder", folder),
      button("Write", "Write the export", write, "aq-primary"),
      this.exportSlot,
      this.ahead,
      this.done.root,
    );
  }

  // What would lose something is asked for first; nothing has been done yet.
  /** @param {import("./messages.js").Question} question */
  ask(question) {
    this.question.hidden = !question;
    if (!question) return;
    const page = /** @type {Document | ShadowRoot} */ (this.root.getRootNode());
    const before = /** @type {HTMLElement | null} */ (page.activeElement);
    const end = () => {
      this.question.hidden = true;
      before?.focus?.({ preventScroll: true });
    };
    const buttons = question.choices.map(({ label, message }, place) =>
      button(
        label,
        label,
        () => {
          end();
          const { type, id, act, ...content } = /** @type {import("./messages.js").Do} */ (
            /** @type {object} */ (message)
          );
          this.act(act, content);
        },
        place ? "" : "aq-primary",
      ),
    );
    this.question.setAttribute("aria-label", question.text);
    this.question.replaceChildren(
      element("span", "", { textContent: question.text }),
      ...buttons,
      button("Cancel", "Cancel", end),
    );
    this.endQuestion = end;
    buttons[0].focus();
  }

  // What is typed, or exactly the present bytes, of which the field shows a rounded number.
  solveSize() {
    this.act("solve", { size: this.typed.size.dirty ? this.size.value : this.totals?.nbytes });
  }

  solvePrice() {
    const { price } = this;
    const temperature = Number(price.value.replace("−", "-"));
    if (price.value.trim() && temperature >= 0 && Number.isFinite(temperature)) this.act("solve", { temperature });
    else this.table.complain(`T is ${price.value || "empty"}; it must be a number from 0 on, such as 2e-9.`);
  }

  /**
   * What this toolbar asked for was done: where it was to solve, what was typed has been heard.
   * @param {string | null | undefined} ack
   */
  solved(ack) {
    if (!ack || ack !== this.solving) return;
    for (const one of Object.values(this.typed)) one.mark(false);
  }

  listen() {
    const { budget } = this;
    budget.addEventListener("input", () => {
      this.typed.size.giveUp();
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
    for (const heard of [KEY, "keydown"]) {
      this.question.addEventListener(heard, (event) => {
        if (/** @type {KeyboardEvent} */ (event).key === "Escape") this.endQuestion();
      });
    }
  }

  /**
   * @param {import("./types.js").Act["act"]} act
   * @param {Omit<import("./types.js").Act, "act">} content
   * @param {import("./types.js").Proposal} [proposal]
   */
  act(act, content, proposal) {
    this.question.hidden = true;
    const id = this.table.act({ act, ...content }, proposal);
    if (["solve", "budget", "follow"].includes(act)) this.solving = id;
  }

  /**
   * For a list that is back at its name after it was chosen from.
   * @param {HTMLSelectElement} control
   * @param {import("./types.js").Act["act"]} act
   * @param {Omit<import("./types.js").Act, "act">} content
   */
  once(control, act, content) {
    control.value = "";
    this.act(act, content);
  }

  // What the solver begins with at the slider's place; null before the hulls are here.
  walked() {
    const { plan } = this.table;
    return this.steps ? this.steps.walk(plan, this.budget.valueAsNumber - plan.overhead) : null;
  }

  /** @param {import("./steps.js").Steps | null} steps */
  setSteps(steps) {
    this.steps = steps;
    this.dragging = false;
    this.refresh(this.totals);
  }

  predict() {
    this.table.connection.send({ type: "predict", folder: this.folder.value }, true);
  }

  /** @param {import("./messages.js").Predicted} message */
  predicted({ error, nbytes = 0, is_exact: exact, time, peak_bytes: peak = 0, folder, exists, readers = [] }) {
    const line = (/** @type {string} */ text, name = "") => element("div", name, { textContent: text });
    if (error) {
      this.ahead.replaceChildren(line(error, "aq-warning"));
      return;
    }
    const where =
      folder === this.done.folder
        ? line(`${folder} is the last export; another one needs another name.`, "aq-where")
        : exists
          ? line(`${folder} exists already; choose another name.`, "aq-warning")
          : line(`→ ${folder}`, "aq-where");
    this.ahead.replaceChildren(
      where,
      line(
        `${exact ? "" : "at most "}${whole(nbytes)} bytes, ${time}, at most ${whole(Math.round(peak / 1e6))} MB of memory`,
      ),
      ...readers.map((sentence) => line(sentence)),
    );
  }

  /** @param {import("./messages.js").Exported | null} exported */
  showExported(exported) {
    this.done.show(exported);
    if (exported && !this.exports.root.hidden) this.predict();
  }

  /**
   * A job that did not come about leaves the target as it was.
   * @param {string} target
   * @param {string} names
   */
  showTarget(target, names) {
    this.shownTarget = this.target.value = target;
    this.names.value = names;
  }

  /** @param {Toolbar["totals"]} totals */
  refresh(totals) {
    if (!totals) return;
    this.totals = totals;
    const { budget, steps, table } = this;
    const {
      plan,
      connection: { dead },
    } = table;
    this.typed.size.show(megabytes(totals.nbytes));
    this.typed.price.show(significant(totals.temperature).replace("−", "-"));
    if (steps && !this.dragging) {
      const [low, high] = steps.range(plan).map((bytes) => bytes + plan.overhead);
      Object.assign(budget, { min: low, max: Math.max(high, low + 1), value: totals.nbytes });
    }
    budget.setAttribute("aria-valuetext", size(totals.nbytes));
    const controls = /** @type {NodeListOf<HTMLInputElement>} */ (this.root.querySelectorAll("input, select, button"));
    for (const control of controls) {
      if (control !== table.bar.undo && control !== table.bar.redo)
        control.disabled = dead || (control === budget && !steps);
    }
    if (this.version !== undefined && this.version !== plan.version && !this.exports.root.hidden) this.predict();
    this.version = plan.version;
  }
}
