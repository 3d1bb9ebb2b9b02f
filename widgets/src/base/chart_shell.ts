// The shell of a chart: what every chart widget has around its picture.  A root that follows the
// theme, state shared with Python, a toolbar, the same numbers as a table, a file of them, and a
// redraw when there is another width.
import type { RenderProps } from "./afm";
import { watch } from "./afm";
import { csv, download, fill, h } from "./dom";
import { useTheme } from "./theme";

type Child = Parameters<typeof h>[2];
export type Rows = (string | number)[][];

export interface Shell {
  root: HTMLElement;
  /** The table behind the picture; hidden until it is asked for. */
  twin: HTMLElement;
  get<T>(name: string): T;
  /** Set a trait, here and in Python. */
  set(name: string, value: unknown): void;
  /** Run `redraw` whenever one of the traits changes. */
  follow(names: string[], redraw: () => void): void;
  /** Draw the table again if it is on show. */
  refreshTable(): void;
  /** The button that shows the table, in the place of `instead` where that is given. */
  tableButton(draw: () => void, name?: string, instead?: () => Element): HTMLButtonElement;
  onWidth(element: Element, redraw: () => void): void;
  onSize(element: Element, redraw: () => void): void;
  /** Run `redraw` when the page turns dark or light: for what CSS does not colour. */
  onTheme(redraw: () => void): void;
}

export function chartShell(props: RenderProps, root: HTMLElement, name: string, css: string, twin = h("div", { hidden: true })): Shell {
  const { model, el, signal } = props;
  fill(el, root);
  useTheme(root, name, css, signal);
  let drawTable = () => {};
  const observe = (observer: { disconnect(): void }) => signal?.addEventListener("abort", () => observer.disconnect());
  const onSize = (element: Element, redraw: () => void) => {
    const observer = new ResizeObserver(redraw);
    observer.observe(element);
    observe(observer);
  };
  return {
    root,
    twin,
    get: (trait) => model.get(trait),
    set: (trait, value) => {
      model.set(trait, value);
      model.save_changes();
    },
    follow: (names, redraw) => watch(model, names, redraw, signal),
    refreshTable: () => {
      if (!twin.hidden) drawTable();
    },
    tableButton: (draw, label, instead) => {
      drawTable = draw;
      const button = h("button", { "aria-pressed": "false", "aria-label": label, title: label }, "Table");
      button.onclick = () => {
        twin.hidden = !twin.hidden;
        button.setAttribute("aria-pressed", String(!twin.hidden));
        instead?.().toggleAttribute("hidden", !twin.hidden);
        if (!twin.hidden) draw();
      };
      return button;
    },
    onSize,
    onWidth: (element, redraw) => {
      let width = element.clientWidth;
      onSize(element, () => {
        if (Math.abs(element.clientWidth - width) <= 1) return;
        width = element.clientWidth;
        redraw();
      });
    },
    onTheme: (redraw) => {
      const observer = new MutationObserver(redraw);
      observer.observe(root, { attributes: true, attributeFilter: ["data-slt-theme"] });
      observe(observer);
    },
  };
}

/** A toolbar: `left`, a gap, `right`; under its title where that is given. */
export function toolbar(left: Child[], right: Child[], title?: string): HTMLElement {
  const about = title === undefined ? {} : { role: "toolbar", "aria-label": `${title}: tools` };
  return h("div.bar", about, title !== undefined && h("span.title", {}, title), ...left, h("span.grow"), ...right);
}

/** A button that saves `rows`, with their head, as a file. */
export const csvButton = (file: string, rows: () => Rows, title?: string): HTMLButtonElement =>
  h("button", { title, onclick: () => download(file, csv(rows()), "text/csv") }, "CSV");
