// A plotly figure: drawn when plotly.js is there, replaced in one piece, in the colours of the page.

import { element } from "./columns.js";
import { sharedPlotly } from "./shared.js";

function colour(element, name, fallback) {
  return getComputedStyle(element).getPropertyValue(name).trim() || fallback;
}

// The layout with the page's colours for all that is not data.
function themed(layout, element) {
  const text = colour(element, "--aq-ink", "#222");
  const grid = colour(element, "--aq-line", "#ddd");
  const ground = colour(element, "--aq-shade", "#fff");
  const axis = { color: text, gridcolor: grid, zerolinecolor: grid, linecolor: grid };
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
    if (/^[xy]axis\d*$/.test(key)) changed[key] = { ...layout[key], ...axis };
  }
  return changed;
}

// What a figure draws in black has the colour of the page's text.
const INK = new Set(["black", "#555555"]);
function inked(data, element) {
  const text = colour(element, "--aq-ink", "#222");
  return data.map((trace) => {
    const changed = { ...trace };
    for (const part of ["marker", "line"]) {
      if (INK.has(trace[part]?.color)) changed[part] = { ...trace[part], color: text };
    }
    return changed;
  });
}

// The layer that a point stands for: it is the first of its custom data, or a row of a heat map.
const layerOf = (custom) => (Array.isArray(custom) ? custom[0] : custom);

// The data and the shapes with the chosen layers standing out.
function marked(data, layout, chosen) {
  if (!chosen.length) return { data, layout };
  const names = new Set(chosen);
  const shapes = [...(layout.shapes ?? [])];
  const traces = data.map((trace) => {
    if (trace.type === "heatmap") {
      for (const name of chosen.slice(0, 50)) {
        const row = trace.y.indexOf(name);
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
  // `onClick` takes x, y, customdata and the name of the trace of what is clicked.
  constructor({ label, height, onClick }) {
    this.onClick = onClick;
    this.chosen = [];
    this.waiting = element("div", "aq-chart-waiting", { textContent: "drawing …" });
    this.root = element("div", "aq-chart", {}, this.waiting);
    this.root.setAttribute("role", "img");
    this.root.setAttribute("aria-label", label);
    this.root.style.height = `${height}px`;
    this.later = () => {
      if (this.due) return;
      this.due = true;
      turn = turn.then(() => new Promise((next) => setTimeout(next))).then(() => this.draw()).catch((error) => this.fail(error));
    };
    this.sizes = new ResizeObserver(this.later);
    this.sizes.observe(this.root);
    sharedPlotly().promise.then((plotly) => {
      this.plotly = plotly;
      this.later();
    }, (error) => this.fail(error));
  }

  fail(error) {
    this.waiting.textContent = `The chart cannot be drawn: ${error?.message ?? error}. Run the cell again.`;
    this.root.append(this.waiting);
  }

  show(text) {
    if (text === this.text) return;
    this.text = text;
    this.spec = text && JSON.parse(text);
    this.later();
  }

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
      root.on("plotly_click", ({ points: [{ x, y, customdata, data: trace }] }) => {
        this.onClick?.({ x, y, customdata, name: trace.name ?? "" });
      });
    }
    this.drawn = true;
    root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
  }

  close() {
    this.closed = true;
    this.sizes.disconnect();
    if (this.drawn) this.plotly.purge(this.root);
  }
}
