// Keys of the grid. What is not modified stays inside the table: the notebook has commands on plain letters.

const UNDO = { z: "undo", y: "redo" };

export function keyOf(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (command && event.altKey) return null;
  if (command) {
    if (key === "a") return { act: "all" };
    if (key in UNDO) return { act: "edit", action: key === "z" && event.shiftKey ? "redo" : UNDO[key] };
    if (!["Home", "End", "ArrowUp", "ArrowDown", " "].includes(key)) return null;
  }
  if (event.altKey) return key === "ArrowDown" ? { act: "menu" } : null;
  switch (key) {
    case "ArrowUp": return { act: "move", by: command ? -Infinity : -1 };
    case "ArrowDown": return { act: "move", by: command ? Infinity : 1 };
    case "Home": return { act: "move", by: -Infinity };
    case "End": return { act: "move", by: Infinity };
    case "PageUp": return { act: "page", by: -1 };
    case "PageDown": return { act: "page", by: 1 };
    case " ": return { act: "toggle" };
    case "Enter": case "F2": return { act: "menu" };
    case "Escape": return { act: "clear" };
    case "/": return { act: "filter" };
    case "l": return { act: "edit", action: "toggle" };
    case "k": return { act: "edit", action: "keep" };
  }
  return /^[2-8]$/.test(key) ? { act: "edit", action: "bits", bits: Number(key) } : null;
}

// Whether the notebook must not hear of a key: unmodified ones always, and those an input acts on itself.
export function staysInside(event) {
  const command = event.ctrlKey || event.metaKey;
  if (!command && !event.altKey) return true;
  return event.target.tagName === "INPUT" && command && /^[azycxv]$/i.test(event.key);
}
