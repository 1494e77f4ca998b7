// A widget model without a kernel: what the table sends is kept, what a test makes it hear is heard.
const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

// A kernel that is idle, as far as it says; what widgets it has it tells when `tell` is called.
class Kernel {
  constructor() {
    Object.assign(this, { status: "idle", heard: new Set(), inquiries: 0 });
    this.statusChanged = {
      connect: (act) => this.heard.add(act),
      disconnect: (act) => this.heard.delete(act),
    };
  }
  become(status) {
    this.status = status;
    this.heard.forEach((act) => act(this, status));
  }
  requestCommInfo() {
    this.inquiries += 1;
    return new Promise((resolve) => {
      this.tell = (ids) => resolve({ content: { status: "ok", comms: Object.fromEntries(ids.map((id) => [id, {}])) } });
    });
  }
}

class Model {
  constructor(state) {
    Object.assign(this, { state, sent: [], posts: [], saved: [], dirty: {}, listeners: {}, greets: true });
    this.widget_manager = { kernel: new Kernel() };
  }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = this.dirty[name] = value; }
  save_changes() {
    this.saved.push(this.dirty);
    window.kernel?.({ state: this.dirty }).then((answers) => answers.forEach((one) => this.answer(one)));
    this.dirty = {};
  }
  send(content) {
    if (this.closed) throw new Error("comm is closed");
    this.posts.push(content);
    // What is asked again counts once, as it does in a kernel.
    if (content.id && this.sent.some((one) => one.id === content.id)) return;
    this.sent.push(content);
    if (!window.kernel && this.greets && content.type === "hello") setTimeout(() => this.hear({ type: "here", ack: content.id }));
    window.kernel?.({ content }).then((answers) => answers.forEach((one) => this.answer(one)));
  }
  on(event, act) { (this.listeners[event] ??= new Set()).add(act); }
  off(event, act) { this.listeners[event]?.delete(act); }
  emit(event, ...values) { this.listeners[event]?.forEach((act) => act(...values)); }
  hear(content, buffers = []) { this.emit("msg:custom", content, buffers); }
  answer({ content, buffers, data }) {
    if (data) this.change("data", { header: data.header, blob: fromBase64(data.blob) });
    else this.hear(content, buffers.map(fromBase64));
  }
  // What the kernel said of its own accord since it was asked last.
  async listen() { (await window.kernel({ listen: true })).forEach((one) => this.answer(one)); }
  change(name, value) { this.state[name] = value; this.emit(`change:${name}`); }
}

// Deliberately not at a multiple of eight bytes, as it may come over a socket.
function fromBase64(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const odd = new Uint8Array(bytes.length + 3);
  odd.set(bytes, 3);
  return new DataView(odd.buffer, 3);
}

function pack(arrays) {
  let offset = 0;
  const layout = [];
  const pieces = [];
  for (const [name, [kind, values]] of Object.entries(arrays)) {
    const array = KINDS[kind].from(values);
    layout.push([name, kind, offset, array.length]);
    const padded = new Uint8Array(Math.ceil(array.byteLength / 8) * 8);
    padded.set(new Uint8Array(array.buffer));
    pieces.push(padded);
    offset += padded.length;
  }
  const all = new Uint8Array(offset);
  let at = 0;
  for (const piece of pieces) { all.set(piece, at); at += piece.length; }
  return { layout, view: new DataView(all.buffer) };
}

const header = await (await fetch("header.json")).json();
const traits = await (await fetch("traits.json")).json();
const blob = new DataView(await (await fetch("blob.bin")).arrayBuffer());
const module = (await import("./table.js")).default;
const model = new Model({ data: { header, blob }, ...traits });
window.pressed = [];
document.addEventListener("keydown", (event) => window.pressed.push(event.key));
Object.assign(window, { model, pack, outcome: {} });

// An answer of the kernel to the edit sent last: nothing changed, unless `rows` say so.
window.reply = ({ rows = {}, ack = model.sent.at(-1).id, version = header.version, ...rest }) => {
  const { layout, view } = pack({
    rows: ["u4", rows.rows ?? []], bits: ["u1", rows.bits ?? []], scheme: ["u1", rows.scheme ?? []],
    group: ["u4", rows.group ?? []], nbytes: ["f8", rows.nbytes ?? []], damage: ["f8", rows.damage ?? []],
    cosine: ["f8", rows.cosine ?? []], code_entropy: ["f4", rows.code_entropy ?? []], heat: ["f8", rows.heat ?? []],
    locked: ["u1", rows.locked ?? []], choice_entropy: ["f4", new Float32Array(header.names.length)],
    totals: ["f8", rest.totals ?? [5e8, 3, 4.5, 12.5, 0.01, 2e-9]],
  });
  model.hear({ type: "plan", base: 0, version, can_undo: true, can_redo: false, columns: [], layout, ack, ...rest }, [view]);
};

window.show = () => new Promise((resolve) => {
  window.close = module.render({ model, el: document.getElementById("host") });
  // The frame after the next: what was drawn is on screen.
  requestAnimationFrame(() => requestAnimationFrame(resolve));
});
window.stubReady = true;
