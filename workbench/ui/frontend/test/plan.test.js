// The plan's store against a transcript of a real session: what is shown before the kernel answers is what it answers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { answerOf, newPlan, table } from "./fixtures.js";

const near = (found, expected) =>
  assert.ok(Math.abs(found - expected) <= 1e-9 * Math.abs(expected), `${found}, not ${expected}`);

function agrees(plan, { after }, message) {
  assert.deepEqual([...plan.shown.bits], after.bits, message);
  assert.deepEqual(
    [...plan.shown.scheme].map((code) => plan.schemes[code]),
    after.scheme,
    message,
  );
  assert.deepEqual([...plan.shown.group], after.group, message);
  assert.deepEqual([...plan.shown.nbytes], after.nbytes, message);
  assert.deepEqual([...plan.shown.locked].map(Boolean), after.locked, message);
}

function answered(plan, step) {
  assert.equal(plan.confirm(...answerOf(step)), true);
  assert.equal(plan.version, step.after.version);
}

test("the first state is the session's plan", () => {
  const plan = newPlan();
  assert.equal(plan.count, table.header.names.length);
  assert.equal(plan.pending.size, 0);
  near(plan.totals(0.95).nbytes, plan.confirmed.nbytes);
});

test("each edit is shown before it is answered, and then as the session has it", () => {
  const plan = newPlan();
  for (const step of table.steps) {
    const { request } = step;
    // The cost of a scheme that is named is the kernel's to tell.
    const known = request && !request.scheme;
    if (request) plan.propose(request.id, request.scheme ? { action: "act", rows: [] } : { rows: [], ...request });
    if (known) {
      agrees(plan, step, `before the answer to ${JSON.stringify(request)}`);
      const { nbytes, damage, bpw, estimate } = plan.totals(0.95);
      assert.equal(estimate, true);
      // How many bytes the file's header will take is the kernel's to tell.
      assert.ok(Math.abs(nbytes - step.after.totals.nbytes) < 300, `${nbytes}, not ${step.after.totals.nbytes}`);
      near(damage, step.after.totals.damage);
      near(bpw, step.after.totals.bpw);
    }
    answered(plan, step);
    agrees(plan, step, `after ${JSON.stringify(request)}`);
    assert.equal(plan.pending.size, 0);
    assert.equal(plan.totals(0.95).estimate, false);
    near(plan.totals(0.95).nbytes, step.after.totals.nbytes);
  }
});

test("edits that wait stay over what is answered before them", () => {
  const plan = newPlan();
  const [first, second, third] = table.steps;
  for (const { request } of [first, second, third]) plan.propose(request.id, { rows: [], ...request });
  agrees(plan, third, "all three are shown");
  answered(plan, first);
  agrees(plan, third, "two wait over the first");
  answered(plan, second);
  answered(plan, third);
  agrees(plan, third);
});

test("an edit that is refused is taken back", () => {
  const plan = newPlan();
  const before = [...plan.shown.bits];
  plan.propose("x", { action: "keep", rows: [0, 1] });
  assert.notDeepEqual([...plan.shown.bits], before);
  plan.forget("x");
  assert.deepEqual([...plan.shown.bits], before);
});

test("where a message is missing the plan has to be asked for anew", () => {
  const plan = newPlan();
  assert.equal(plan.confirm(...answerOf(table.steps[1])), false);
  assert.equal(plan.version, table.header.version);
});

test("an answer that comes twice, or late, changes nothing", () => {
  const plan = newPlan();
  for (const step of table.steps.slice(0, 3)) answered(plan, step);
  assert.equal(plan.confirm(...answerOf(table.steps[0])), true);
  agrees(plan, table.steps[2]);
  assert.equal(plan.version, table.steps[2].after.version);
});

test("a width that a layer lacks says what is given instead", () => {
  const plan = newPlan();
  assert.equal(plan.has([0], 7), false);
  assert.deepEqual(plan.instead([0, 1, 5], 7), [
    { text: "8 bits", count: 2 },
    { text: "kept", count: 1 },
  ]);
  plan.propose("x", { action: "bits", rows: [0], bits: 7 });
  assert.equal(plan.askedInstead(0), 7);
  assert.equal(plan.askedInstead(1), null);
  plan.propose("y", { action: "bits", rows: [0], bits: 4 });
  assert.equal(plan.askedInstead(0), null);
});

test("a menu has each different option once, by the key that gives it, and marks the present one", () => {
  const plan = newPlan();
  const options = plan.menu(0);
  assert.deepEqual(
    options.map(({ key }) => key),
    [2, 3, 4, 5, 6, 8, "keep"],
  );
  assert.deepEqual(
    options.filter(({ present }) => present).map(({ bits }) => bits),
    [plan.shown.bits[0]],
  );
  assert.deepEqual(
    plan.menu(5).map(({ key }) => key),
    ["keep"],
    "no group divides its rows",
  );
});

test("what is only tried is shown as an estimate until it ends", () => {
  const plan = newPlan();
  plan.attempt({ action: "bits", rows: [0], bits: 2 });
  assert.equal(plan.shown.bits[0], 2);
  assert.equal(plan.totals(0.95).estimate, true);
  plan.attempt(null);
  assert.equal(plan.shown.bits[0], plan.real.bits[0]);
  assert.equal(plan.totals(0.95).estimate, false);
});
