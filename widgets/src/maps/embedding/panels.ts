// Around the map: the selection, the colours, the table, the file: all of it text.
import { fill, h, show, table } from "../../base/dom";
import { HUES, isDiverging, picture, ramp } from "../paint";
import type { Coordinate } from "../paint";
import { enriched } from "../points";
import { isDark } from "../../base/theme";
import type { Rows } from "../../base/chart_shell";
import type { Meta, Points } from "./data";

const LISTED = 240; // points in the list beside the map
const LEGEND = 40; // categories in the legend

export interface Act {
  pick: (k: number) => void;
  hover: (k: number) => void;
}

/** What the pointer's point is: a card beside it. */
export const card = (points: Points, k: number): Node[] => [
  ...(points.images ? [picture(points.images, k, 64)] : []),
  h("p", {}, ...points.words(k)),
  h("p.quiet", {}, points.where(k)),
  ...points.coordinates.slice(0, 8).map((c) => h("p", {}, `${c.name}: ${points.value(c, k)}`)),
];

/** The selected points: what is common among them, and each in its context. */
export function drawSide(side: HTMLElement, meta: Meta, points: Points, chosen: number[], colour: Coordinate, focused: number, act: Act): void {
  const { images, n } = points;
  const c = colour.kind === "category" ? colour : points.coordinates.find((one) => one.kind === "category");
  const rows = c && chosen.length ? enriched(c.values, chosen, c.categories.length).slice(0, 12) : [];
  const counts =
    c && rows.length > 0
      ? table(`${c.name} in the selection`, ["", "here#", "of all#", "times as often#"], rows.map((row) => h("tr", {}, h("td", {}, c.categories[row.code]), h("td.num", {}, row.count), h("td.num", {}, row.of), h("td.num", {}, show(row.times, false, 2)))))
      : null;
  const one = (k: number) =>
    h(
      "button",
      { title: points.where(k), class: k === focused ? "at" : null, "aria-label": images ? `${points.where(k)} ${points.label[k]}` : null, onclick: () => act.pick(k), onpointerenter: () => act.hover(k), onpointerleave: () => act.hover(-1) },
      ...(images ? [picture(images, k, 40)] : [...points.words(k), h("small", {}, points.where(k))]),
    );
  fill(
    side,
    h("h4", {}, chosen.length ? `${chosen.length} of ${n} ${meta.what}s selected` : "Nothing selected"),
    !chosen.length && h("p.quiet", {}, "Drag around points to see what they are."),
    counts,
    chosen.length > 0 && h(images ? "div.grid" : "div.list", {}, ...chosen.slice(0, LISTED).map(one)),
    chosen.length > LISTED && h("p.quiet", {}, `The first ${LISTED} are listed; the table and the CSV hold all.`),
  );
}

/** Categories as buttons that show one alone, or a scale with its ends. */
export function drawLegend(legend: HTMLElement, points: Points, c: Coordinate, only: number, alone: (code: number) => void): void {
  if (c.kind !== "category") {
    const colours = ramp(c, isDark()).filter((_, i) => i % 4 === 1);
    const strip = h("span.ramp", { "aria-hidden": "true" }, ...colours.map((value) => h("i", { style: `--sc:${value}` })));
    fill(legend, h("b", {}, c.name), h("span.scale", {}, h("span", {}, show(c.low, isDiverging(c))), strip, h("span", {}, show(c.high, isDiverging(c)))), h("span.quiet", {}, c.note));
    return;
  }
  const counts = new Int32Array(c.categories.length);
  for (let k = 0; k < points.n; k++) if (c.values[k] >= 0) counts[c.values[k]]++;
  const button = (code: number) =>
    h("button", { class: `k${code % HUES}`, "aria-pressed": String(code === only), title: `show ${c.categories[code]} alone`, onclick: () => alone(code) }, h("i", { "aria-hidden": "true" }), `${c.categories[code]} ${counts[code]}`);
  fill(
    legend,
    h("b", {}, c.name),
    ...[...counts.keys()].slice(0, LEGEND).map(button),
    c.categories.length > LEGEND && h("span.quiet", {}, `and ${c.categories.length - LEGEND} more`),
    c.categories.length > HUES && h("span.quiet", {}, "Colours repeat; click a label to isolate it"),
  );
}

/** The selected points, or all, as a table. */
export function drawTable(twin: HTMLElement, meta: Meta, points: Points, chosen: number[], pick: (k: number) => void): void {
  const { n, coordinates } = points;
  const rows = (chosen.length ? chosen : Array.from({ length: n }, (_, k) => k)).slice(0, 1000);
  const heads = [meta.what, ...coordinates.map((c) => c.name + (c.kind === "number" ? "#" : ""))];
  const row = (k: number) =>
    h("tr", {}, h("td", {}, h("button.plain", { onclick: () => pick(k) }, points.where(k)), " ", h("span.mono", {}, points.name(k))), ...coordinates.map((c) => h(c.kind === "number" ? "td.num" : "td", {}, points.value(c, k))));
  fill(twin, table(`${chosen.length ? "Selected" : "All"} points${rows.length < (chosen.length || n) ? `, the first ${rows.length}` : ""}`, heads, rows.map(row)));
}

export const fileName = (meta: Meta): string => `${meta.title.replace(/\W+/g, "_").toLowerCase()}.csv`;

export function rowsOf(meta: Meta, points: Points, chosen: number[], layout: number): Rows {
  const { coordinates, clouds } = points;
  const rows: Rows = [[meta.what === "token" ? "example" : "id", "token", "label", "x", "y", "selected", ...coordinates.map((c) => c.name)]];
  const inIt = new Set(chosen);
  for (let k = 0; k < points.n; k++) {
    const values = coordinates.map((c) => (c.kind === "category" ? points.value(c, k) : c.values[k]));
    rows.push([points.example[k], points.token[k], points.name(k), clouds[layout].x[k], clouds[layout].y[k], inIt.has(k) ? 1 : 0, ...values]);
  }
  return rows;
}
