import assert from "node:assert/strict";
import { test } from "node:test";
import { fixed, percent, significant, size, whole } from "../src/format.js";

test("numbers have three digits that tell something", () => {
  assert.equal(significant(0), "0");
  assert.equal(significant(0.12345), "0.123");
  assert.equal(significant(1234.5), "1235");
  assert.equal(significant(1.5e-9), "1.50e−9");
  assert.equal(significant(2.5e7), "2.50e7");
  assert.equal(significant(Number.NaN), "");
  assert.equal(significant(Number.POSITIVE_INFINITY), "∞");
  assert.equal(fixed(3)(4.5), "4.500");
  assert.equal(whole(1234567), "1,234,567");
});

test("sizes are decimal", () => {
  assert.equal(size(999), "999 B");
  assert.equal(size(12_355_168), "12.355 MB");
  assert.equal(size(2.5e9), "2.500 GB");
});

test("a bound is never said to be smaller than it is", () => {
  assert.equal(percent(0), "0.00 %");
  assert.equal(percent(0.000001), "0.01 %");
  assert.equal(percent(0.02), "2.00 %");
  assert.equal(percent(0.02001), "2.01 %");
});
