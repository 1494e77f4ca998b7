// The last edit as Python, and buttons that copy it, or all edits.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without permission (an insecure page, a frame): by way of a selection.
    const area = document.createElement("textarea");
    area.value = text;
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "aq-script";
  const line = document.createElement("code");
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  const button = (text, trait) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.onclick = async () => {
      await copied(model.get(trait));
      said.textContent = "copied";
      setTimeout(() => { said.textContent = ""; }, 1500);
    };
    return made;
  };
  root.append(line, button("Copy as Python", "last"), button("Copy all", "whole"), said);
  const show = () => {
    const text = model.get("last");
    line.textContent = text || "# nothing was changed yet";
    line.title = text;
    root.dataset.last = text;
  };
  model.on("change:last", show);
  show();
  el.append(root);
  return () => model.off("change:last", show);
}

export default { render };
