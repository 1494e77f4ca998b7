// Keys of the grid. What is not modified stays inside the table: the notebook has commands on plain letters.

/**
 * @typedef {object} Found what a key does in the grid
 * @property {"edit" | "filter" | "menu" | "move" | "page" | "toggle" | "all" | "clear"} act
 * @property {import("./types.js").EditAction} [action] of an edit
 * @property {number} [bits]
 * @property {number} [by] rows or pages
 */

/**
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">} event
 * @returns {Found | null}
 */
export function keyOf(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (command && event.altKey) return null;
  if (command) {
    if (key === "a") return { act: "all" };
    if (key === "y" || key === "z") return { act: "edit", action: key === "y" || event.shiftKey ? "redo" : "undo" };
    if (!["Home", "End", "ArrowUp", "ArrowDown", " "].includes(key)) return null;
  }
  if (event.altKey) return key === "ArrowDown" ? { act: "menu" } : null;
  switch (key) {
    case "ArrowUp":
      return { act: "move", by: command ? -Infinity : -1 };
    case "ArrowDown":
      return { act: "move", by: command ? Infinity : 1 };
    case "Home":
      return { act: "move", by: -Infinity };
    case "End":
      return { act: "move", by: Infinity };
    case "PageUp":
      return { act: "page", by: -1 };
    case "PageDown":
      return { act: "page", by: 1 };
    case " ":
      return { act: "toggle" };
    case "Enter":
    case "F2":
      return { act: "menu" };
    case "Escape":
      return { act: "clear" };
    case "/":
      return { act: "filter" };
    case "l":
      return { act: "edit", action: "toggle" };
    case "k":
      return { act: "edit", action: "keep" };
  }
  return /^[2-8]$/.test(key) ? { act: "edit", action: "bits", bits: Number(key) } : null;
}

/** @type {Partial<Record<string, number>>} which way an arrow goes in a list from left to right */
export const ALONG_ROW = { ArrowLeft: -1, ArrowRight: 1 };

/** @type {Partial<Record<string, number>>} which way an arrow goes in a list from top to bottom */
export const ALONG_COLUMN = { ArrowUp: -1, ArrowDown: 1 };

// The event by which all but texts hear of a key.
export const KEY = /** @type {const} */ ("aq-keydown");

/** @param {EventTarget | null} target */
export const isText = (target) => target instanceof Element && target.matches("input:read-write");

// Whether the notebook must not hear of a key: unmodified ones always, those that do something here, and those that a
// text acts on itself.
/** @param {KeyboardEvent} event */
function isOurs(event) {
  const command = event.ctrlKey || event.metaKey;
  if (!command && !event.altKey) return true;
  return isText(event.target) ? command && /^[azycxv]$/i.test(event.key) : keyOf(event) !== null;
}

// Keeps our keys from the notebook. Notebook 7 acts on a key before the page's elements hear of it, unless they are
// texts: so it is caught first of all, and told to the elements as an event that only they know. What the browser itself
// does at a key it still does.
/** @param {HTMLElement} root */
export function keepKeys(root) {
  const view = /** @type {Window} */ (root.ownerDocument.defaultView);
  const hear = (/** @type {KeyboardEvent} */ event) => {
    const target = /** @type {Node} */ (event.target);
    if (!root.contains(target) || isText(target) || !isOurs(event)) return;
    event.stopImmediatePropagation();
    const { key, code, ctrlKey, shiftKey, altKey, metaKey, repeat } = event;
    const told = { key, code, ctrlKey, shiftKey, altKey, metaKey, repeat, bubbles: true, cancelable: true };
    if (!target.dispatchEvent(new KeyboardEvent(KEY, told))) event.preventDefault();
  };
  const hearText = (/** @type {KeyboardEvent} */ event) => isOurs(event) && event.stopPropagation();
  view.addEventListener("keydown", hear, true);
  root.addEventListener("keydown", hearText);
  return () => {
    view.removeEventListener("keydown", hear, true);
    root.removeEventListener("keydown", hearText);
  };
}
