// Which layers are shown, and in which order.

// Whether a filter is a condition, which the kernel reads, and not words; as `workbench.expressions.parsing` tells.
/** @param {string} text */
export const isCondition = (text) => /^\s*=|[<>*?]|[=!]=|\brole:/.test(text);

/**
 * The rows that match, sorted; equal ones stay in the model's order, what is not known comes last.
 * @param {import("./plan.js").LayerPlan} plan
 * @param {{ words: string[], mask: Uint8Array | null }} filter words to find, unless there is a mask
 * @param {Pick<import("./types.js").Column, "value" | "compare"> | undefined} column
 * @param {boolean} descending
 * @returns {number[]}
 */
export function ordered(plan, { words, mask }, column, descending) {
  const rows = [...plan.fixed.order].filter((row) =>
    mask ? mask[row] : words.every((word) => plan.lowered[row].includes(word)),
  );
  if (!column) return rows;
  /** @type {(number | string)[]} */
  const values = new Array(plan.count);
  /** @type {number[]} */
  const places = new Array(plan.count);
  for (const [place, row] of rows.entries()) {
    values[row] = column.value(plan, row);
    places[row] = place;
  }
  const sign = descending ? -1 : 1;
  const compare = (/** @type {number | string} */ a, /** @type {number | string} */ b) => {
    if (column.compare) return column.compare(String(a), String(b));
    return a === b ? 0 : a < b ? -1 : 1;
  };
  const unknown = (/** @type {number | string} */ value) => Number(Number.isNaN(value));
  return rows.sort((one, other) => {
    const a = values[one];
    const b = values[other];
    if (unknown(a) || unknown(b)) return unknown(a) - unknown(b) || places[one] - places[other];
    return sign * compare(a, b) || places[one] - places[other];
  });
}
