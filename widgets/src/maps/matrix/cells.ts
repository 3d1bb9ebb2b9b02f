// The cells in words: the tooltip, the legend, the table, the file.
import type { Segment } from "../blocks";
import { STEPS } from "../../base/color";
import type { Rows } from "../../base/chart_shell";
import { fill, h, show, table } from "../../base/dom";
import { single, size } from "./data";
import type { Kernel, Sight } from "./data";

export function written({ blocks }: Kernel, a: Segment, b: Segment, covariance: boolean): string {
  const { value, error } = blocks.cell(a, b, covariance);
  return `${show(value, true)}${Number.isFinite(error) ? ` \u00b1 ${show(error, false, 2)}` : ""}`;
}

export function tipOf({ blocks, meta }: Kernel, a: Segment, b: Segment, covariance: boolean): Node[] {
  const { value, error, pairs } = blocks.cell(a, b, covariance);
  const known = Number.isFinite(error) ? (Math.abs(value) > meta.z * error ? "significant at 95 %" : "95 % interval includes 0") : "no standard error";
  return [
    h("div.big", {}, `${show(value, true)} \u00b1 ${show(error, false, 2)}`),
    h("p", {}, `${a.name}${size(a)}`),
    h("p", {}, `${b.name}${size(b)}`),
    h("p.quiet", {}, pairs > 1 ? `mean of ${pairs} pairs; ${known}` : known),
  ];
}

export function drawLegend(into: HTMLElement, { range, rows, columns, limit, covariance }: Sight): void {
  const ramp: Node[] = [];
  for (let i = STEPS; i > 0; i -= 2) ramp.push(h("i", { class: `vn${i}` }));
  ramp.push(h("i", { class: "v0" }));
  for (let i = 2; i <= STEPS; i += 2) ramp.push(h("i", { class: `vp${i}` }));
  const many = rows.some((s) => !single(s)) || columns.some((s) => !single(s));
  fill(
    into,
    h("span.scale", {}, h("span", {}, "opposite"), h("b", {}, show(-limit)), h("span.ramp", { "aria-hidden": "true" }, ...ramp), h("b", {}, show(limit, true)), h("span", {}, "alike")),
    h("span", {}, covariance ? "covariance, nats\u00b2" : "correlation"),
    h("span.quiet", {}, "colour range: 99.5th percentile of |value|"),
    many && h("span.quiet", {}, `cells are means over blocks of pairs (${rows.length} rows for ${range[1] - range[0]} examples)`),
  );
}

/** The cells on show, largest first; each pair once, none with itself. */
function largest({ rows, columns, values }: Sight): [Segment, Segment][] {
  const list: [Segment, Segment, number][] = [];
  rows.forEach((a, i) => columns.forEach((b, j) => {
    const v = values[i * columns.length + j];
    if (Number.isFinite(v) && (rows !== columns || j >= i) && !(single(a) && a.from === b.from && single(b))) list.push([a, b, v]);
  }));
  return list.sort((p, q) => Math.abs(q[2]) - Math.abs(p[2])).map(([a, b]) => [a, b]);
}

const measure = (sight: Sight): string => (sight.covariance ? "covariance" : "correlation");

export function drawTable(into: HTMLElement, kernel: Kernel, sight: Sight): void {
  const what = measure(sight);
  const lines = largest(sight).slice(0, 300).map(([a, b]) => h("tr", {}, h("td", {}, a.name + size(a)), h("td", {}, b.name + size(b)), h("td.num", {}, written(kernel, a, b, sight.covariance))));
  fill(into, table(`Cells on show, largest first (at most 300): mean ${what}`, ["row", "column", `${what} \u00b1 s.e.#`], lines));
}

export function rowsOf({ blocks }: Kernel, sight: Sight): Rows {
  const lines: Rows = [["row", "column", measure(sight), "standard_error", "pairs"]];
  for (const [a, b] of largest(sight).slice(0, 20000)) {
    const c = blocks.cell(a, b, sight.covariance);
    lines.push([a.name, b.name, c.value, c.error, c.pairs]);
  }
  return lines;
}
