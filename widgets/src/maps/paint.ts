// Painting many points: colours of a coordinate, and one pass over a canvas.
import { diverging, sequential } from "../base/color";
import type { RGB } from "../base/color";

/** One coordinate that points can be coloured by. */
export interface Coordinate {
  name: string;
  kind: "category" | "number";
  values: ArrayLike<number>; // codes of categories (-1: none), or numbers (NaN: none)
  categories: string[];
  low: number; // ends of the scale; a diverging one is symmetric
  high: number;
  note: string;
}

const STEPS = 48;
export const HUES = 8;

const css = (rgb: RGB, alpha: number): string => `rgba(${rgb.join(",")},${alpha})`;

/** The categorical colours of the theme that `root` is in, k0 .. k7, and the quiet one. */
export function palette(root: Element): string[] {
  const style = getComputedStyle(root);
  const names = [...Array.from({ length: HUES }, (_, k) => `--k${k}`), "--slt-strong"];
  return names.map((name) => style.getPropertyValue(name).trim() || "#888");
}

export const isDiverging = (c: Coordinate): boolean => c.low < 0 && c.high > 0;

/** The step of a number on the scale of its coordinate, 0 .. STEPS - 1; -1 without a value. */
export function bucket(c: Coordinate, value: number): number {
  if (!Number.isFinite(value)) return -1;
  const share = (value - c.low) / (c.high - c.low || 1);
  return Math.round(Math.max(0, Math.min(1, share)) * (STEPS - 1));
}

/** The colour of every step of a number's scale. */
export function ramp(c: Coordinate, dark: boolean): string[] {
  return Array.from({ length: STEPS }, (_, i) => {
    const t = i / (STEPS - 1);
    if (!isDiverging(c)) return css(sequential(0.18 + 0.82 * t, dark), 1);
    const signed = 2 * t - 1;
    return css(diverging(Math.sign(signed) * (0.15 + 0.85 * Math.abs(signed)), dark), 1);
  });
}

/** Points of one colour together: a canvas changes its fill style slowly. */
export function layers(c: Coordinate, count: number, colours: string[], quiet: string): [string, number[]][] {
  const found = new Map<string, number[]>();
  for (let k = 0; k < count; k++) {
    const value = c.values[k];
    const step = c.kind === "category" ? (value < 0 ? -1 : value % HUES) : bucket(c, value);
    const colour = step < 0 ? quiet : colours[step];
    const list = found.get(colour);
    if (list) list.push(k);
    else found.set(colour, [k]);
  }
  return [...found];
}

/** Images of all points, one after the other: `[point, height, width, channels]`, 8 bits each. */
export interface Images {
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
}

export function picture(images: Images, k: number, size: number): HTMLCanvasElement {
  const { data, height, width, channels } = images;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.style.width = `${size}px`;
  canvas.style.height = `${Math.round((size * height) / width)}px`;
  const context = canvas.getContext("2d")!;
  const pixels = context.createImageData(width, height);
  const start = k * height * width * channels;
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = data[start + i * channels + (channels === 3 ? c : 0)];
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
