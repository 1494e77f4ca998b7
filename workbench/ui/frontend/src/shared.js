// The one plotly.js of the page: charts wait for it, whichever of them and of the bytes comes first.
export function sharedPlotly() {
  return (globalThis.arrowquantPlotly ??= (() => {
    const waiting = { started: false };
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    waiting.promise.catch(() => {}); // each chart that waits says so itself
    return waiting;
  })());
}
