// The way to the kernel: requests, asked again until they are answered, and noticing that the session is gone.

import { keepStored } from "./stored.js";

export const PATIENCE = 1500; // ms until what was not answered is asked again, then twice as long each time
const LONGEST = 24000; // ms between two times at most
const AT_ONCE = 50; // requests that are asked again at one time

const GONE =
  "This table is no longer connected to its session: the kernel was restarted or the table closed. " +
  "Run its cell again; the plan shown here is the last one known.";
const SLOW =
  "The kernel has not answered yet. The edits shown are kept and asked for again until it does; " +
  "a cell that runs may hold it up.";

/** @typedef {import("./messages.js").ToBrowser} ToBrowser */

export class Connection {
  dead = false;
  met = false;
  slow = false;
  unsaved = false;
  inquiring = false;
  /** @type {Map<string, object>} requests by id, in the order in which they were made */
  waiting = new Map();
  view = Math.random().toString(36).slice(2, 8);
  sent = 0;
  tries = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  timer;

  /**
   * @param {import("./types.js").Model} model
   * @param {object} given
   * @param {string} given.id of the model
   * @param {HTMLElement} given.root
   * @param {(message: ToBrowser, buffers: DataView[]) => void} given.onMessage
   * @param {(text: string, kind: "slow" | "gone" | "") => void} given.onState
   */
  constructor(model, { id, root, onMessage, onState }) {
    this.model = model;
    this.id = id;
    this.onState = onState;
    this.hear = (/** @type {ToBrowser} */ message, /** @type {DataView[] | undefined} */ buffers) => {
      if ("ack" in message && message.ack) this.answered(message.ack);
      onMessage(message, buffers ?? []);
    };
    this.check = () => this.send({ type: "hello" }, true);
    this.gone = (/** @type {unknown} */ _, /** @type {string} */ status) => {
      if (["dead", "restarting", "autorestarting", "terminating"].includes(status)) this.die();
    };
    model.on("msg:custom", this.hear);
    // Names of the events differ between front ends; what does not exist never fires.
    model.on("comm_live_update", this.check);
    this.kernel = model.widget_manager?.kernel;
    this.kernel?.statusChanged?.connect?.(this.gone);
    this.stored = keepStored(root, model, id);
  }

  /**
   * Sends a message; one that is asked for is answered, under the id that is returned. Null if nothing could be sent.
   * @param {import("./types.js").Content} content
   * @returns {string | null}
   */
  send(content, ask = false) {
    if (this.dead) return null;
    if (!ask) {
      this.post(content);
      return null;
    }
    const turn = ++this.sent;
    const id = `${this.view}-${turn}`;
    const request = { ...content, id, view: this.view, turn };
    this.waiting.set(id, request);
    this.timer ??= setTimeout(() => this.late(), PATIENCE);
    return this.post(request) ? id : null;
  }

  /** @param {object} message */
  post(message) {
    try {
      this.model.send(message);
      return true;
    } catch {
      this.die();
      return false;
    }
  }

  /**
   * Traits go their own way, on which nothing is asked again: they wait until the kernel has answered once.
   * @template {keyof import("./types.js").TableTraits} Name
   * @param {Name} name
   * @param {import("./types.js").TableTraits[Name]} value
   */
  save(name, value) {
    this.model.set(name, value);
    if (this.met) this.flush();
    else this.unsaved = true;
  }

  flush() {
    this.unsaved = false;
    try {
      this.model.save_changes();
    } catch {
      this.die();
    }
  }

  /**
   * Whatever the kernel says, it is there; its answers start the patience anew.
   * @param {string} id
   */
  answered(id) {
    if (!this.waiting.delete(id)) return;
    if (!this.met) this.stored.hide();
    this.met = true;
    if (this.unsaved) this.flush();
    clearTimeout(this.timer);
    this.tries = 0;
    this.timer = this.waiting.size && !this.dead ? setTimeout(() => this.late(), PATIENCE) : undefined;
    if (this.slow) {
      this.slow = false;
      this.onState("", "");
    }
  }

  // A kernel that says it is idle may have the request in the queue of a shell that is busy: only asking again tells.
  late() {
    this.tries += 1;
    this.timer = setTimeout(() => this.late(), Math.min(PATIENCE * 2 ** this.tries, LONGEST));
    for (const request of [...this.waiting.values()].slice(0, AT_ONCE)) this.post(request);
    if (this.dead || this.tries < 2) return;
    this.inquire();
    this.slow = true;
    this.onState(SLOW, "slow");
  }

  // Asks the kernel which widgets it has: one that was restarted unseen does not know this one.
  async inquire() {
    if (this.inquiring || !this.id || !this.kernel?.requestCommInfo) return;
    this.inquiring = true;
    try {
      const { content } = await this.kernel.requestCommInfo({ target_name: "jupyter.widget" });
      if (content.status === "ok" && !(this.id in content.comms)) this.die();
    } catch {
      // A kernel that ended says so by its status.
    }
    this.inquiring = false;
  }

  die() {
    if (this.dead) return;
    this.dead = true;
    clearTimeout(this.timer);
    this.onState(GONE, "gone");
  }

  close() {
    this.dead = true;
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.check);
    this.kernel?.statusChanged?.disconnect?.(this.gone);
    this.stored.end();
  }
}
