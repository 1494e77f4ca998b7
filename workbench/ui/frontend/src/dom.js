// Elements of the page.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [name] its classes
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, name = "", properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  if (name) made.className = name;
  made.append(...children);
  return made;
}
