// What the table shows of a layer: title, width, value to sort by, and how a cell is drawn.

import { fixed, significant, whole } from "./format.js";

// Colours of workbench.figures.widths; glyphs so that neighbouring widths differ by more than colour.
export const WIDTHS = {
  2: ["#440154", "●"],
  3: ["#443983", "■"],
  4: ["#31688e", "◆"],
  5: ["#21918c", "▲"],
  6: ["#35b779", "▼"],
  7: ["#90d743", "⬟"],
  8: ["#fde725", "★"],
};
export const KEPT = ["#b3b3b3", "✕"];

const number = (key, title, hint, width, value, format) => ({
  key, title, hint, width, value, right: true,
  draw: (cell, plan, row) => { cell.textContent = format(value(plan, row)); },
});

export function columnsOf(plan) {
  const { fixed: still } = plan;
  const text = (key, title, hint, width, value, extra = {}) => ({
    key, title, hint, width, value,
    draw: (cell, _, row) => { cell.textContent = value(plan, row); },
    ...extra,
  });
  const time = still.importance
    ? [
        number("heterogeneity", "V", "heterogeneity: variance of the input's level over time groups", 66,
          (_, row) => still.heterogeneity[row], significant),
        number("importance", "κ", "importance: how much the output feels an error here", 66,
          (_, row) => still.importance[row], significant),
      ]
    : [];
  return [
    { key: "locked", title: "", label: "lock", hint: "locked: a solver leaves the layer as it is", width: 30,
      value: (p, row) => p.shown.locked[row], draw: drawLock },
    text("name", "layer", "name", 236, (p, row) => p.names[row], { sticky: true, draw: drawName }),
    text("role", "role", "role: what the layer is for", 100, (p, row) => p.roles[still.role[row]]),
    { ...text("shape", "shape", "rows, cols: the tensor's shape", 92, (p, row) => p.shapes[row]),
      right: true, value: (_, row) => still.params[row] },
    number("params", "params", "params: number of weights", 84, (_, row) => still.params[row], whole),
    number("entropy", "Ĥ", "entropy: normalised histogram entropy of the weights", 52,
      (_, row) => still.entropy[row], fixed(3)),
    number("code_entropy", "H(q)", "code_entropy: bits per weight that a lossless coder would pay", 54,
      (p, row) => p.shown.code_entropy[row], fixed(3)),
    number("choice_entropy", "S", "choice_entropy: high where the width is a toss-up, 0 where it is settled", 52,
      (p, row) => p.choiceEntropy[row], fixed(3)),
    { ...number("heat", "heat", "heat: damage that a bit more would save; above T the layer wants bits", 76,
      (p, row) => p.shown.heat[row], significant), draw: drawHeat },
    ...time,
    { key: "bits", title: "bits", hint: "bits: width of the layer's codes; click to choose", width: 132,
      value: (p, row) => p.shown.bits[row], draw: drawBits },
    number("nsr", "NSR", "nsr: D, the relative error power of the present option", 76,
      (p, row) => p.shown.nsr[row], significant),
    number("nbytes", "bytes", "nbytes: exact bytes of the layer's data", 88, (p, row) => p.shown.nbytes[row], whole),
    number("bpw", "bpw", "bpw: bits per weight, scales included", 58,
      (p, row) => (8 * p.shown.nbytes[row]) / still.params[row], fixed(3)),
    ...plan.columns.map((column) => ({
      ...number(`=${column.title}`, column.title, column.error ?? `= ${column.expression}`, 92,
        (p, row) => p.columns.find((one) => one.title === column.title)?.values?.[row] ?? NaN,
        column.kind === "truth" ? (value) => (value ? "✓" : "") : significant),
      custom: true,
    })),
  ];
}

// Where a name is too long, what stands before the block's number shrinks first, the last part of the name never.
function drawName(cell, plan, row) {
  if (!cell.firstChild) cell.append(element("span", "aq-stem"), element("span"), element("span", "aq-leaf"));
  const name = plan.names[row].replace(/\.weight$/, "");
  const [, ...parts] = name.match(/^(.*?)(\.\d+\..*?)(\.[^.]*)?$/) ?? [name, name];
  for (const [place, part] of [...cell.children].entries()) part.textContent = parts[place] ?? "";
  cell.title = plan.names[row];
}

function drawLock(cell, plan, row) {
  const button = cell.firstChild ?? cell.appendChild(element("button", "aq-lock", { tabIndex: -1, type: "button" }));
  const locked = plan.shown.locked[row] === 1;
  button.setAttribute("aria-pressed", locked);
  button.setAttribute("aria-label", `${locked ? "unlock" : "lock"} ${plan.names[row]}`);
}

function drawHeat(cell, plan, row) {
  const heat = plan.shown.heat[row];
  cell.textContent = significant(heat);
  cell.classList.toggle("aq-hot", heat > 1.001 * plan.confirmed.temperature && !plan.shown.locked[row]);
}

function drawBits(cell, plan, row) {
  if (!cell.firstChild) {
    const button = cell.appendChild(element("button", "aq-bits", { tabIndex: -1, type: "button" }));
    button.setAttribute("aria-haspopup", "menu");
    button.append(element("span", "aq-swatch"), element("b"), element("small"), element("i"));
  }
  const [swatch, bits, scheme] = cell.firstChild.children;
  const kept = plan.kept(row);
  paint(swatch, plan.shown.bits[row], kept);
  bits.textContent = plan.shown.bits[row];
  const asked = plan.askedInstead(row);
  const given = schemeOf(plan, plan.shown.scheme[row], plan.shown.group[row]);
  scheme.textContent = asked ? `${asked} → ${given}` : given;
  const title = asked ? `${asked} bits were asked for; there are none here, so it is ${given}` : "";
  if (cell.title !== title) cell.title = title;
}

// The option of a width in few letters: "asym 128", "Q4_K", "kept".
export const schemeOf = (plan, scheme, group) => nameOfScheme(plan.schemes[scheme], group);

export function nameOfScheme(scheme, group) {
  const name = { none: "kept", asymmetric: "asym", symmetric: "sym" }[scheme] ?? scheme;
  return group ? `${name} ${group}` : name;
}

export function paint(swatch, bits, kept) {
  const [colour, glyph] = (!kept && WIDTHS[bits]) || KEPT;
  swatch.textContent = glyph;
  swatch.style.background = colour;
  swatch.classList.toggle("aq-light", kept || bits > 5);
}

export function element(tag, name = "", properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (name) made.className = name;
  made.append(...children);
  return made;
}
