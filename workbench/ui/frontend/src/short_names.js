// Layer names that can be told apart at any width: long parts are shortened, and no part to what another could be too.

const LENGTHS = [Infinity, 14, 11, 9, 7, 6, 5, 4, 3]; // letters of a part, at most
const SHORT = 5; // letters of a part that stays as it is
const MANY = 1500; // different parts, of which each is compared with all others
const MARGIN = 18; // pixels of a cell that are not its text
const MEASURED = 40; // names with most letters, of which one is the widest

export class ShortNames {
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
    this.looks = new Map();
    this.level = 0;
  }

  // The names at a level: how each part is written, and how wide the widest name is.
  look(level) {
    if (!this.looks.has(level)) {
      const written = new Map(this.words.map((word) => [word, shortened(word, LENGTHS[level], this.words)]));
      const write = (parts) => parts.map((part) => written.get(part)).join(this.joint);
      const longest = this.parts
        .map((parts) => [parts.reduce((sum, part) => sum + written.get(part).length + 1, 0), parts])
        .sort(([one], [other]) => other - one).slice(0, MEASURED);
      const width = Math.ceil(Math.max(0, ...longest.map(([, parts]) => this.measure(write(parts))))) + MARGIN;
      this.looks.set(level, { write, width });
    }
    return this.looks.get(level);
  }

  // Chooses the fullest look that the column has room for, and returns the column's width: as wide as the names, where
  // there is the room beside the other columns; else at most two fifths of the table, and never less than they need.
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

  // In full where there is room for it, else as all longer names are written.
  text(row) {
    const full = this.parts[row].join(this.joint);
    if (!this.level || this.measure(full) + MARGIN <= this.width) return full;
    return this.look(this.level).write(this.parts[row]);
  }

  measure(text) {
    this.pen ??= document.createElement("canvas").getContext("2d");
    this.pen.font = this.font ?? "12px system-ui, sans-serif";
    return this.pen.measureText(text).width;
  }

  // Another font makes other widths.
  setFont(font) {
    if (font === this.font) return;
    this.font = font;
    this.looks.clear();
  }
}

// The leading parts that all names have, but for the last of any.
function commonParts(names) {
  if (names.length < 2) return [];
  const [first] = names;
  let count = Math.min(...names.map((parts) => parts.length)) - 1;
  for (const parts of names) {
    for (let place = 0; place < count; place++) if (parts[place] !== first[place]) count = place;
  }
  return first.slice(0, Math.max(0, count));
}

// A part in at most so many letters, where it then still cannot be another one.
function shortened(word, most, words) {
  if (word.length <= Math.max(most, SHORT) || words.length > MANY) return word;
  for (let tail = 0; tail <= 3; tail++) {
    const head = most - 1 - tail;
    if (head < 1) break;
    const [start, end] = [word.slice(0, head), tail ? word.slice(-tail) : ""];
    const isAlike = (other) => other !== word && other.length > head + tail && other.startsWith(start) && other.endsWith(end);
    if (!words.some(isAlike)) return `${start}…${end}`;
  }
  return shortened(word, most + 1, words);
}

const known = new WeakMap();

// The short names of a plan, made once.
export function shortNamesOf(plan) {
  if (!known.has(plan)) known.set(plan, new ShortNames(plan.names));
  return known.get(plan);
}
