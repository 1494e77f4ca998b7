// The one plotly.js of the page: charts wait for it, whichever of them and of the bytes comes first.

/** @typedef {import("./types.js").Plotly} Plotly */

/**
 * @typedef {object} Shared
 * @property {boolean} started whether its bytes are being read already
 * @property {Promise<Plotly>} promise
 * @property {(plotly: Plotly) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/** @returns {Shared} */
function waiting() {
  const made = /** @type {Shared} */ ({ started: false });
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // each chart that waits says so itself
  return made;
}

/** @returns {Shared} */
export function sharedPlotly() {
  const page = /** @type {{ arrowquantPlotly?: Shared }} */ (globalThis);
  page.arrowquantPlotly ??= waiting();
  return page.arrowquantPlotly;
}
