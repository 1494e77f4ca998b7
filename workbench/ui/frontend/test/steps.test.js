// The way along the hulls against the solver's front.

import assert from "node:assert/strict";
import { test } from "node:test";
import { unpack } from "../src/packing.js";
import { Steps } from "../src/steps.js";
import { bufferOf, fixture, newPlan } from "./fixtures.js";

const { layout, blob, range, walks } = fixture("steps");
const steps = new Steps(unpack(layout, bufferOf(blob)));

test("the slider's ends are the front's", () => {
  assert.deepEqual(steps.range(newPlan()), range);
});

test("within a budget the same corner is found as by the solver", () => {
  for (const { budget, nbytes, bits } of walks) {
    const plan = newPlan();
    plan.attempt(steps.walk(plan, budget));
    assert.deepEqual([...plan.shown.bits], bits, `${budget} bytes`);
    assert.equal(plan.shown.nbytes.reduce((sum, value) => sum + value, 0), nbytes);
  }
});

test("locked layers stay, and their bytes count", () => {
  const plan = newPlan();
  plan.propose("x", { action: "lock", rows: [0, 1] });
  const [low, high] = steps.range(plan);
  assert.ok(low > range[0] && high < range[1]);
  for (const budget of [low, (low + high) / 2, high]) {
    const { rows } = steps.walk(plan, budget);
    assert.deepEqual(rows, [2, 3, 4, 5]);
    plan.attempt(steps.walk(plan, budget));
    assert.deepEqual([...plan.shown.bits].slice(0, 2), [...plan.real.bits].slice(0, 2));
    assert.ok(plan.shown.nbytes.reduce((sum, value) => sum + value, 0) <= budget);
  }
});
