import assert from "node:assert/strict";
import { test } from "node:test";
import { unpack } from "../src/packing.js";
import { bufferOf, fixture } from "./fixtures.js";

test("arrays arrive as Python packed them, wherever their buffer begins", () => {
  const { layout, blob, arrays, fine } = fixture("packing");
  const found = unpack(layout, bufferOf(blob));
  for (const [name, values] of Object.entries(arrays)) assert.deepEqual([...found[name]], values, name);
  assert.deepEqual([...found.fine], fine.map(Number));
  assert.ok(found.u1 instanceof Uint8Array && found.f4 instanceof Float32Array);
});
