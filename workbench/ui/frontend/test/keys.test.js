import assert from "node:assert/strict";
import { test } from "node:test";
import { keyOf } from "../src/keys.js";

const press = (key, more = {}) => keyOf({ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...more });

test("2 to 8 give bits, K keeps, L locks; other plain letters do nothing", () => {
  for (const bits of [2, 3, 4, 5, 6, 7, 8]) assert.deepEqual(press(`${bits}`), { act: "edit", action: "bits", bits });
  assert.deepEqual(press("K"), { act: "edit", action: "keep" });
  assert.deepEqual(press("l"), { act: "edit", action: "toggle" });
  for (const key of ["1", "9", "a", "x", "F5"]) assert.equal(press(key), null);
});

test("undo and redo by either key, with Ctrl or ⌘", () => {
  for (const command of ["ctrlKey", "metaKey"]) {
    assert.equal(press("z", { [command]: true }).action, "undo");
    assert.equal(press("Z", { [command]: true, shiftKey: true }).action, "redo");
    assert.equal(press("y", { [command]: true }).action, "redo");
  }
});

test("what the browser needs is left to it", () => {
  for (const key of ["c", "v", "2", "l"]) assert.equal(press(key, { ctrlKey: true }), null);
  assert.equal(press("ArrowDown", { altKey: true }).act, "menu");
  assert.equal(press("ArrowUp", { altKey: true }), null);
});
