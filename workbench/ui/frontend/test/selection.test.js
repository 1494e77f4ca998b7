import assert from "node:assert/strict";
import { test } from "node:test";
import { Selection } from "../src/selection.js";

const order = [4, 2, 0, 1, 3]; // rows, as a sorted table shows them
const rows = (selection) => [...selection.rows].sort((a, b) => a - b);

test("a click takes one layer; with Ctrl it joins or leaves", () => {
  const selection = new Selection();
  selection.take(order, 1);
  assert.deepEqual(rows(selection), [2]);
  selection.take(order, 3, { toggle: true });
  assert.deepEqual(rows(selection), [1, 2]);
  selection.take(order, 1, { toggle: true });
  assert.deepEqual(rows(selection), [1]);
});

test("Shift takes what is shown between, from where it began", () => {
  const selection = new Selection();
  selection.take(order, 1);
  selection.take(order, 3, { extend: true });
  assert.deepEqual(rows(selection), [0, 1, 2]);
  selection.take(order, 0, { extend: true });
  assert.deepEqual(rows(selection), [2, 4]);
  assert.equal(selection.current, 4);
});

test("an edit is about the chosen layers, else about that under the cursor", () => {
  const selection = new Selection();
  assert.deepEqual(selection.subject, []);
  selection.current = 3;
  assert.deepEqual(selection.subject, [3]);
  selection.all(order);
  assert.deepEqual(selection.subject, [0, 1, 2, 3, 4]);
  selection.clear();
  assert.deepEqual(selection.subject, [3]);
});
