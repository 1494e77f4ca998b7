// The plan as this view knows it: what the kernel confirmed, and over it the edits that it has not answered yet.

export const OPTION = ["bits", "scheme", "group", "nbytes", "damage", "cosine", "code_entropy"];
const PRESENT = [...OPTION, "heat", "locked"];
const TOTALS = ["nbytes", "ratio", "bpw", "damage", "gap", "temperature"];

/** @typedef {import("./types.js").Arrays} Arrays */
/** @typedef {import("./types.js").Proposal} Proposal */
/** @typedef {Required<Pick<Proposal, "rows" | "options" | "places">>} Replaced what a change replaced */

export class LayerPlan {
  /** @type {Map<string, Proposal>} edits that wait, by the id of their request */
  pending = new Map();
  /** @type {Proposal | null} */
  trial = null;
  /** @type {Replaced | null} */
  back = null;
  /** @type {Replaced | null} */
  again = null;
  /** @type {Set<number>} rows that are shown otherwise than they were confirmed */
  touched = new Set();
  overhead = 0;
  canUndo = false;
  canRedo = false;
  /** @type {Record<string, number>} */
  confirmed = {};
  /** @type {import("./types.js").Numbers} */
  choiceEntropy = new Float32Array();
  /** @type {(import("./messages.js").ExtraColumn & { values: import("./types.js").Numbers, error?: string })[]} */
  columns = [];

  /**
   * @param {import("./types.js").State} state
   * @param {typeof import("./packing.js").unpack} unpack
   */
  constructor({ header, blob }, unpack) {
    const arrays = unpack(header.layout, blob);
    this.names = header.names;
    this.shapes = header.shapes;
    this.roles = header.roles;
    this.schemes = header.schemes;
    this.sourceBytes = header.source_bytes;
    this.fixed = arrays;
    this.count = header.names.length;
    this.version = header.version;
    this.asked = new Uint8Array(this.count);
    this.everyRow = header.names.map((_, row) => row);
    /** @type {Arrays} */
    this.real = Object.fromEntries(PRESENT.map((key) => [key, arrays[key]]));
    /** @type {Arrays} */
    this.shown = Object.fromEntries(PRESENT.map((key) => [key, this.real[key].slice()]));
    /** @type {Arrays} */
    this.menus = Object.fromEntries(OPTION.map((key) => [key, arrays[`menu_${key}`]]));
    this.params = arrays.params.reduce((sum, value) => sum + value, 0);
    this.lowered = this.names.map((name, row) => `${name} ${this.roles[arrays.role[row]]}`.toLowerCase());
    this.settle(header, arrays);
  }

  /**
   * What the kernel says of all layers at once: totals, S, extra columns.
   * @param {Omit<import("./messages.js").PlanChanged, "type" | "base">} header
   * @param {Arrays} arrays
   */
  settle(header, arrays) {
    this.choiceEntropy = arrays.choice_entropy;
    this.canUndo = header.can_undo;
    this.canRedo = header.can_redo;
    this.confirmed = Object.fromEntries(TOTALS.map((key, place) => [key, arrays.totals[place]]));
    this.overhead = this.confirmed.nbytes - this.real.nbytes.reduce((sum, value) => sum + value, 0);
    this.setColumns(header.columns, arrays);
  }

  /**
   * @param {import("./messages.js").ExtraColumn[]} columns
   * @param {Arrays} arrays
   */
  setColumns(columns, arrays) {
    this.columns = columns.map((column, place) => ({ ...column, values: arrays[`column_${place}`] }));
  }

  /**
   * Takes over an answer of the kernel; false if one before it is missing.
   * @param {import("./messages.js").PlanChanged} message
   * @param {Arrays} arrays
   */
  confirm(message, arrays) {
    if (message.base > this.version) return false;
    const ack = message.ack ?? "";
    const asked = this.pending.get(ack)?.action;
    this.pending.delete(ack);
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

  /**
   * An edit that waits no longer, whatever became of it.
   * @param {string | null} id
   */
  forget(id) {
    if (id && this.pending.delete(id)) this.lay();
  }

  /**
   * What a change replaced, so that taking it back, or making it again, can be shown before the kernel has answered.
   * @param {import("./messages.js").PlanChanged} message
   * @param {Arrays} arrays
   * @param {Proposal["action"]} asked
   */
  remember({ base, version, can_redo: redo }, arrays, asked) {
    if (version === this.version) return;
    const rows = [...arrays.rows];
    const options = Object.fromEntries(
      [...OPTION, "locked"].map((key) => [key, rows.map((row) => this.real[key][row])]),
    );
    const isNext = base === this.version && version === base + 1;
    const before = isNext ? { rows, options, places: [...rows.keys()] } : null;
    this.back = redo && asked !== "redo" ? null : before;
    this.again = asked === "undo" ? before : null;
  }

  /**
   * Shows an edit before the kernel has answered.
   * @param {string} id
   * @param {Proposal & { action: NonNullable<Proposal["action"]> }} edit
   */
  propose(id, edit) {
    this.ask(edit);
    const before = edit.action === "undo" ? this.back : edit.action === "redo" ? this.again : null;
    const shown = { ...edit, ...(this.pending.size ? null : before) };
    this.pending.set(id, shown);
    this.overlay(shown);
  }

  /**
   * Shows what nobody asked the kernel for yet, such as the plan of a budget that is being dragged; null ends it.
   * @param {Proposal | null} trial
   */
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
    for (const edit of this.pending.values()) this.overlay(edit);
    if (this.trial) this.overlay(this.trial);
  }

  /** @param {Proposal} edit */
  overlay({ action, bits = 0, rows = [], options, places = [] }) {
    const locking = action === "lock" || action === "unlock";
    if (options) {
      for (const [key, values] of Object.entries(options)) {
        const shown = this.shown[key];
        rows.forEach((row, which) => {
          shown[row] = values[places[which]];
        });
      }
      for (const row of rows) this.touched.add(row);
      return;
    }
    for (const row of rows) {
      this.touched.add(row);
      if (locking) {
        this.shown.locked[row] = Number(action === "lock");
        continue;
      }
      const place = this.placeOf(row, action === "keep" ? 9 : bits);
      for (const key of OPTION) this.shown[key][row] = this.menus[key][place];
    }
  }

  /**
   * Remembers what width layers were asked to have; anything else that may change them ends it.
   * @param {Proposal} edit
   */
  ask({ action, rows = [], bits }) {
    if (action === "act" || action === "undo" || action === "redo") this.asked.fill(0);
    else if (action === "bits" || action === "keep") for (const row of rows) this.asked[row] = bits ?? 0;
  }

  /**
   * The width that a layer was asked to have, where it has what is given instead.
   * @param {number} row
   */
  askedInstead(row) {
    const bits = this.asked[row];
    if (!bits || bits === this.shown.bits[row]) return null;
    const place = this.placeOf(row, bits);
    const is = ["bits", "scheme", "group"].every((name) => this.menus[name][place] === this.shown[name][row]);
    return is ? bits : null;
  }

  /**
   * Whether one of some layers has a width.
   * @param {number[]} rows
   * @param {number} bits
   */
  has(rows, bits) {
    return !rows.length || rows.some((row) => this.menus.bits[this.placeOf(row, bits)] === bits);
  }

  /**
   * What those of some layers get that have not a width: how many of them get what.
   * @param {number[]} rows
   * @param {number} bits
   * @returns {{ text: string, count: number }[]}
   */
  instead(rows, bits) {
    const counts = new Map();
    for (const row of rows) {
      const place = this.placeOf(row, bits);
      if (this.menus.bits[place] === bits) continue;
      const key = 256 * this.menus.scheme[place] + this.menus.bits[place];
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    const text = (/** @type {number} */ key) => {
      const name = this.schemes[Math.floor(key / 256)];
      return name === "keep" ? "kept" : /\d/.test(name) ? name : `${key % 256} bits`;
    };
    return [...counts].map(([key, count]) => ({ text: text(key), count }));
  }

  /**
   * Place in the menus of what a layer gets at a width; 9 keeps it.
   * @param {number} row
   * @param {number} bits
   */
  placeOf(row, bits) {
    return this.fixed.menu_start[row] + this.fixed.width_place[8 * row + bits - 2];
  }

  /**
   * The different things a layer can be, each with the key that gives it.
   * @param {number} row
   * @returns {import("./types.js").MenuOption[]}
   */
  menu(row) {
    /** @type {Map<number, number | "keep">} */
    const keys = new Map();
    for (let bits = 2; bits <= 9; bits++) {
      const place = this.placeOf(row, bits);
      const key = bits === 9 ? "keep" : bits;
      // A width that the target lacks is the next wider; that one's own key is the better name.
      if (!keys.has(place) || this.fixed.menu_bits[place] === bits || key === "keep") keys.set(place, key);
    }
    return [...keys].map(([place, key]) => {
      const { bits, scheme, group, nbytes, damage } = this.menus;
      const present = ["bits", "scheme", "group"].every((name) => this.menus[name][place] === this.shown[name][row]);
      return {
        key,
        present,
        bits: bits[place],
        scheme: scheme[place],
        group: group[place],
        nbytes: nbytes[place],
        damage: damage[place],
      };
    });
  }

  /** @param {number} row */
  kept(row) {
    return this.schemes[this.shown.scheme[row]] === "keep";
  }

  /** @param {number} minCosine */
  totals(minCosine) {
    const { nbytes, damage, cosine, locked } = this.shown;
    let bytes = 0;
    let total = 0;
    let below = 0;
    let locks = 0;
    for (let row = 0; row < this.count; row++) {
      bytes += nbytes[row];
      total += damage[row];
      below += Number(cosine[row] < minCosine);
      locks += locked[row];
    }
    const estimate = this.pending.size > 0 || this.trial !== null;
    const payload = estimate ? bytes + this.overhead : this.confirmed.nbytes;
    const { gap, temperature } = this.confirmed;
    return {
      gap,
      temperature,
      nbytes: payload,
      ratio: this.sourceBytes / Math.max(payload, 1),
      bpw: (8 * bytes) / Math.max(this.params, 1),
      damage: estimate ? total : this.confirmed.damage,
      below,
      locks,
      estimate,
    };
  }
}
