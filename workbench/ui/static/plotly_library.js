/* Bundled by esbuild from workbench/ui/frontend/src; sha256 c72b7b8c3e68b0992ddb7deb297fcd3a34a4003b86d18c615442d2fcdae6719f */

// src/shared.js
function sharedPlotly() {
  return globalThis.arrowquantPlotly ??= (() => {
    const waiting = { started: false };
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    waiting.promise.catch(() => {
    });
    return waiting;
  })();
}

// src/plotly_library.js
async function loaded(bytes) {
  const packed = new Blob([new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)]);
  const text = await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();
  const wrapped = `const module = { exports: {} }, exports = module.exports, define = undefined;
${text}
export default module.exports;`;
  const address = URL.createObjectURL(new Blob([wrapped], { type: "text/javascript" }));
  try {
    return (await import(address)).default;
  } finally {
    URL.revokeObjectURL(address);
  }
}
var plotly_library_default = {
  initialize({ model }) {
    const source = model.get("source");
    const shared = sharedPlotly();
    if (shared.started || !source?.byteLength) return;
    shared.started = true;
    loaded(source).then(shared.resolve, shared.reject);
  }
};
export {
  plotly_library_default as default
};
