// Drawing small charts: SVG elements, whose colours come from the theme through classes.
import css from "./chart.css";

type Attributes = Record<string, string | number | null | undefined>;

export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children);
  return element;
}

export type Scale = ((value: number) => number) & { invert(pixel: number): number };

export function scale([a, b]: [number, number], [p, q]: [number, number]): Scale {
  const slope = b === a ? 0 : (q - p) / (b - a);
  const map = (value: number) => p + (value - a) * slope;
  return Object.assign(map, { invert: (pixel: number) => (slope ? a + (pixel - p) / slope : a) });
}

/** A path through the points; NaN lifts the pen. */
export function line(points: Iterable<readonly [number, number]>): string {
  let path = "";
  let down = false;
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      down = false;
      continue;
    }
    path += `${down ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    down = true;
  }
  return path;
}

/** Line styles beside the colours: chains are told apart without colour, too. */
export const DASHES = ["", "6 2", "2 2", "8 2 2 2", "10 3", "4 4", "1 3", "12 2 2 2 2 2"];

export const CHAIN_CSS = css;
