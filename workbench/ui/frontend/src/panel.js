// The panel: the layer table, and around it toolbar, figures, the chosen layer from close by, jobs and script.

import "./table.css";
import "./panel.css";
import { Chart } from "./chart.js";
import { element } from "./dom.js";
import { ScriptLine } from "./foot.js";
import { JobBar } from "./job_bar.js";
import { KEY, keepKeys, keyOf } from "./keys.js";
import { Table } from "./layer_table.js";
import { unpack } from "./packing.js";
import { Steps } from "./steps.js";
import { Tabs } from "./tabs.js";
import { followTheme } from "./theme.js";
import { Toolbar } from "./toolbar.js";
import { Validation } from "./validation.js";

/** @typedef {import("./types.js").ChartClick} ChartClick */

/**
 * @param {string} title
 * @param {Chart} chart
 */
const figure = (title, chart) =>
  element("figure", "aq-figure", {}, element("figcaption", "", { textContent: title }), chart.root);

/**
 * The name of the layer that a mark or a cell stands for; names are escaped, for plotly reads some HTML.
 * @param {ChartClick} click
 */
function layerAt({ y, customdata }) {
  const name = Array.isArray(customdata) ? customdata[0] : y;
  return String(name).replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** @param {string} name */
const escaped = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The charts of one layer. */
const DETAILS = /** @type {const} */ (["weights", "channels", "time"]);

class Panel {
  target = "";
  naming = "";
  /** @type {import("./messages.js").Job | null} */
  job = null;
  /** @type {Toolbar | undefined} made after the table, which is refreshed before */
  toolbar;
  /** @type {Partial<Record<typeof DETAILS[number], Chart>>} of the layer under the cursor */
  details = {};
  /** @type {Record<string, HTMLElement>} of the details */
  frames = {};
  /** @type {Chart[]} */
  allCharts = [];
  overview = element("div", "aq-figures");
  title = element("div", "aq-closeup-title", {
    textContent: "Choose a layer to see its weights and its error from close by.",
  });
  closer = element("div", "aq-closer", { hidden: true });
  closeup = element("div", "aq-closeup", {}, this.title, this.closer);

  /**
   * @param {import("./types.js").Model<import("./types.js").PanelTraits>} model
   * @param {HTMLElement} host
   */
  constructor(model, host) {
    this.model = model;
    const header = model.get("data").header;
    this.top = element("div", "aq-above");
    this.left = element("div", "aq-left");
    this.jobs = new JobBar(
      () => this.root,
      () => this.table.act({ act: "cancel" }),
    );
    this.script = new ScriptLine(header.opening);
    this.charts = this.makeCharts(header);
    this.validation = new Validation(
      (act, content) => this.table.act({ act, ...content }),
      header.has_time,
      (click) => this.choose(layerAt(click)),
    );
    this.allCharts.push(...Object.values(this.validation.charts));
    const tabs = new Tabs({ Figures: this.overview, Validation: this.validation.root });
    this.root = element(
      "div",
      "aq-view aq-panel",
      {},
      this.top,
      element("div", "aq-main", {}, this.left, tabs.root),
      this.script.root,
    );
    host.append(this.root);
    this.table = new Table(model, this.left, {
      hear: (message) => this.hear(message),
      settled: (message) => this.settled(message),
      refreshed: (totals) => this.toolbar?.refresh(totals),
      chosen: () => this.mark(),
      renewed: () => this.renewed(),
      dismissed: () => this.table.connection.send({ type: "dismiss" }),
    });
    const toolbar = new Toolbar(this.table, header);
    this.toolbar = toolbar;
    toolbar.onDrawer = () => this.showJob(this.job);
    tabs.onChange = () => this.showJob(this.job);
    toolbar.done.show(header.exported);
    this.top.append(toolbar.root, this.table.totals.root, this.table.strip.root);
    this.left.append(this.closeup);
    this.renewed();
    if (header.message_bar.text) this.table.strip.say(header.message_bar.text, header.message_bar.kind);
    this.showJob(header.job);
    this.table.refresh();
    /** @type {[event: string, act: () => void][]} */
    this.follows = [
      ["change:overview", () => this.showOverview()],
      ["change:closeup", () => this.showCloseup()],
      ["change:steps", () => this.showSteps()],
      ["change:validation", () => this.showValidation()],
    ];
    for (const [event, act] of this.follows) {
      model.on(event, act);
      act();
    }
    this.unfollowTheme = followTheme(this.root, () => {
      for (const chart of this.allCharts) chart.later();
    });
    this.root.addEventListener(KEY, (event) => this.key(event));
    this.freeKeys = keepKeys(this.root);
  }

  /** @param {import("./types.js").PanelHeader} header */
  makeCharts(header) {
    const toLayer = (/** @type {ChartClick} */ click) => this.choose(layerAt(click));
    const chart = (
      /** @type {string} */ label,
      /** @type {number} */ height,
      /** @type {((click: ChartClick) => void) | undefined} */ onClick = undefined,
    ) => new Chart({ label, height, onClick });
    const charts = {
      front: chart("Damage against size: the front of best plans, policies, and the present plan", 300, ({ x }) =>
        this.table.act({ act: "solve", bpw: Number(x) }),
      ),
      depth: chart("Entropy of the weights and of the choice along depth, coloured by bits", 300, toLayer),
      heat: chart("Heat map of the layers", 300, toLayer),
    };
    this.details = {
      weights: chart("Histogram of the layer's weights with the levels of its codes", 220),
      channels: chart("Error of the layer's weights by input channel", 220),
      ...(header.has_time ? { time: chart("Range of the layer's input over denoising time", 220) } : {}),
    };
    this.allCharts = [...Object.values(charts), ...Object.values(this.details)];
    const { front, depth, heat } = charts;
    this.overview.append(
      figure("Damage against size", front),
      figure("Entropy along depth", depth),
      figure(header.has_time ? "Damage over denoising time" : "Damage at each width", heat),
    );
    /** @type {Record<string, string>} */
    const titles = {
      weights: "Weights and code levels",
      channels: "Error by channel",
      time: "Input over denoising time",
    };
    this.frames = Object.fromEntries(Object.entries(this.details).map(([key, one]) => [key, figure(titles[key], one)]));
    this.closer.append(...Object.values(this.frames));
    return charts;
  }

  // ---- what happens -------------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  key(event) {
    const action = keyOf(event)?.action;
    if (event.defaultPrevented || (action !== "undo" && action !== "redo")) return;
    event.preventDefault();
    event.stopPropagation();
    this.table.edit(action);
  }

  /** @param {import("./messages.js").ToBrowser} message */
  hear(message) {
    if (message.type === "predicted") this.toolbar?.predicted(message);
    else if (message.type === "message_bar") {
      this.table.strip.say(message.text, message.kind);
      this.table.say(message.text);
    } else if (message.type === "job") {
      this.showJob(message.job);
      if (!message.job) this.toolbar?.showTarget(this.target, this.naming);
    } else if (message.type === "exported") this.toolbar?.showExported(message.exported);
  }

  /** @param {Omit<import("./messages.js").PlanChanged, "type">} plan */
  settled({ target = "", naming = "", script = [], base, ack, error, question }) {
    this.target = target;
    this.naming = naming;
    this.script.add(script, base);
    if (this.jobs.root.hidden) this.toolbar?.showTarget(target, naming);
    if (question) this.toolbar?.ask(question);
    else if (!error) this.toolbar?.solved(ack);
  }

  renewed() {
    const { header } = this.model.get("data");
    this.settled({ ...header, base: 0 });
  }

  /** @param {string} name of a layer */
  choose(name) {
    const row = this.table.plan.names.indexOf(name);
    if (row < 0) return;
    this.table.choose(() => {
      this.table.selection.rows = new Set([row]);
      this.table.point(row);
    });
  }

  // ---- what is shown ------------------------------------------------------------------------------------------

  mark() {
    const { plan, selection } = this.table;
    const names = [...selection.rows].map((row) => escaped(plan.names[row]));
    this.charts.depth.mark(names);
    this.charts.heat.mark(names);
  }

  showOverview() {
    const specs = this.model.get("overview");
    for (const [key, chart] of Object.entries(this.charts)) chart.show(specs[key]);
    this.mark();
  }

  showCloseup() {
    const specs = this.model.get("closeup");
    this.closer.hidden = !specs.layer;
    if (!specs.layer) return;
    this.title.replaceChildren(element("b", "", { textContent: specs.layer }), ` ${specs.text}`);
    for (const key of DETAILS) {
      const chart = this.details[key];
      if (!chart) continue;
      // What was drawn of another layer must not stand beside this one.
      this.frames[key].style.visibility = specs[key] ? "" : "hidden";
      chart.show(specs[key] ?? "");
    }
  }

  /** @param {import("./messages.js").Job | null} job */
  showJob(job) {
    this.job = job;
    if (!this.toolbar) return;
    const place = { export: this.toolbar.exportSlot, validation: this.validation.slot }[job?.place ?? ""];
    // A closed drawer or tab shows nothing.
    this.jobs.show(job, place?.closest("[hidden]") === null ? place : this.toolbar.slot);
    this.showValidation();
  }

  showValidation() {
    this.validation.show(this.model.get("validation"), !this.jobs.root.hidden);
  }

  showSteps() {
    const steps = this.model.get("steps");
    this.toolbar?.setSteps(steps && new Steps(unpack(steps.layout, steps.blob)));
  }

  close() {
    for (const [event, act] of this.follows) this.model.off(event, act);
    this.unfollowTheme();
    this.freeKeys();
    for (const chart of this.allCharts) chart.close();
    this.jobs.close();
    this.table.close();
  }
}

export default {
  /** @param {{ model: import("./types.js").Model<import("./types.js").PanelTraits>, el: HTMLElement }} view */
  render({ model, el }) {
    const panel = new Panel(model, el);
    return () => panel.close();
  },
};
