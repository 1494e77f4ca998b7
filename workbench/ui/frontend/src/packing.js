// Arrays as they come from workbench.ui.table.packing: one buffer, and a layout that says what is where.

const KINDS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/**
 * @param {import("./messages.js").Header["layout"]} layout
 * @param {ArrayBufferView} view
 * @returns {import("./types.js").Arrays}
 */
export function unpack(layout, view) {
  // A message's buffer need not begin at a multiple of eight bytes: copy it.
  const bytes = /** @type {ArrayBuffer} */ (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  return Object.fromEntries(layout.map(([name, kind, offset, count]) => [name, new KINDS[kind](bytes, offset, count)]));
}
