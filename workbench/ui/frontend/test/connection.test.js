// A kernel that is busy, forgetful or gone: what is asked is asked again until it is answered, and kept in order.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Connection, PATIENCE } from "../src/connection.js";

class Model {
  sent = [];
  saved = [];
  listeners = {};
  get() {}
  set(name, value) { this.saved.push([name, value]); }
  save_changes() { this.saved.push("sent"); }
  send(message) {
    if (this.closed) throw new Error("comm is closed");
    this.sent.push(message);
  }
  on(event, act) { this.listeners[event] = act; }
  off(event) { delete this.listeners[event]; }
  hear(message) { this.listeners["msg:custom"](message, []); }
}

let model, states, heard, connection;

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  globalThis.document = { createElement: () => ({ append() {} }) };
  [model, states, heard] = [new Model(), [], []];
  connection = new Connection(model, {
    id: "table", root: { append() {} },
    onMessage: (message) => heard.push(message), onState: (_, kind) => states.push(kind),
  });
});

test("requests count from 1, and an answer ends the asking", () => {
  const first = connection.send({ type: "hello" }, true);
  const second = connection.send({ type: "options", row: 3 }, true);
  assert.deepEqual(model.sent.map(({ turn }) => turn), [1, 2]);
  for (const ack of [first, second]) model.hear({ type: "here", ack });
  mock.timers.tick(100 * PATIENCE);
  assert.equal(model.sent.length, 2);
  assert.equal(heard.length, 2);
  assert.deepEqual(states, []);
});

test("what is not answered is asked again, later each time, and then said to be slow", () => {
  const id = connection.send({ type: "hello" }, true);
  mock.timers.tick(PATIENCE);
  assert.equal(model.sent.length, 2);
  assert.deepEqual(model.sent[0], model.sent[1]);
  mock.timers.tick(PATIENCE);
  assert.equal(model.sent.length, 2, "twice the time");
  mock.timers.tick(PATIENCE);
  assert.equal(model.sent.length, 3);
  assert.deepEqual(states, ["slow"]);
  model.hear({ type: "here", ack: id });
  assert.deepEqual(states, ["slow", ""]);
});

test("traits wait until the kernel has answered once", () => {
  connection.save("filter", "attn");
  assert.deepEqual(model.saved, [["filter", "attn"]]);
  model.hear({ type: "here", ack: connection.send({ type: "hello" }, true) });
  assert.deepEqual(model.saved, [["filter", "attn"], "sent"]);
});

test("a comm that is closed ends the view, and nothing is sent any more", () => {
  model.closed = true;
  assert.equal(connection.send({ type: "hello" }, true), null);
  assert.deepEqual(states, ["gone"]);
  model.closed = false;
  assert.equal(connection.send({ type: "hello" }, true), null);
  assert.equal(model.sent.length, 0);
});
