// The validation tab: the plan run in the model, what was predicted beside what was measured, and learning from it.

import { button } from "./bars.js";
import { Chart } from "./chart.js";
import { element } from "./dom.js";

const KINDS = /** @type {const} */ (["scatter", "groups", "growth", "samples"]);

/** @type {Record<typeof KINDS[number], [title: string, height: number]>} */
const CHARTS = {
  scatter: ["Predicted against measured", 300],
  groups: ["Error by time group", 240],
  growth: ["Error along the steps", 240],
  samples: ["Final outputs", 200],
};

export class Validation {
  /** @type {Record<string, Chart>} */
  charts = {};
  /** @type {Record<string, HTMLElement>} */
  frames = {};

  /**
   * @param {(act: "validate" | "learn", content?: Omit<import("./types.js").Act, "act">) => void} act
   * @param {boolean} hasTime whether the calibration has a record over denoising time
   * @param {(click: import("./types.js").ChartClick) => void} onLayer
   */
  constructor(act, hasTime, onLayer) {
    this.runs = element("input", "aq-runs", { type: "number", min: "1", max: "99", value: "3" });
    this.modes = element(
      "select",
      "aq-choice",
      {},
      ...["none", ...(hasTime ? ["int8-time", "int8-static"] : [])].map((value) =>
        element("option", "", { value, textContent: value }),
      ),
    );
    this.alone = element("input", "", { type: "checkbox" });
    this.run = button(
      "Run the plan",
      "Run the plan in the model, and compare",
      () =>
        act("validate", {
          runs: Math.max(1, Math.round(this.runs.valueAsNumber) || 1),
          activations: this.modes.value,
          alone: this.alone.checked,
        }),
      "aq-primary",
    );
    this.learn = button("Learn from it", "Correct the predicted damage by what was measured", () => act("learn"));
    const labelled = (/** @type {string} */ text, /** @type {HTMLElement} */ control, /** @type {string} */ title) =>
      element("label", "aq-field", { title }, element("span", "", { textContent: text }), control);
    this.controls = element(
      "div",
      "aq-validation-bar",
      {},
      labelled("runs", this.runs, "how often to generate"),
      labelled("activations", this.modes, "rounding of the layers' inputs to eight bits"),
      labelled(
        "each layer alone",
        this.alone,
        "also with one layer quantized at a time: all runs for each layer; learning from it says most",
      ),
      this.run,
      this.learn,
    );
    this.slot = element("div", "aq-slot");
    this.lacking = element("div", "aq-lacking");
    this.facts = element("dl", "aq-facts");
    this.stale = element("div", "aq-stale");
    for (const key of KINDS) {
      const [title, height] = CHARTS[key];
      this.charts[key] = new Chart({ label: title, height, onClick: key === "scatter" ? onLayer : undefined });
      this.frames[key] = element(
        "figure",
        "aq-figure",
        { hidden: true },
        element("figcaption", "", { textContent: title }),
        this.charts[key].root,
      );
    }
    this.root = element(
      "div",
      "aq-validation",
      {},
      this.controls,
      this.slot,
      this.lacking,
      this.facts,
      this.stale,
      ...Object.values(this.frames),
    );
  }

  /**
   * @param {import("./types.js").ValidationState} validation
   * @param {boolean} busy whether a job runs
   */
  show(validation, busy) {
    this.lacking.textContent = validation.lacking ?? "";
    this.controls.hidden = Boolean(validation.lacking);
    this.run.disabled = busy;
    this.learn.disabled = busy || !validation.can_learn;
    this.facts.replaceChildren(
      ...(validation.facts ?? []).flatMap((pair) =>
        pair.map((text, place) => element(place ? "dd" : "dt", "", { textContent: text })),
      ),
    );
    this.stale.textContent = validation.stale ? `Note: ${validation.stale}.` : "";
    for (const key of KINDS) {
      this.frames[key].hidden = !validation[key];
      if (validation[key]) this.charts[key].show(validation[key]);
    }
  }
}
