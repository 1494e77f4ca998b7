// The way along the hulls of all layers: what the solver begins with, walked here while the budget is dragged.

import { OPTION } from "./plan.js";

export class Steps {
  constructor(arrays) {
    this.rows = arrays.rows;
    this.options = Object.fromEntries(OPTION.map((key) => [key, arrays[key]]));
  }

  // Bytes of all layers at the beginning and at the end of the way; locked layers stay as they are.
  range(plan) {
    const { nbytes } = this.options;
    const last = new Int32Array(plan.count);
    this.rows.forEach((row, step) => { last[row] = step; });
    let [low, high] = [0, 0];
    for (let row = 0; row < plan.count; row++) {
      const { locked, nbytes: now } = plan.shown;
      low += locked[row] ? now[row] : nbytes[row];
      high += locked[row] ? now[row] : nbytes[last[row]];
    }
    return [low, high];
  }

  // The last corner of the front within so many bytes of all layers: the rows that are free, and the step of each.
  walk(plan, budget) {
    const { nbytes } = this.options;
    const { locked } = plan.shown;
    const at = Int32Array.from({ length: plan.count }, (_, row) => row);
    let [bytes] = this.range(plan);
    for (let step = plan.count; step < this.rows.length; step++) {
      const row = this.rows[step];
      if (locked[row]) continue;
      const more = nbytes[step] - nbytes[at[row]];
      if (bytes + more > budget) break;
      bytes += more;
      at[row] = step;
    }
    const rows = [...at.keys()].filter((row) => !locked[row]);
    return { rows, options: this.options, places: rows.map((row) => at[row]) };
  }
}
