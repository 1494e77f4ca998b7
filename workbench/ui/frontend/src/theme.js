// Light or dark, as the host is: its own variables give the colours, this only tells which of the two it is.

// A host says first that its theme is another, and loads the colours then.
const LOOKS = [50, 200, 600, 1500, 4000];

// Marks the root as light or dark, and tells when its colours are others; returns what ends it.
export function followTheme(root, onChange = () => {}) {
  const page = root.ownerDocument;
  let [known, timers] = [null, []];
  const look = () => {
    const { backgroundColor: paper, color: ink } = getComputedStyle(root);
    if (known === paper + ink) return;
    const [red, green, blue] = paper.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
    root.dataset.theme = 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light";
    if (known !== null) onChange();
    known = paper + ink;
  };
  const lookOften = () => {
    timers.forEach(clearTimeout);
    requestAnimationFrame(look);
    timers = LOOKS.map((wait) => setTimeout(look, wait));
  };
  const watch = new MutationObserver(lookOften);
  watch.observe(page.body, { attributes: true });
  watch.observe(page.documentElement, { attributes: true });
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", look);
  requestAnimationFrame(look);
  return () => {
    timers.forEach(clearTimeout);
    watch.disconnect();
    query.removeEventListener("change", look);
  };
}
