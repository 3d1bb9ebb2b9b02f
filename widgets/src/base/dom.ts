// Making elements.  Text is only ever set as text: nothing from data is parsed as HTML.

type Child = Node | string | number | null | undefined | false;
type Props = Record<string, unknown>;

/** `h("button.x.y", {"aria-label": "z", onclick: f}, "text", node)`. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K | `${K}.${string}`,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name as K);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value as EventListener);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, ...children);
  return element;
}

export function add(element: Node, ...children: Child[]): void {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.appendChild(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Put `children` in the place of what `element` holds. */
export function fill(element: Element, ...children: Child[]): void {
  element.textContent = "";
  add(element, ...children);
}

/** A button that is on or off, and says so. */
export function toggle(label: string, name: string, run: (on: boolean) => void, on = false): HTMLButtonElement {
  const button = h("button", { "aria-pressed": String(on), "aria-label": name, title: name }, label);
  button.onclick = () => {
    on = !on;
    button.setAttribute("aria-pressed", String(on));
    run(on);
  };
  return button;
}

/** A table with a caption; heads that end in "#" stand over numbers. */
export function table(caption: string, heads: string[], body: Node[]): HTMLTableElement {
  const head = heads.map((text) => h(text.endsWith("#") ? "th.num" : "th", { scope: "col" }, text.replace("#", "")));
  return h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...body));
}

/** Offer `text` as a file to keep. */
export const download = (name: string, text: string, type: string): void => downloadBlob(name, new Blob([text], { type }));

export function downloadBlob(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

const quote = (cell: string): string =>
  /[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;

/** RFC 4180: cells with a comma, a quote or a line break are quoted. */
export const csv = (rows: (string | number)[][]): string =>
  rows.map((row) => row.map((c) => (typeof c === "number" ? String(c) : quote(c))).join(",")).join("\r\n") + "\r\n";

/** A number for people: a sign when `signed`, three significant digits, a real minus. */
export function show(x: number, signed = false, digits = 3): string {
  if (Number.isNaN(x)) return "no value";
  const size = Math.abs(x);
  const text =
    size === 0
      ? "0"
      : size < 1e-4 || size >= 1e5
        ? size.toExponential(digits - 1)
        : String(Number(size.toPrecision(digits)));
  return (x < 0 ? "\u2212" : signed && x > 0 ? "+" : "") + text;
}
