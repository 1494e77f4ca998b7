// What assistive software is told of an edit, before the kernel has answered it.

import { whole } from "./format.js";

export function spoken(plan, action, rows, bits, more) {
  const layers = rows.length === 1 ? plan.names[rows[0]] : `${whole(rows.length)} layers`;
  const instead = plan.instead(action === "bits" && !more ? rows : [], bits)
    .map(({ text, count }) => `${bits} → ${text}${count < rows.length ? ` for ${whole(count)}` : ""}`);
  const option = more ? `${bits} bits, ${more.scheme} ${more.group_size}` : instead.join(", ") || `${bits} bits`;
  return { bits: `${layers}: ${option}`, keep: `${layers}: kept`, lock: `${layers}: locked`, unlock: `${layers}: unlocked`,
    undo: "undo", redo: "redo" }[action];
}
