// Chosen layers, by row; a cursor, and the anchor from which Shift extends. Positions are places in the shown order.

export class Selection {
  constructor(rows = [], current = -1) {
    this.rows = new Set(rows);
    this.current = current;
    this.anchor = current;
    this.before = new Set();
  }

  // A click or an arrow: alone, toggled into what is chosen, or as the end of a range.
  take(order, position, { toggle = false, extend = false } = {}) {
    const row = order[position];
    if (row === undefined) return;
    this.current = row;
    if (extend && order.includes(this.anchor)) {
      this.sweep(order, position, toggle);
      return;
    }
    this.anchor = row;
    if (!toggle) this.rows = new Set([row]);
    else if (!this.rows.delete(row)) this.rows.add(row);
    this.before = new Set(this.rows);
  }

  // All between the anchor and a position; `add` keeps what was chosen before.
  sweep(order, position, add = false) {
    const from = order.indexOf(this.anchor);
    const [low, high] = from < position ? [from, position] : [position, from];
    this.rows = new Set(add ? this.before : []);
    for (let place = low; place <= high; place++) this.rows.add(order[place]);
    this.current = order[position];
  }

  all(order) {
    this.rows = new Set(order);
    this.before = new Set(this.rows);
  }

  clear() {
    this.rows.clear();
    this.before.clear();
  }

  // What an edit is about: the chosen layers, or that under the cursor.
  get subject() {
    if (this.rows.size) return [...this.rows].sort((a, b) => a - b);
    return this.current >= 0 ? [this.current] : [];
  }
}
