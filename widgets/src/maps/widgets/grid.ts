// One number a component: layer by head, or dataset by component.  A click chooses the component in
// all linked views.  The picture is a real table, so it needs no twin.
import type { RenderProps } from "../../base/afm";
import type { Rows } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { robustLimit, roundUp, STEPS, stepClass } from "../../base/color";
import { add, fill, h, show } from "../../base/dom";
import { FocusLink } from "../../base/focus";
import type { Part } from "../../base/focus";
import type { Metric } from "../../base/metric";
import { mountData } from "../../base/mount";
import css from "./grid.css";

interface Cell {
  component: string;
  row: number;
  column: number;
  short: string; // what stands in the cell besides the number
  muted: boolean;
  place: { example: string; token: number } | null; // the token behind it
}

interface Meta extends PayloadMeta {
  title: string;
  rows: string[];
  columns: string[];
  corner: string;
  metrics: Metric[];
  notes: string[];
}

const Z = 1.96;

async function draw(props: RenderProps, meta: Meta, data: Record<string, any>): Promise<void> {
  const cells = data.cells as Cell[];
  const shell = chartShell(props, h("div.grid"), "grid", css);
  const { root } = shell;
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const legend = h("div.legend");
  const box = h("div.cells");
  const buttons = new Map<Cell, HTMLButtonElement>();
  let focus: FocusLink | null = null;

  const at = () => Math.min(Math.max(0, shell.get<number>("metric") ?? 0), meta.metrics.length - 1);
  const picker = h("select", { "aria-label": "Number on show", onchange: () => choose(picker.selectedIndex) });
  for (const { label } of meta.metrics) picker.append(h("option", {}, label));
  const choose = (i: number) => shell.set("metric", i);

  const numbers = (i: number) => {
    const metric = meta.metrics[i];
    const value: Float32Array = data[`value${i}`];
    const error: Float32Array | null = metric.error ? data[`error${i}`] : null;
    return { metric, value, error, limit: metric.limit ?? roundUp(robustLimit(value, 0.995)) };
  };
  const written = (k: number) => {
    const { metric, value, error } = numbers(at());
    const tail = error && Number.isFinite(error[k]) ? ` ± ${show(error[k], false, 2)}` : "";
    return show(value[k], metric.scale === "diverging") + tail;
  };

  const pick = (cell: Cell) => {
    const same = focus?.component === cell.component && !cell.place;
    focus?.setComponent(same ? null : cell.component);
    if (cell.place) focus?.setFocus(cell.place);
  };

  // Arrow keys move from cell to cell; one cell at a time is in the order of Tab.
  const step = (event: KeyboardEvent, cell: Cell) => {
    const by: Record<string, [number, number]> = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    };
    const move = by[event.key];
    if (!move) return;
    event.preventDefault();
    let [row, column] = [cell.row, cell.column];
    for (let i = 0; i < meta.rows.length + meta.columns.length; i++) {
      row += move[0];
      column += move[1];
      const next = cells.find((c) => c.row === row && c.column === column);
      if (next) {
        for (const [other, button] of buttons) button.tabIndex = other === next ? 0 : -1;
        buttons.get(next)?.focus();
        return;
      }
    }
  };

  const build = () => {
    const { metric, value, error, limit } = numbers(at());
    buttons.clear();
    const byPlace = new Map(cells.map((c, k) => [`${c.row} ${c.column}`, k]));
    const body = meta.rows.map((row, r) =>
      h(
        "tr", {},
        h("th", { scope: "row" }, row),
        ...meta.columns.map((column, c) => {
          const k = byPlace.get(`${r} ${c}`);
          if (k === undefined) return h("td");
          const cell = cells[k];
          const known = error && Number.isFinite(error[k]) ? Math.abs(value[k]) > Z * error[k] : null;
          let name = stepClass(value[k], limit, metric.scale);
          if (Math.abs(value[k]) > limit) name += " clip";
          if (cell.muted || (known === false && metric.scale === "diverging")) name += " mut";
          const button = h(
            "button", {
              class: `cell ${name}`, tabindex: buttons.size ? -1 : 0,
              "aria-label": `${cell.component}${meta.corner.includes("/") ? `, ${row}` : ""}: ${written(k)} ${metric.unit}${cell.muted ? ", muted: low split-half reliability" : ""}`,
              title: `${cell.component}  ${written(k)} ${metric.unit}`,
              onclick: () => pick(cell),
              onkeydown: (event: Event) => step(event as KeyboardEvent, cell),
            },
            cell.short ? h("small", {}, cell.short) : null,
            show(value[k], metric.scale === "diverging", 2),
          );
          buttons.set(cell, button);
          return h("td", {}, button);
        }),
      ),
    );
    const head = h("tr", {}, h("td.quiet", {}, meta.corner), ...meta.columns.map((c) => h("th", { scope: "col" }, c)));
    fill(box, h("table", {}, h("caption.said", {}, `${meta.title}: ${metric.label}`), h("thead", {}, head), h("tbody", {}, ...body)));
    const two = metric.scale === "diverging";
    const ramp: string[] = [];
    if (two) for (let i = STEPS; i > 0; i -= 2) ramp.push(`vn${i}`);
    for (let i = two ? 0 : 1; i <= STEPS; i += 2) ramp.push(two ? (i ? `vp${i}` : "v0") : `vs${i}`);
    const muted = cells.filter((c) => c.muted).length;
    fill(
      legend,
      h(
        "span.scale", {},
        two ? metric.negative : null, h("b", {}, two ? show(-limit) : "0"),
        h("span.ramp", { "aria-hidden": "true" }, ...ramp.map((name) => h("i", { class: name }))),
        h("b", {}, show(limit, two)), two ? metric.positive : null,
      ),
      h("span", {}, `${metric.label}${metric.unit ? `, ${metric.unit}` : ""}`),
      h("span", {}, error ? "hover over a cell for its standard error" : "no standard error is known"),
      muted ? h("span", {}, `striped: ${muted} with low split-half reliability (below 0.5)`) : error && two ? h("span", {}, "striped: 95 % interval includes 0") : null,
    );
    picker.selectedIndex = at();
    mark();
  };

  const mark = () => {
    const name = focus?.component ?? null;
    for (const [cell, button] of buttons) button.setAttribute("aria-pressed", String(cell.component === name));
    if (name) {
      const k = cells.findIndex((c) => c.component === name);
      live.textContent = k >= 0 ? `${name}: ${written(k)}` : name;
    }
  };

  const csvRows = (): Rows => {
    const { metric, value, error } = numbers(at());
    const rows: Rows = [[meta.corner || "row", "component", metric.label, "standard_error"]];
    cells.forEach((c, k) => rows.push([meta.rows[c.row], c.component, value[k], error ? error[k] : NaN]));
    return rows;
  };

  add(
    root,
    toolbar([h("span.title", {}, meta.title), meta.metrics.length > 1 && picker], [csvButton("components.csv", csvRows)]),
    legend, box, live,
    h("div.foot", {}, h("p.quiet", {}, "Click a component to choose it in all linked views; arrow keys move."), ...meta.notes.map((t) => h("p", {}, t))),
  );
  build();
  shell.follow(["metric"], build);
  focus = await FocusLink.connect(props, (part: Part) => {
    if (part === "component") mark();
  });
  mark();
}

export default mountData<Meta>(draw);
