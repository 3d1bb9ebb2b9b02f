// A pair of axes, linear or logarithmic: a box, its scales, and its grid.
import { show } from "../base/dom";
import { ticks } from "./series";
import { s, scale } from "../base/svg";

export interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export interface Axis {
  (value: number): number;
  invert(pixel: number): number;
  low: number;
  high: number;
  log: boolean;
}

/** A scale from `[low, high]` to pixels that clips what lies outside, with `pad` of room. */
export function axis([low, high]: [number, number], pixels: [number, number], log = false, pad = 0.04): Axis {
  const place = log ? Math.log10 : (v: number) => v;
  const back = log ? (v: number) => 10 ** v : (v: number) => v;
  let [a, b] = [place(low), place(high)];
  if (!(b > a)) [a, b] = [a - 0.5, a + 0.5];
  const room = pad * (b - a);
  const inner = scale([a - room, b + room], pixels);
  const clip = (v: number) => Math.max(a - room, Math.min(b + room, v));
  const map = (value: number) => inner(clip(log && value <= 0 ? a - room : place(value)));
  return Object.assign(map, { invert: (pixel: number) => back(inner.invert(pixel)), low: back(a - room), high: back(b + room), log });
}

/** Powers of ten in the range, with 2 and 5 between them where those are few. */
export function logTicks(low: number, high: number): number[] {
  const found: number[] = [];
  const wide = Math.log10(high / low);
  const marks = wide > 3 ? [1] : wide > 1.2 ? [1, 3] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(wide / 6));
  for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++) {
    if (p % every) continue;
    for (const m of marks) {
      const value = m * 10 ** p;
      if (value >= low * 0.999 && value <= high * 1.001) found.push(Number(value.toPrecision(6)));
    }
  }
  return found;
}

const marksOf = (a: Axis, count: number) => (a.log ? logTicks(a.low, a.high) : ticks(a.low, a.high, count).filter((v) => v <= a.high));

/** Grid, numbers and titles of a box. */
export function frame(box: Box, x: Axis, y: Axis, titles: { x: string; y: string; what?: string }, names: { x?: (v: number) => string; y?: (v: number) => string } = {}): Node[] {
  const parts: Node[] = [];
  const named = { x: names.x ?? ((v: number) => show(v)), y: names.y ?? ((v: number) => show(v)) };
  for (const value of marksOf(y, (box.bottom - box.top) / 44)) {
    const at = Math.round(y(value)) + 0.5;
    parts.push(s("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }));
    parts.push(s("text", { x: box.left - 6, y: at + 4, "text-anchor": "end" }, named.y(value)));
  }
  for (const value of marksOf(x, (box.right - box.left) / 52)) {
    const at = Math.round(x(value)) + 0.5;
    parts.push(s("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }));
    parts.push(s("text", { x: at, y: box.bottom + 15, "text-anchor": "middle" }, named.x(value)));
  }
  const middle = (box.left + box.right) / 2;
  parts.push(s("text", { class: "axis", x: middle, y: box.bottom + 32, "text-anchor": "middle" }, titles.x));
  parts.push(s("text", { class: "what", x: box.left, y: box.top - 9 }, titles.what ?? titles.y));
  return parts;
}

/** Least and greatest of the finite numbers (of the positive ones, for a log axis). */
export function extent(values: Iterable<number>, positive = false): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const v of values) {
    if (!Number.isFinite(v) || (positive && v <= 0)) continue;
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  return low <= high ? [low, high] : positive ? [0.1, 1] : [0, 1];
}
