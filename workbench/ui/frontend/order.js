// Which layers are shown, and in which order.

// The rows that match, sorted; equal ones stay in the checkpoint's order, what is not known comes last.
export function ordered(plan, { words, mask }, column, descending) {
  const rows = [];
  for (let row = 0; row < plan.count; row++) {
    if (mask ? mask[row] : words.every((word) => plan.lowered[row].includes(word))) rows.push(row);
  }
  if (!column) return rows;
  const values = new Array(plan.count);
  for (const row of rows) values[row] = column.value(plan, row);
  const sign = descending ? -1 : 1;
  const unknown = (value) => Number.isNaN(value);
  return rows.sort((one, other) => {
    const a = values[one];
    const b = values[other];
    if (unknown(a) || unknown(b)) return unknown(a) - unknown(b) || one - other;
    if (a === b) return one - other;
    return sign * (a < b ? -1 : 1);
  });
}
