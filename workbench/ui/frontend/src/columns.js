// What the table shows of a layer: title, width, value to sort by, and how a cell is drawn.

import { element } from "./dom.js";
import { fixed, significant, whole } from "./format.js";
import { shortNamesOf } from "./short_names.js";
import { TERMS } from "./terms.js";

/** @typedef {import("./types.js").Column} Column */
/** @typedef {import("./plan.js").LayerPlan} LayerPlan */

// Colours of workbench.figures.widths; glyphs so that neighbouring widths differ by more than colour.
/** @type {Record<number, [colour: string, glyph: string]>} */
export const WIDTHS = {
  2: ["#b32dc0", "●"],
  3: ["#5361f3", "■"],
  4: ["#157bca", "◆"],
  5: ["#1289a1", "▲"],
  6: ["#11964f", "▼"],
  7: ["#8a8e0b", "⬟"],
  8: ["#e8680b", "★"],
};
/** @type {[colour: string, glyph: string]} */
export const KEPT = ["#808080", "✕"];

// What a hint begins with names the column in words.
/** @param {string} hint */
const labelOf = (hint) => hint.split(":")[0];

/**
 * A column of numbers.
 * @param {string} key
 * @param {string} title
 * @param {string} hint
 * @param {number} width
 * @param {(plan: LayerPlan, row: number) => number} value
 * @param {(value: number) => string} format
 * @returns {Column}
 */
const number = (key, title, hint, width, value, format) => ({
  key,
  title,
  label: labelOf(hint),
  hint,
  width,
  value,
  right: true,
  draw: (cell, plan, row) => {
    cell.textContent = format(value(plan, row));
  },
});

// Names as people count: block 2 before block 10.
const byNumbers = new Intl.Collator("en", { numeric: true }).compare;

/**
 * A column of texts.
 * @param {string} key
 * @param {string} title
 * @param {string} hint
 * @param {number} width
 * @param {(plan: LayerPlan, row: number) => string} value
 * @returns {Column}
 */
const text = (key, title, hint, width, value) => ({
  key,
  title,
  label: labelOf(hint),
  hint,
  width,
  value,
  draw: (cell, plan, row) => {
    cell.textContent = value(plan, row);
  },
});

/**
 * All columns of a plan's table.
 * @param {LayerPlan} plan
 * @returns {Column[]}
 */
export function columnsOf(plan) {
  const { fixed: still } = plan;
  const names = shortNamesOf(plan);
  /** @type {Column} */
  const bits = {
    key: "bits",
    title: "bits",
    hint: "bits: width of the layer's codes; click to choose",
    width: 140,
    value: (p, row) => p.shown.bits[row],
    draw: drawBits,
  };
  /** @type {Column} */
  const heat = {
    ...number("heat", "heat", `heat: ${TERMS.heat}`, 76, (p, row) => p.shown.heat[row], significant),
    draw: drawHeat,
  };
  const time = still.importance
    ? [
        number(
          "importance",
          "κ",
          "κ, importance: how much the model's output feels an error of this layer",
          72,
          (_, row) => still.importance[row],
          significant,
        ),
        number(
          "heterogeneity",
          "V",
          "V, heterogeneity: variance of the input's level over time groups",
          72,
          (_, row) => still.heterogeneity[row],
          significant,
        ),
      ]
    : [];
  return [
    {
      key: "locked",
      title: "",
      label: "lock",
      hint: "lock: a solver leaves the layer as it is",
      width: 30,
      value: (p, row) => p.shown.locked[row],
      draw: drawLock,
    },
    {
      ...text(
        "name",
        "layer",
        `layer: its name${names.prefix ? `, after ${names.prefix}.` : ""}`,
        236,
        (p, row) => p.names[row],
      ),
      sticky: true,
      compare: byNumbers,
      note: names.prefix && `${names.prefix}.…`,
      fit: (room, table, chosen) => names.fit(room, table, chosen),
      setFont: (font) => names.setFont(font),
      draw: (cell, p, row) => drawName(cell, names, p, row),
    },
    // What edits change stands beside the name, so that it stays in sight where there is little room.
    bits,
    number(
      "damage",
      "damage",
      `damage D: ${TERMS.D.replace("damage: ", "")}`,
      76,
      (p, row) => p.shown.damage[row],
      significant,
    ),
    number("nbytes", "bytes", "bytes: exact bytes of the layer's data", 88, (p, row) => p.shown.nbytes[row], whole),
    heat,
    text("role", "role", "role: what the layer is for", 100, (p, row) => p.roles[still.role[row]]),
    {
      ...text(
        "shape",
        "shape",
        "shape: of the tensor, rows × columns; sorts by number of weights",
        92,
        (p, row) => p.shapes[row],
      ),
      right: true,
      value: (_, row) => still.params[row],
    },
    number("params", "params", "params: number of weights", 84, (_, row) => still.params[row], whole),
    number(
      "bpw",
      "bpw",
      "bpw: bits per weight, scales included",
      58,
      (p, row) => (8 * p.shown.nbytes[row]) / still.params[row],
      fixed(3),
    ),
    ...time,
    number(
      "entropy",
      "Ĥ",
      "Ĥ, entropy of the weights: 0 to 1, of their histogram; low where a few weights are far out",
      52,
      (_, row) => still.entropy[row],
      fixed(3),
    ),
    number(
      "code_entropy",
      "H(q)",
      "H(q), code_entropy: bits per weight that a lossless coder would need for the codes",
      54,
      (p, row) => p.shown.code_entropy[row],
      fixed(3),
    ),
    number("choice_entropy", "S", `S, choice_entropy: ${TERMS.S}`, 52, (p, row) => p.choiceEntropy[row], fixed(3)),
    ...plan.columns.map((column) => ({
      ...number(
        `=${column.title}`,
        column.title,
        column.error ?? `= ${column.expression}`,
        92,
        (p, row) => p.columns.find((one) => one.title === column.title)?.values?.[row] ?? NaN,
        column.kind === "truth" ? (value) => (value ? "✓" : "") : significant,
      ),
      label: column.title,
      custom: true,
    })),
  ];
}

/**
 * The columns in the order that was chosen, without those that are hidden; a new one follows its neighbour.
 * @template {{ key: string }} Item
 * @param {Item[]} columns
 * @param {string[]} order
 * @param {string[]} hidden
 */
export function arranged(columns, order, hidden) {
  const keys = order.filter((key) => columns.some((column) => column.key === key));
  columns.forEach(({ key }, place) => {
    if (keys.includes(key)) return;
    keys.splice(place ? keys.indexOf(columns[place - 1].key) + 1 : 0, 0, key);
  });
  const byKey = new Map(columns.map((column) => [column.key, column]));
  return keys.flatMap((key) => (hidden.includes(key) ? [] : (byKey.get(key) ?? [])));
}

/**
 * @param {HTMLElement} cell
 * @param {import("./short_names.js").ShortNames} names
 * @param {LayerPlan} plan
 * @param {number} row
 */
function drawName(cell, names, plan, row) {
  cell.textContent = names.text(row);
  cell.title = plan.names[row];
  cell.setAttribute("aria-label", plan.names[row]);
}

/** @type {Column["draw"]} */
function drawLock(cell, plan, row) {
  const button =
    cell.firstElementChild ?? cell.appendChild(element("button", "aq-lock", { tabIndex: -1, type: "button" }));
  const locked = plan.shown.locked[row] === 1;
  button.setAttribute("aria-pressed", locked);
  button.setAttribute("aria-label", `${locked ? "unlock" : "lock"} ${plan.names[row]}`);
}

/** @type {Column["draw"]} */
function drawHeat(cell, plan, row) {
  const heat = plan.shown.heat[row];
  cell.textContent = significant(heat);
  cell.classList.toggle("aq-hot", heat > 1.001 * plan.confirmed.temperature && !plan.shown.locked[row]);
}

function bitsButton() {
  const button = element("button", "aq-bits", { tabIndex: -1, type: "button" });
  button.setAttribute("aria-haspopup", "menu");
  button.append(element("span", "aq-swatch"), element("b"), element("small"), element("i"));
  return button;
}

/** @type {Column["draw"]} */
function drawBits(cell, plan, row) {
  const button = cell.firstElementChild ?? cell.appendChild(bitsButton());
  const [swatch, bits, scheme] = /** @type {Iterable<HTMLElement>} */ (button.children);
  const kept = plan.kept(row);
  paint(swatch, plan.shown.bits[row], kept);
  bits.textContent = String(plan.shown.bits[row]);
  const asked = plan.askedInstead(row);
  const given = schemeOf(plan, plan.shown.scheme[row], plan.shown.group[row]);
  scheme.textContent = asked ? `${asked} → ${given}` : given;
  const title = asked ? `${asked} bits were asked for; there are none here, so it is ${given}` : "";
  if (cell.title !== title) cell.title = title;
}

/**
 * The option of a width in few letters: "asym 128", "Q4_K", "kept".
 * @param {LayerPlan} plan
 * @param {number} scheme
 * @param {number} group
 */
export const schemeOf = (plan, scheme, group) => nameOfScheme(plan.schemes[scheme], group);

/** @type {Partial<Record<string, string>>} */
const SHORT_SCHEMES = { keep: "kept", asymmetric: "asym", symmetric: "sym" };

/**
 * @param {string} scheme
 * @param {number} group
 */
export function nameOfScheme(scheme, group) {
  const name = SHORT_SCHEMES[scheme] ?? scheme;
  return group ? `${name} ${group}` : name;
}

/**
 * Colours a swatch for a width.
 * @param {HTMLElement} swatch
 * @param {number} bits
 * @param {boolean} kept
 */
export function paint(swatch, bits, kept) {
  const [colour, glyph] = (!kept && WIDTHS[bits]) || KEPT;
  swatch.textContent = glyph;
  swatch.style.background = colour;
  swatch.classList.toggle("aq-light", kept || bits > 5);
}
