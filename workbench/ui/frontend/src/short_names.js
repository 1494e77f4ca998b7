// Layer names that can be told apart at any width: long parts are shortened, and no part to what another could be too.

const LENGTHS = [Infinity, 14, 11, 9, 7, 6, 5, 4, 3]; // letters of a part, at most
const SHORT = 5; // letters of a part that stays as it is
const MANY = 1500; // different parts, of which each is compared with all others
const MARGIN = 18; // pixels of a cell that are not its text
const MEASURED = 40; // names with most letters, of which one is the widest

export class ShortNames {
  /** @type {Map<number, { write: (parts: string[]) => string, width: number }>} */
  looks = new Map();
  level = 0;
  width = 0;
  /** @type {string | undefined} */
  font;
  /** @type {CanvasRenderingContext2D | null} */
  pen = null;

  /** @param {string[]} names */
  constructor(names) {
    const bare = names.map((name) => name.replace(/\.weight$/, ""));
    const whole = new Set(bare).size === names.length ? bare : names;
    // Names without dots, as trainers of LoRAs write them, have their parts between underscores.
    this.joint = whole.some((name) => name.includes(".")) ? "." : "_";
    this.parts = whole.map((name) => name.split(this.joint));
    const shared = commonParts(this.parts);
    this.prefix = shared.join(this.joint);
    if (this.prefix.length > 3) this.parts = this.parts.map((parts) => parts.slice(shared.length));
    else this.prefix = "";
    this.words = [...new Set(this.parts.flat())];
  }

  /**
   * The names at a level: how each part is written, and how wide the widest name is.
   * @param {number} level
   */
  look(level) {
    let found = this.looks.get(level);
    if (!found) {
      const written = new Map(this.words.map((word) => [word, shortened(word, LENGTHS[level], this.words)]));
      const text = (/** @type {string} */ part) => written.get(part) ?? part;
      const write = (/** @type {string[]} */ parts) => parts.map(text).join(this.joint);
      const longest = this.parts
        .map((parts) => ({ parts, letters: parts.reduce((sum, part) => sum + text(part).length + 1, 0) }))
        .sort((one, other) => other.letters - one.letters)
        .slice(0, MEASURED);
      const width = Math.ceil(Math.max(0, ...longest.map(({ parts }) => this.measure(write(parts))))) + MARGIN;
      found = { write, width };
      this.looks.set(level, found);
    }
    return found;
  }

  // Chooses the fullest look that the column has room for, and returns the column's width: as wide as the names, where
  // there is the room beside the other columns; else at most two fifths of the table, and never less than they need.
  /**
   * @param {number} room
   * @param {number} table
   * @param {number} [chosen] by hand
   */
  fit(room, table, chosen) {
    const heading = this.prefix ? this.measure(`layer  ${this.prefix}.…`) + 2 * MARGIN : 0;
    const [most, least] = [Math.max(heading, this.look(0).width), this.look(LENGTHS.length - 1).width];
    const wanted = chosen ?? (room >= least ? Math.min(room, most) : Math.min(most, 0.4 * table));
    const width = Math.max(least, Math.floor(wanted));
    const level = LENGTHS.findIndex((_, place) => this.look(place).width <= width);
    const changed = level !== this.level || (level > 0 && width !== this.width);
    Object.assign(this, { level, width });
    return { width, changed };
  }

  /**
   * In full where there is room for it, else as all longer names are written.
   * @param {number} row
   */
  text(row) {
    const full = this.parts[row].join(this.joint);
    if (!this.level || this.measure(full) + MARGIN <= this.width) return full;
    return this.look(this.level).write(this.parts[row]);
  }

  /** @param {string} text */
  measure(text) {
    this.pen ??= /** @type {CanvasRenderingContext2D} */ (document.createElement("canvas").getContext("2d"));
    this.pen.font = this.font ?? "12px system-ui, sans-serif";
    return this.pen.measureText(text).width;
  }

  /**
   * Another font makes other widths.
   * @param {string} font
   */
  setFont(font) {
    if (font === this.font) return;
    this.font = font;
    this.looks.clear();
  }
}

/**
 * The leading parts that all names have, but for the last of any.
 * @param {string[][]} names
 */
function commonParts(names) {
  if (names.length < 2) return [];
  const [first] = names;
  let count = Math.min(...names.map((parts) => parts.length)) - 1;
  for (const parts of names) {
    for (let place = 0; place < count; place++) if (parts[place] !== first[place]) count = place;
  }
  return first.slice(0, Math.max(0, count));
}

/**
 * A part in at most so many letters, where it then still cannot be another one.
 * @param {string} word
 * @param {number} most
 * @param {string[]} words
 * @returns {string}
 */
function shortened(word, most, words) {
  if (word.length <= Math.max(most, SHORT) || words.length > MANY) return word;
  for (let tail = 0; tail <= 3; tail++) {
    const head = most - 1 - tail;
    if (head < 1) break;
    const [start, end] = [word.slice(0, head), tail ? word.slice(-tail) : ""];
    const isAlike = (/** @type {string} */ other) =>
      other !== word && other.length > head + tail && other.startsWith(start) && other.endsWith(end);
    if (!words.some(isAlike)) return `${start}…${end}`;
  }
  return shortened(word, most + 1, words);
}

/** @type {WeakMap<object, ShortNames>} */
const known = new WeakMap();

/**
 * The short names of a plan, made once.
 * @param {import("./plan.js").LayerPlan} plan
 */
export function shortNamesOf(plan) {
  const found = known.get(plan) ?? new ShortNames(plan.names);
  known.set(plan, found);
  return found;
}
