// What stands above and below the rows: filter, edits of the chosen layers, extra columns, messages, totals.

import { paint } from "./columns.js";
import { element } from "./dom.js";
import { fixed, percent, significant, size, whole } from "./format.js";
import { TERMS } from "./terms.js";

/** @typedef {import("./plan.js").LayerPlan} LayerPlan */

/**
 * @typedef {object} BarActs
 * @property {(action: import("./types.js").EditAction, bits?: number) => void} edit
 * @property {() => void} again
 * @property {() => void} arrange
 * @property {(title: string, expression: string) => void} addColumn
 */

/**
 * @param {Node | string} text
 * @param {string} title
 * @param {() => void} onClick
 * @param {string} name its classes
 */
export const button = (text, title, onClick, name = "") => {
  const made = element("button", `aq-button ${name}`, { type: "button", title });
  made.append(text);
  made.setAttribute("aria-label", title);
  made.addEventListener("click", onClick);
  return made;
};

export class Bar {
  title = element("input", "", { placeholder: "title", size: 10, maxLength: 40, spellcheck: false });
  expression = element("input", "aq-expression", {
    placeholder: "expression, such as 1e9 * damage / nbytes",
    maxLength: 1000,
    spellcheck: false,
  });

  /** @param {BarActs} acts */
  constructor(acts) {
    this.filter = element("input", "aq-filter", {
      type: "search",
      spellcheck: false,
      placeholder: "filter: attn q, role:mlp*, bits < 4",
      title:
        "words in name and role; or a condition: column headings, globs on names, role:…, joined by and, or, not, such as *to_q* and damage > 0.01; after = for any (/)",
    });
    this.filter.setAttribute("aria-label", "filter layers");
    this.fault = element("div", "aq-fault", { hidden: true, id: `aq-fault-${Math.random().toString(36).slice(2)}` });
    this.filter.setAttribute("aria-describedby", this.fault.id);
    this.again = button("↻", "filter and sort again by what the layers are now", acts.again, "aq-again");
    this.count = element("span", "aq-count");
    this.edits = [2, 3, 4, 5, 6, 7, 8].map((bits) => {
      const swatch = element("span", "aq-swatch");
      paint(swatch, bits, false);
      const made = button(swatch, `${bits} bits (${bits})`, () => acts.edit("bits", bits), "aq-width");
      made.append(`${bits}`);
      made.dataset.bits = String(bits);
      return made;
    });
    this.edits.push(
      button("keep", "keep the source dtype (K)", () => acts.edit("keep"), "aq-keep"),
      button("lock", "lock or unlock (L)", () => acts.edit("toggle"), "aq-toggle"),
    );
    this.undo = button("↶", "undo (Ctrl+Z)", () => acts.edit("undo"), "aq-undo");
    this.redo = button("↷", "redo (Ctrl+Shift+Z)", () => acts.edit("redo"), "aq-redo");
    this.arrange = button("columns", "show, hide and order the columns", acts.arrange, "aq-arrange");
    this.arrange.setAttribute("aria-haspopup", "menu");
    this.add = button("+ column", "add a column by an expression", () => this.toggleForm(), "aq-add");
    this.form = this.makeForm(acts.addColumn);
    const bulk = element("div", "aq-bulk", {}, this.count, ...this.edits);
    bulk.setAttribute("role", "group");
    bulk.setAttribute("aria-label", "edit the chosen layers");
    this.rest = element("div", "aq-rest", {}, this.undo, this.redo, this.arrange, this.add);
    this.root = element(
      "div",
      "aq-bar",
      {},
      element("div", "aq-filters", {}, this.filter, this.again),
      bulk,
      this.rest,
      this.form,
      this.fault,
    );
  }

  /** @param {BarActs["addColumn"]} addColumn */
  makeForm(addColumn) {
    this.title.setAttribute("aria-label", "title of the column");
    this.expression.setAttribute("aria-label", "expression of the column");
    const submit = () => addColumn(this.title.value.trim(), this.expression.value.trim());
    const form = element(
      "div",
      "aq-form",
      { hidden: true },
      this.title,
      "=",
      this.expression,
      button("add", "add the column", submit),
    );
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter") submit();
      if (event.key === "Escape") this.toggleForm(false);
    });
    return form;
  }

  toggleForm(show = this.form.hidden) {
    this.form.hidden = !show;
    this.complain("");
    if (show) this.title.focus();
    else this.add.focus();
  }

  /** @param {string} text */
  complain(text) {
    this.fault.textContent = text;
    this.fault.hidden = !text;
    this.filter.setAttribute("aria-invalid", Boolean(text) && this.form.hidden);
  }

  /**
   * Widths that none of the layers can have look so, and say what they give.
   * @param {LayerPlan} plan
   * @param {number[]} rows
   */
  showWidths(plan, rows) {
    for (const edit of this.edits) {
      const bits = Number(edit.dataset.bits);
      if (!bits) continue;
      const has = plan.has(rows, bits);
      const given = has
        ? ""
        : plan
            .instead(rows, bits)
            .map(({ text }) => text)
            .join(" or ");
      const title = has ? `${bits} bits (${bits})` : `no ${bits} bits here: gives ${given}`;
      edit.classList.toggle("aq-lacking-width", !has);
      if (edit.title === title) continue;
      edit.title = title;
      edit.setAttribute("aria-label", title);
    }
  }

  /**
   * @param {object} state
   * @param {number} state.chosen layers
   * @param {number} state.hidden of them by the filter
   * @param {number} state.subject layers that an edit is about
   * @param {boolean} state.stale whether the order is one of before the last edits
   * @param {boolean} state.canUndo
   * @param {boolean} state.canRedo
   * @param {boolean} state.dead
   */
  update({ chosen, hidden, subject, stale, canUndo, canRedo, dead }) {
    const beside = hidden ? ` · ${whole(hidden)} hidden` : "";
    this.count.textContent = chosen ? `${whole(chosen)} chosen${beside}` : "";
    this.count.title = hidden ? "edits leave alone what the filter hides" : "";
    for (const edit of this.edits) edit.disabled = dead || !subject;
    this.undo.disabled = dead || !canUndo;
    this.redo.disabled = dead || !canRedo;
    this.again.hidden = !stale;
  }
}

/** @typedef {"error" | "note" | "slow" | "gone" | ""} MessageKind slow and gone are states of the connection */

// Messages that matter until they are dismissed, or a state that lasts.
export class Strip {
  constructor(onDismiss = () => {}) {
    this.text = element("span");
    this.root = element(
      "div",
      "aq-strip",
      { hidden: true },
      this.text,
      button(
        "×",
        "dismiss",
        () => {
          this.say("");
          onDismiss();
        },
        "aq-dismiss",
      ),
    );
  }

  /**
   * @param {string} text
   * @param {MessageKind} kind
   */
  say(text, kind = "error") {
    this.root.setAttribute("role", kind === "note" ? "status" : "alert");
    this.text.textContent = text;
    this.root.hidden = !text;
    this.root.dataset.kind = kind;
  }

  // A new action is under way: what was said of an older one is over.
  over() {
    if (["error", "note"].includes(this.root.dataset.kind ?? "")) this.say("");
  }

  /**
   * Ends a state, unless another message took its place.
   * @param {MessageKind} kind
   */
  end(kind) {
    if (this.root.dataset.kind === kind) this.say("");
  }
}

/** @typedef {ReturnType<LayerPlan["totals"]>} PlanTotals */

/** @type {[key: Exclude<keyof PlanTotals, "estimate">, label: string, title: string, format: (value: number) => string][]} */
const PARTS = [
  ["nbytes", "size", "bytes of the payload", size],
  ["ratio", "ratio", "source bytes over payload bytes", (value) => `${fixed(2)(value)}×`],
  ["bpw", "bpw", "bits per layer weight, scales included", fixed(3)],
  ["damage", "ΣD", "predicted damage, Σ D over the layers", significant],
  ["gap", "gap ≤", TERMS.gap, percent],
  ["temperature", "T", TERMS.T, significant],
  ["below", "cosine <", "layers whose cosine is below the least one wanted", whole],
  ["locks", "locked", "layers that a solver leaves as they are", whole],
];

export class Totals {
  constructor() {
    this.values = Object.fromEntries(PARTS.map(([key]) => [key, element("b")]));
    /** @type {Record<string, HTMLElement>} */
    this.labels = {};
    this.shown = element("span", "aq-shown");
    this.root = element(
      "div",
      "aq-totals",
      {},
      ...PARTS.map(([key, label, title]) => {
        this.labels[key] = element("span", "", { textContent: label });
        const part = element("span", "aq-total", { title }, this.labels[key], this.values[key]);
        part.dataset.total = key;
        return part;
      }),
      this.shown,
    );
  }

  /**
   * @param {PlanTotals} totals
   * @param {number} minCosine
   * @param {number} shown rows
   * @param {number} count of layers
   * @param {number} waiting edits
   */
  update(totals, minCosine, shown, count, waiting) {
    for (const [key, , , format] of PARTS) this.values[key].textContent = format(totals[key]);
    this.labels.below.textContent = `cosine < ${minCosine}`;
    this.root.classList.toggle("aq-estimate", totals.estimate);
    const rows = shown === count ? `${whole(count)} layers` : `${whole(shown)} of ${whole(count)} layers`;
    this.shown.textContent = waiting ? `${rows} · ${waiting} ${waiting > 1 ? "edits wait" : "edit waits"}` : rows;
  }
}
