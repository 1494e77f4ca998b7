// A plotly figure: drawn when plotly.js is there, replaced in one piece, in the colours of the page.
import { sharedPlotly } from "./shared.js";

const CONFIG = {
  displaylogo: false,
  responsive: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
};

function colour(element, name, fallback) {
  return getComputedStyle(element).getPropertyValue(name).trim() || fallback;
}

// The layout with the page's colours for all that is not data.
function themed(layout, element) {
  const text = colour(element, "--jp-ui-font-color1", "#222");
  const grid = colour(element, "--jp-border-color2", "#ddd");
  const ground = colour(element, "--jp-layout-color1", "#fff");
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
  const text = colour(element, "--jp-ui-font-color1", "#222");
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
    return { ...trace, selectedpoints, unselected: { marker: { opacity: 0.35 } } };
  });
  return { data: traces, layout: { ...layout, shapes } };
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "aq-chart";
  root.setAttribute("role", "img");
  root.style.height = `${model.get("height")}px`;
  const waiting = document.createElement("div");
  waiting.className = "aq-chart-waiting";
  waiting.textContent = "drawing …";
  root.append(waiting);
  el.append(root);

  let plotly = null;
  let drawn = false;
  let due = 0;
  const label = () => root.setAttribute("aria-label", model.get("label"));

  function draw() {
    due = 0;
    if (!plotly || !root.clientWidth || !model.get("spec")) return;
    const spec = JSON.parse(model.get("spec"));
    const { data, layout } = marked(spec.data, spec.layout, model.get("chosen"));
    const size = { width: root.clientWidth, height: root.clientHeight, autosize: false };
    waiting.remove();
    plotly.react(root, inked(data, root), { ...themed(layout, root), ...size }, CONFIG);
    if (!drawn) {
      root.on("plotly_click", ({ points }) => {
        const [{ x, y, customdata, data: trace }] = points;
        model.send({ type: "click", x, y, customdata: customdata ?? null, name: trace.name ?? "" });
      });
    }
    drawn = true;
    root.dataset.drawn = String(Number(root.dataset.drawn ?? 0) + 1);
  }

  // However many changes come in a frame, it is drawn once.
  const schedule = () => { due ||= requestAnimationFrame(draw); };

  const failed = (error) => {
    waiting.textContent = `The chart cannot be drawn: ${error?.message ?? error}. Run the cell again.`;
  };
  label();
  sharedPlotly().promise.then((found) => {
    plotly = found;
    schedule();
  }, failed);

  const sizes = new ResizeObserver(schedule);
  sizes.observe(root);
  const themes = new MutationObserver(schedule);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  model.on("change:spec change:chosen", schedule);
  model.on("change:label", label);
  return () => {
    cancelAnimationFrame(due);
    sizes.disconnect();
    themes.disconnect();
    model.off("change:spec change:chosen", schedule);
    model.off("change:label", label);
    if (drawn) plotly.purge(root);
  };
}

export default { render };
