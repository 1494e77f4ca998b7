// The way to the kernel: edits and their answers, and noticing that nobody answers any more.

export const PATIENCE = 4000;

const GONE = "This table is no longer connected to its session: the kernel was restarted or the table closed. "
  + "Run its cell again; the plan shown here is the last one known.";
const SLOW = "The kernel has not answered yet. The edits shown are kept and sent; they wait until it is free. "
  + "If the kernel was stopped, run the cell again.";

export class Connection {
  constructor(model, { onMessage, onState }) {
    this.model = model;
    this.onState = onState;
    this.dead = false;
    this.waiting = new Set();
    this.prefix = Math.random().toString(36).slice(2, 8);
    this.sent = 0;
    this.hear = (message, buffers) => {
      if (message.ack) this.waiting.delete(message.ack);
      this.answered();
      onMessage(message, buffers ?? []);
    };
    this.check = () => this.send({ type: "hello" }, true);
    this.gone = (_, status) => {
      if (["dead", "restarting", "autorestarting", "terminating"].includes(status)) this.die();
    };
    model.on("msg:custom", this.hear);
    // Names of the events differ between front ends; what does not exist never fires.
    model.on("comm_live_update", this.check);
    this.kernel = model.widget_manager?.kernel;
    this.kernel?.statusChanged?.connect?.(this.gone);
  }

  // Sends a message; with `id` its answer is waited for. Returns the id, or null if nothing could be sent.
  send(content, ask = false) {
    if (this.dead) return null;
    const id = ask ? `${this.prefix}-${++this.sent}` : undefined;
    try {
      this.model.send(id ? { ...content, id } : content);
    } catch {
      this.die();
      return null;
    }
    if (id) {
      this.waiting.add(id);
      this.timer ??= setTimeout(() => this.late(), PATIENCE);
    }
    return id;
  }

  save(name, value) {
    this.model.set(name, value);
    try {
      this.model.save_changes();
    } catch {
      this.die();
    }
  }

  answered() {
    clearTimeout(this.timer);
    this.timer = this.waiting.size ? setTimeout(() => this.late(), PATIENCE) : undefined;
    if (this.slow) {
      this.slow = false;
      this.onState("", "");
    }
  }

  late() {
    this.timer = undefined;
    // A kernel that is idle has answered everybody: nobody is there for this table. A busy one may still come to it.
    if (this.kernel?.status === "idle") this.die();
    else {
      this.slow = true;
      this.onState(SLOW, "slow");
    }
  }

  die() {
    if (this.dead) return;
    this.dead = true;
    clearTimeout(this.timer);
    this.onState(GONE, "gone");
  }

  close() {
    clearTimeout(this.timer);
    this.model.off("msg:custom", this.hear);
    this.model.off("comm_live_update", this.check);
    this.kernel?.statusChanged?.disconnect?.(this.gone);
  }
}
