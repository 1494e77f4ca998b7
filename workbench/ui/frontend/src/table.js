// The layer table alone.

import "./table.css";
import { Table } from "./layer_table.js";

export default {
  /** @param {{ model: import("./types.js").Model, el: HTMLElement }} view */
  render({ model, el }) {
    const table = new Table(model, el);
    return () => table.close();
  },
};
