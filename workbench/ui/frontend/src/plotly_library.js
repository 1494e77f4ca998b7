// Loads plotly.js out of the bytes that the kernel sends, once for the page.
import { sharedPlotly } from "./shared.js";

/**
 * @param {DataView<ArrayBuffer>} bytes
 * @returns {Promise<import("./types.js").Plotly>}
 */
async function loaded(bytes) {
  const packed = new Blob([new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)]);
  const text = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  // As a module it must export; and an AMD loader in the page must not catch it.
  const wrapped =
    "const module = { exports: {} }, exports = module.exports, define = undefined;\n" +
    `${text}\nexport default module.exports;`;
  const address = URL.createObjectURL(new Blob([wrapped], { type: "text/javascript" }));
  try {
    return (await import(address)).default;
  } finally {
    URL.revokeObjectURL(address);
  }
}

export default {
  /** @param {{ model: import("./types.js").Model<import("./types.js").LibraryTraits> }} view */
  initialize({ model }) {
    const source = model.get("source");
    const shared = sharedPlotly();
    if (shared.started || !source?.byteLength) return;
    shared.started = true;
    loaded(source).then(shared.resolve, shared.reject);
  },
};
