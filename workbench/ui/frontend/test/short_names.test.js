// Names must be told apart at any width.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ShortNames } from "../src/short_names.js";

const PARTS = ["attn1.to_q", "attn1.to_k", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1.linear"];
const unet = ["down_blocks", "up_blocks"].flatMap((place) => [0, 1].flatMap((block) => [0, 1, 10].flatMap((depth) =>
  PARTS.map((part) => `${place}.${block}.attentions.0.transformer_blocks.${depth}.${part}.weight`))));

// Without a canvas every letter is 7 pixels wide.
function namesOf(names) {
  const short = new ShortNames(names);
  short.measure = (text) => 7 * text.length;
  return short;
}

const texts = (short, names) => names.map((_, row) => short.text(row));

for (const room of [1200, 420, 300, 240, 200, 120]) {
  test(`in ${room} pixels all names differ, and none is longer than its column`, () => {
    const short = namesOf(unet);
    const { width } = short.fit(room, 1000);
    const found = texts(short, unet);
    assert.equal(new Set(found).size, unet.length);
    assert.ok(found.every((text) => short.measure(text) <= width), `${width}`);
  });
}

test("where there is room names stand in full, without what all have", () => {
  const names = ["model.layers.0.q.weight", "model.layers.1.q.weight"];
  const short = namesOf(names);
  short.fit(1000, 1000);
  assert.equal(short.prefix, "model.layers");
  assert.deepEqual(texts(short, names), ["0.q", "1.q"]);
});

test("names that differ in .weight alone keep it", () => {
  const names = ["a.b.weight", "a.b"];
  const short = namesOf(names);
  short.fit(1000, 1000);
  assert.deepEqual(texts(short, names), names);
});

test("a width that was chosen by hand is kept, but for what the names need at least", () => {
  const short = namesOf(unet);
  assert.equal(short.fit(1000, 1000, 333).width, 333);
  assert.ok(short.fit(1000, 1000, 10).width > 10);
});
