// Light and dark, and the styles: one <style> a document, every rule under `.slt`.
import base from "./theme.css";
import { paletteCss } from "./color";

const DARK = "(prefers-color-scheme: dark)";

/** A page that our exporter wrote says so: <html data-slt-page>.  Only there does the reader's
 *  prefers-color-scheme decide; a notebook host says itself which theme it shows. */
export function isDark(): boolean {
  const html = document.documentElement;
  const body = document.body;
  const said = html.dataset.theme ?? html.getAttribute("theme") ?? body.dataset.theme;
  if (said === "dark" || said === "light") return said === "dark";
  const lab = body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false";
  if (/vscode-(dark|light)/.test(body.className)) return body.className.includes("vscode-dark");
  return html.hasAttribute("data-slt-page") && matchMedia(DARK).matches;
}

/** Put a stylesheet into the document (or the shadow root) once. */
export function install(id: string, css: string, root: Node): void {
  const at = root instanceof ShadowRoot ? root : document.head;
  if (at.querySelector(`style[id="${id}"]`)) return;
  const style = document.createElement("style");
  style.id = id;
  style.textContent = css;
  at.appendChild(style);
}

/** Give `element` the class `slt`, the styles, and `data-slt-theme` that follows the page.
 *  `styles` is a widget's own stylesheet, installed once a document under `name`. */
export function useTheme(element: HTMLElement, name = "", styles = "", signal?: AbortSignal): void {
  const root = element.getRootNode();
  install("slt-theme", base + paletteCss(), root);
  if (name) install(`slt-${name}`, styles, root);
  element.classList.add("slt");
  // Jupyter's shortcuts (a, b, x, d d edit cells) stop at an element that carries this.
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  const update = () => {
    element.dataset.sltTheme = isDark() ? "dark" : "light";
  };
  update();
  const observer = new MutationObserver(update);
  const options = { attributes: true, attributeFilter: ["class", "theme", "data-theme", "data-jp-theme-light"] };
  observer.observe(document.documentElement, options);
  observer.observe(document.body, options);
  const media = matchMedia(DARK);
  media.addEventListener("change", update);
  signal?.addEventListener("abort", () => {
    observer.disconnect();
    media.removeEventListener("change", update);
  });
}
