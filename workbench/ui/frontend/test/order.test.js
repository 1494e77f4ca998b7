import assert from "node:assert/strict";
import { test } from "node:test";
import { arranged, columnsOf } from "../src/columns.js";
import { moved } from "../src/column_menu.js";
import { isCondition, ordered } from "../src/order.js";
import { fixture, newPlan, table } from "./fixtures.js";

const all = { words: [], mask: null };
const column = (plan, key) => columnsOf(plan).find((one) => one.key === key);

test("both sides tell conditions from words alike", () => {
  for (const [text, expected] of Object.entries(fixture("filters"))) assert.equal(isCondition(text), expected, text);
});

test("names sort by their letters, and by the numbers in them", () => {
  const { compare } = column(newPlan(), "name");
  assert.deepEqual(["b.10.q", "b.2.q", "a.9", "b.2.k"].sort(compare), ["a.9", "b.2.k", "b.2.q", "b.10.q"]);
});

test("without a column the layers have the order that Python gave them", () => {
  const plan = newPlan();
  const names = ordered(plan, all, undefined, false).map((row) => table.header.names[row]);
  assert.ok(names.indexOf("blocks.2.attn.to_q.weight") < names.indexOf("blocks.10.attn.to_q.weight"));
  assert.equal(names.length, plan.count);
});

test("words must all be in name or role; a mask takes their place", () => {
  const plan = newPlan();
  const find = (...words) => ordered(plan, { words, mask: null }, undefined, false).map((row) => plan.names[row]);
  assert.deepEqual(find("attention.q").length, 2);
  assert.deepEqual(find("blocks.2", "to_q"), ["blocks.2.attn.to_q.weight"]);
  assert.deepEqual(find("nothing"), []);
  assert.deepEqual(ordered(plan, { words: ["nothing"], mask: Uint8Array.of(0, 1, 0, 0, 0, 0) }, undefined, false), [1]);
});

test("a column sorts both ways; equal values keep the model's order, and what is not known comes last", () => {
  const plan = newPlan();
  const values = [3, NaN, 1, 3, NaN, 2];
  const one = { value: (_, row) => values[row] };
  const places = (rows) => rows.map((row) => [...plan.fixed.order].indexOf(row));
  for (const descending of [false, true]) {
    const rows = ordered(plan, all, one, descending);
    const known = rows.map((row) => values[row]).filter((value) => !Number.isNaN(value));
    assert.deepEqual(known, descending ? [3, 3, 2, 1] : [1, 2, 3, 3]);
    assert.ok(rows.slice(-2).every((row) => Number.isNaN(values[row])));
    const [threes, unknown] = [rows.filter((row) => values[row] === 3), rows.slice(-2)];
    for (const equal of [threes, unknown]) assert.deepEqual(places(equal), places(equal).toSorted((a, b) => a - b));
  }
});

test("columns stand in the chosen order; one that is new follows its neighbour", () => {
  const every = ["a", "b", "c", "d"].map((key) => ({ key }));
  const keys = (order, hidden = []) => arranged(every, order, hidden).map(({ key }) => key);
  assert.deepEqual(keys([]), ["a", "b", "c", "d"]);
  assert.deepEqual(keys(["d", "a", "gone"]), ["d", "a", "b", "c"]);
  assert.deepEqual(keys(["d", "a"], ["b"]), ["d", "a", "c"]);
  assert.deepEqual(moved(["a", "b", "c"], "a", 2), ["b", "c", "a"]);
});
