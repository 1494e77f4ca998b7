// A bar, what is done, and a button that stops it.

import "./progress.css";

const PATIENCE = 3000; // milliseconds until a click that the kernel did not hear of is explained

/** @param {{ model: import("./types.js").Model<import("./types.js").ProgressTraits>, el: HTMLElement }} view */
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "aq-progress";
  const title = document.createElement("span");
  title.className = "aq-progress-title";
  const bar = document.createElement("progress");
  bar.max = 1;
  const text = document.createElement("span");
  text.className = "aq-progress-text";
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Cancel";
  button.title = "Stop; interrupting the cell does the same";
  root.append(title, bar, text, button);
  el.append(root);

  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const show = () => {
    const { fraction, text: said } = model.get("status");
    title.textContent = model.get("title");
    bar.value = fraction;
    bar.setAttribute("aria-label", model.get("title"));
    const ended = model.get("ended");
    bar.hidden = button.hidden = ended !== "";
    root.classList.toggle("aq-progress-ended", ended !== "");
    button.disabled = model.get("stopping") || waiting !== undefined;
    if (ended !== "") {
      clearTimeout(waiting);
      text.textContent = ended;
      text.setAttribute("role", "alert");
    } else if (model.get("stopping")) {
      clearTimeout(waiting);
      text.textContent = "stopping …";
    } else if (waiting === undefined) {
      text.textContent = said;
    }
  };
  button.addEventListener("click", () => {
    model.send({ type: "cancel" });
    text.textContent = "stopping …";
    waiting = setTimeout(() => {
      text.textContent = "This front end keeps the click until the cell ends. Interrupt the cell (■) to stop it.";
    }, PATIENCE);
    show();
  });
  model.on("change", show);
  show();
  return () => {
    clearTimeout(waiting);
    model.off("change", show);
  };
}

export default { render };
