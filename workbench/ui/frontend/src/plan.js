// The plan as this view knows it: what the kernel confirmed, and over it the edits that it has not answered yet.

export const OPTION = ["bits", "scheme", "group", "nbytes", "nsr", "cosine", "code_entropy"];
const PRESENT = [...OPTION, "heat", "locked"];
const TOTALS = ["nbytes", "ratio", "bpw", "nsr", "gap", "temperature"];

export class LayerPlan {
  constructor({ header, blob }, unpack) {
    const arrays = unpack(header.layout, blob);
    Object.assign(this, {
      names: header.names,
      shapes: header.shapes,
      roles: header.roles,
      schemes: header.schemes,
      sourceBytes: header.source_bytes,
      fixed: arrays,
      count: header.names.length,
      version: header.version,
      real: Object.fromEntries(PRESENT.map((key) => [key, arrays[key]])),
      pending: new Map(),
      trial: null,
      back: null,
      again: null,
      touched: new Set(),
      asked: new Uint8Array(header.names.length),
      everyRow: header.names.map((_, row) => row),
    });
    this.shown = Object.fromEntries(PRESENT.map((key) => [key, this.real[key].slice()]));
    this.menus = Object.fromEntries(OPTION.map((key) => [key, arrays[`menu_${key}`]]));
    this.params = arrays.params.reduce((sum, value) => sum + value, 0);
    this.lowered = this.names.map((name, row) => `${name} ${this.roles[arrays.role[row]]}`.toLowerCase());
    this.settle(header, arrays);
  }

  // What the kernel says of all layers at once: totals, S, extra columns.
  settle(header, arrays) {
    this.choiceEntropy = arrays.choice_entropy;
    this.canUndo = header.can_undo;
    this.canRedo = header.can_redo;
    this.confirmed = Object.fromEntries(TOTALS.map((key, place) => [key, arrays.totals[place]]));
    this.overhead = this.confirmed.nbytes - this.real.nbytes.reduce((sum, value) => sum + value, 0);
    this.setColumns(header.columns, arrays);
  }

  setColumns(columns, arrays) {
    this.columns = columns.map((column, place) => ({ ...column, values: arrays[`column_${place}`] }));
  }

  // Takes over an answer of the kernel; false if one before it is missing.
  confirm(message, arrays) {
    if (message.base > this.version) return false;
    const asked = this.pending.get(message.ack)?.action;
    this.pending.delete(message.ack);
    const behind = message.version < this.version;
    if (!behind) {
      this.remember(message, arrays, asked);
      arrays.rows.forEach((row, place) => {
        for (const key of PRESENT) this.real[key][row] = arrays[key][place];
        this.touched.add(row);
      });
      this.version = message.version;
      this.settle(message, arrays);
    }
    this.lay();
    return true;
  }

  // An edit that waits no longer, whatever became of it.
  forget(id) {
    if (this.pending.delete(id)) this.lay();
  }

  // What a change replaced, so that taking it back, or making it again, can be shown before the kernel has answered.
  remember({ base, version, can_redo: redo }, { rows }, asked) {
    if (version === this.version) return;
    const options = Object.fromEntries([...OPTION, "locked"].map((key) => (
      [key, this.real[key].constructor.from(rows, (row) => this.real[key][row])])));
    const before = base === this.version && version === base + 1
      ? { rows, options, places: rows.map((_, place) => place) } : null;
    this.back = redo && asked !== "redo" ? null : before;
    this.again = asked === "undo" ? before : null;
  }

  // Shows an edit before the kernel has answered.
  propose(id, edit) {
    this.ask(edit);
    const before = { undo: this.back, redo: this.again }[edit.action];
    const known = this.pending.size ? null : before;
    this.pending.set(id, { ...edit, ...known });
    this.overlay(this.pending.get(id));
  }

  // Shows what nobody asked the kernel for yet, such as the plan of a budget that is being dragged; null ends it.
  attempt(trial) {
    this.trial = trial;
    this.lay();
  }

  // Begins with what was confirmed, and shows what is pending over it.
  lay() {
    for (const row of this.touched) {
      for (const key of PRESENT) this.shown[key][row] = this.real[key][row];
    }
    this.touched.clear();
    this.pending.forEach((edit) => this.overlay(edit));
    if (this.trial) this.overlay(this.trial);
  }

  overlay({ action, bits, rows, options, places }) {
    const locking = action === "lock" || action === "unlock";
    if (options) {
      for (const [key, values] of Object.entries(options)) {
        const shown = this.shown[key];
        rows.forEach((row, which) => { shown[row] = values[places[which]]; });
      }
      rows.forEach((row) => this.touched.add(row));
      return;
    }
    for (const row of rows ?? []) {
      this.touched.add(row);
      if (locking) {
        this.shown.locked[row] = action === "lock";
        continue;
      }
      const place = this.placeOf(row, action === "keep" ? 9 : bits);
      for (const key of OPTION) this.shown[key][row] = this.menus[key][place];
    }
  }

  // Remembers what width layers were asked to have; anything else that may change them ends it.
  ask({ action, rows, bits }) {
    if (["act", "undo", "redo"].includes(action)) this.asked.fill(0);
    else if (action === "bits" || action === "keep") for (const row of rows) this.asked[row] = bits ?? 0;
  }

  // The width that a layer was asked to have, where it has what is given instead.
  askedInstead(row) {
    const bits = this.asked[row];
    if (!bits || bits === this.shown.bits[row]) return null;
    const place = this.placeOf(row, bits);
    const is = ["bits", "scheme", "group"].every((name) => this.menus[name][place] === this.shown[name][row]);
    return is ? bits : null;
  }

  // Whether one of some layers has a width.
  has(rows, bits) {
    return !rows.length || rows.some((row) => this.menus.bits[this.placeOf(row, bits)] === bits);
  }

  // What those of some layers get that have not a width: how many of them get what.
  instead(rows, bits) {
    const counts = new Map();
    for (const row of rows) {
      const place = this.placeOf(row, bits);
      if (this.menus.bits[place] === bits) continue;
      const key = 256 * this.menus.scheme[place] + this.menus.bits[place];
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const text = (key) => {
      const name = this.schemes[Math.floor(key / 256)];
      return name === "none" ? "kept" : /\d/.test(name) ? name : `${key % 256} bits`;
    };
    return [...counts].map(([key, count]) => ({ text: text(key), count }));
  }

  // Place in the menus of what a layer gets at a width; 9 keeps it.
  placeOf(row, bits) {
    return this.fixed.menu_start[row] + this.fixed.width_place[8 * row + bits - 2];
  }

  // The different things a layer can be, each with the key that gives it.
  menu(row) {
    const keys = new Map();
    for (let bits = 2; bits <= 9; bits++) {
      const place = this.placeOf(row, bits);
      const key = bits === 9 ? "keep" : bits;
      // A width that the target lacks is the next wider; that one's own key is the better name.
      if (!keys.has(place) || this.fixed.menu_bits[place] === bits || key === "keep") keys.set(place, key);
    }
    return [...keys].map(([place, key]) => {
      const option = Object.fromEntries(OPTION.map((name) => [name, this.menus[name][place]]));
      const present = ["bits", "scheme", "group"].every((name) => option[name] === this.shown[name][row]);
      return { key, present, ...option };
    });
  }

  kept(row) {
    return this.schemes[this.shown.scheme[row]] === "none";
  }

  totals(minCosine) {
    const { nbytes, nsr, cosine, locked } = this.shown;
    let bytes = 0;
    let damage = 0;
    let below = 0;
    let locks = 0;
    for (let row = 0; row < this.count; row++) {
      bytes += nbytes[row];
      damage += nsr[row];
      below += cosine[row] < minCosine;
      locks += locked[row];
    }
    const estimate = this.pending.size > 0 || this.trial !== null;
    const payload = estimate ? bytes + this.overhead : this.confirmed.nbytes;
    return {
      ...this.confirmed,
      nbytes: payload,
      ratio: this.sourceBytes / Math.max(payload, 1),
      bpw: (8 * bytes) / Math.max(this.params, 1),
      nsr: estimate ? damage : this.confirmed.nsr,
      below,
      locks,
      estimate,
    };
  }
}
