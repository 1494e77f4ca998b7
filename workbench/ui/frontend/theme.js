// Light or dark, as the host is: its own variables give the colours, this only tells which of the two it is.

export function followTheme(root) {
  const { body } = root.ownerDocument;
  const look = () => {
    const parts = getComputedStyle(root).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [255, 255, 255];
    const [red, green, blue] = parts;
    root.dataset.theme = 0.299 * red + 0.587 * green + 0.114 * blue < 128 ? "dark" : "light";
  };
  const watch = new MutationObserver(() => requestAnimationFrame(look));
  watch.observe(body, { attributes: true });
  watch.observe(root.ownerDocument.documentElement, { attributes: true });
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", look);
  requestAnimationFrame(look);
  return () => {
    watch.disconnect();
    query.removeEventListener("change", look);
  };
}
