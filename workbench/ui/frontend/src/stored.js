// The copies of the plan that the notebook keeps beside a view: hidden while it lives, and kept up to date.

import { element } from "./dom.js";

/** @typedef {import("./types.js").Display} Display */

/** @param {Display} output of a cell */
const textOf = (output) => [output.data?.["text/html"] ?? ""].flat().join("");

/**
 * Puts an update of a copy into the outputs that have it: after a reload JupyterLab no longer knows which these are.
 * @param {import("./types.js").Notebook | undefined} notebook
 * @param {string} name
 * @param {Display} content of the update
 */
function put(notebook, name, content) {
  const cells = notebook?.cells;
  for (let place = 0; cells && place < cells.length; place++) {
    const { outputs } = cells.get(place);
    for (let which = 0; outputs && which < outputs.length; which++) {
      const shown = textOf(outputs.get(which));
      if (!shown.includes(name) || shown === textOf(content)) continue;
      outputs.set(which, { output_type: "display_data", data: content.data, metadata: content.metadata ?? {} });
    }
  }
}

/**
 * Looks after the copies of a model; returns what hides them while `root` is in the page, and what ends it all.
 * @param {HTMLElement} root
 * @param {import("./types.js").Model} model
 * @param {string} id
 */
export function keepStored(root, model, id) {
  const name = `aq-stored-${id}`;
  const { kernel, context } = model.widget_manager ?? {};
  const hide = () =>
    root.append(
      element("style", "", { textContent: `.jp-OutputArea-child:has(.${name}), .${name} { display: none; }` }),
    );
  const hear = (/** @type {unknown} */ _, /** @type {import("./types.js").KernelMessage} */ { header, content }) => {
    if (header.msg_type !== "update_display_data" || content.transient?.display_id !== id) return;
    put(context?.model, name, content);
  };
  kernel?.iopubMessage?.connect?.(hear);
  // Elsewhere a page may show a stored widget that no kernel stands behind, and which knows the first plan only.
  if (kernel) hide();
  return { hide: kernel ? () => {} : hide, end: () => kernel?.iopubMessage?.disconnect?.(hear) };
}
