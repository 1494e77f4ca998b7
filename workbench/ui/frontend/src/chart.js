// A plotly figure: drawn when plotly.js is there, replaced in one piece, in the colours of the page.

import { element } from "./dom.js";
import { sharedPlotly } from "./shared.js";

/** @typedef {import("./types.js").Trace} Trace */
/** @typedef {import("./types.js").Layout} Layout */

/**
 * @param {Element} element
 * @param {string} name
 * @param {string} fallback
 */
function colour(element, name, fallback) {
  return getComputedStyle(element).getPropertyValue(name).trim() || fallback;
}

/**
 * The layout with the page's colours for all that is not data.
 * @param {Layout} layout
 * @param {Element} element
 */
function themed(layout, element) {
  const text = colour(element, "--aq-ink", "#222");
  const grid = colour(element, "--aq-line", "#ddd");
  const ground = colour(element, "--aq-shade", "#fff");
  const axis = { color: text, gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  /** @type {Layout} */
  const changed = {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...layout.font, color: text, size: 11 },
    hoverlabel: { bgcolor: ground, bordercolor: grid, font: { color: text } },
    legend: { ...layout.legend, bgcolor: "rgba(0,0,0,0)" },
  };
  if (layout.shapes) {
    changed.shapes = layout.shapes.map((shape) => ({ ...shape, line: { color: text, ...shape.line } }));
  }
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) changed[key] = { .../** @type {object} */ (layout[key]), ...axis };
  }
  return changed;
}

// What a figure draws in black has the colour of the page's text.
const INK = new Set(["black", "#555555"]);
/**
 * @param {Trace[]} data
 * @param {Element} element
 */
function inked(data, element) {
  const text = colour(element, "--aq-ink", "#222");
  return data.map((trace) => {
    const changed = { ...trace };
    for (const part of /** @type {const} */ (["marker", "line"])) {
      if (INK.has(trace[part]?.color ?? "")) changed[part] = { ...trace[part], color: text };
    }
    return changed;
  });
}

/**
 * The layer that a point stands for: it is the first of its custom data, or a row of a heat map.
 * @param {unknown} custom
 */
const layerOf = (custom) => (Array.isArray(custom) ? custom[0] : custom);

/**
 * The data and the shapes with the chosen layers standing out.
 * @param {Trace[]} data
 * @param {Layout} layout
 * @param {string[]} chosen
 * @returns {{ data: Trace[], layout: Layout }}
 */
function marked(data, layout, chosen) {
  if (!chosen.length) return { data, layout };
  const names = new Set(chosen);
  /** @type {object[]} */
  const shapes = [...(layout.shapes ?? [])];
  const traces = data.map((trace) => {
    if (trace.type === "heatmap") {
      for (const name of chosen.slice(0, 50)) {
        const row = trace.y?.indexOf(name) ?? -1;
        if (row >= 0) {
          shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, y0: row - 0.5, y1: row + 0.5, line: { width: 2 } });
        }
      }
      return trace;
    }
    if (!Array.isArray(trace.customdata)) return trace;
    const selectedpoints = trace.customdata.flatMap((custom, index) => (names.has(layerOf(custom)) ? [index] : []));
    // The others do not fade, for faint marks cannot be told from the ground.
    const selected = { marker: { size: 1.7 * (trace.marker?.size ?? 8) } };
    return { ...trace, selectedpoints, selected, unselected: { marker: { opacity: 1 } } };
  });
  return { data: traces, layout: { ...layout, shapes } };
}

// Charts are drawn one after the other, and between them the page hears keys and mouse.
let turn = Promise.resolve();

export class Chart {
  /** @type {string[]} */
  chosen = [];
  /** @type {string | undefined} */
  text;
  /** @type {import("./types.js").Figure | null} */
  spec = null;
  /** @type {import("./types.js").Plotly | undefined} */
  plotly;
  due = false;
  drawn = false;
  closed = false;

  /**
   * @param {object} options
   * @param {string} options.label
   * @param {number} options.height
   * @param {(click: import("./types.js").ChartClick) => void} [options.onClick]
   */
  constructor({ label, height, onClick }) {
    this.onClick = onClick;
    this.waiting = element("div", "aq-chart-waiting", { textContent: "drawing …" });
    this.root = element("div", "aq-chart", {}, this.waiting);
    this.root.setAttribute("role", "img");
    this.root.setAttribute("aria-label", label);
    this.root.style.height = `${height}px`;
    this.later = () => {
      if (this.due) return;
      this.due = true;
      turn = turn
        .then(() => new Promise((next) => setTimeout(next)))
        .then(() => this.draw())
        .catch((error) => this.fail(error));
    };
    this.sizes = new ResizeObserver(this.later);
    this.sizes.observe(this.root);
    sharedPlotly().promise.then(
      (plotly) => {
        this.plotly = plotly;
        this.later();
      },
      (error) => this.fail(error),
    );
  }

  /** @param {unknown} error */
  fail(error) {
    const reason = error instanceof Error ? error.message : error;
    this.waiting.textContent = `The chart cannot be drawn: ${reason}. Run the cell again.`;
    this.root.append(this.waiting);
  }

  /** @param {string | undefined} text plotly's JSON; nothing is drawn of an empty one */
  show(text) {
    if (text === this.text) return;
    this.text = text;
    this.spec = text ? JSON.parse(text) : null;
    this.later();
  }

  /** @param {string[]} names */
  mark(names) {
    this.chosen = names;
    if (this.drawn) this.later();
  }

  // However many changes come before its turn, it is drawn once.
  draw() {
    this.due = false;
    const { root, plotly, spec } = this;
    if (this.closed || !plotly || !spec || !root.clientWidth) return;
    const { data, layout } = marked(spec.data, spec.layout, this.chosen);
    const size = { width: root.clientWidth, height: root.clientHeight, autosize: false };
    this.waiting.remove();
    plotly.react(root, inked(data, root), { ...themed(layout, root), ...size }, { ...spec.config, responsive: false });
    if (!this.drawn) {
      // plotly gives the element its own way to listen.
      const chart = /** @type {import("./types.js").PlotlyElement} */ (/** @type {HTMLElement} */ (root));
      chart.on("plotly_click", ({ points: [{ x, y, customdata, data: trace }] }) => {
        this.onClick?.({ x, y, customdata, name: trace.name ?? "" });
      });
    }
    this.drawn = true;
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
  }

  close() {
    this.closed = true;
    this.sizes.disconnect();
    if (this.drawn) this.plotly?.purge(this.root);
  }
}
