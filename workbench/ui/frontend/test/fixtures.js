// What Python's side wrote: see tests/ui/frontend_fixtures.py.

import { readFileSync } from "node:fs";
import { unpack } from "../src/packing.js";
import { LayerPlan } from "../src/plan.js";

export const fixture = (name) => JSON.parse(readFileSync(new URL(`fixtures/${name}.json`, import.meta.url), "utf8"));

// Deliberately not at a multiple of eight bytes, as it may come over a socket.
export function bufferOf(text) {
  const bytes = Buffer.from(text, "base64");
  const moved = new Uint8Array(bytes.length + 3);
  moved.set(bytes, 3);
  return new DataView(moved.buffer, 3);
}

export const table = fixture("table");

export const newPlan = () => new LayerPlan({ header: table.header, blob: bufferOf(table.blob) }, unpack);

// The plan message among the answers to a step, and its arrays.
export function answerOf({ answers }) {
  const { content, buffers } = answers.find((one) => one.content.type === "plan");
  return [content, unpack(content.layout, bufferOf(buffers[0]))];
}
