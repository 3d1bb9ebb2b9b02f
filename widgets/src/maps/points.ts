// Finding points: picking, lassos and steps by keyboard over many points, without the DOM.

export interface Cloud {
  x: Float32Array; // data coordinates; NaN: not placed
  y: Float32Array;
}

/** The affine map from data to pixels: p = k * v + d, one scale for both axes (y points up). */
export interface Camera {
  k: number;
  dx: number;
  dy: number;
}

export interface Box {
  width: number;
  height: number;
}

/** The camera that shows every point with `margin` pixels around. */
export function fit(cloud: Cloud, box: Box, margin = 18): Camera {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < cloud.x.length; i++) {
    const [x, y] = [cloud.x[i], cloud.y[i]];
    if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
    if (x < x0) x0 = x;
    if (x > x1) x1 = x;
    if (y < y0) y0 = y;
    if (y > y1) y1 = y;
  }
  if (!(x1 >= x0)) return { k: 1, dx: 0, dy: 0 };
  const wide = Math.max(1, box.width - 2 * margin) / Math.max(x1 - x0, 1e-9);
  const high = Math.max(1, box.height - 2 * margin) / Math.max(y1 - y0, 1e-9);
  const k = Math.min(wide, high, 1e12);
  return { k, dx: box.width / 2 - (k * (x0 + x1)) / 2, dy: box.height / 2 + (k * (y0 + y1)) / 2 };
}

/** `camera` with everything `factor` times as large around pixel (px, py). */
export function zoom(camera: Camera, factor: number, px: number, py: number): Camera {
  const { k, dx, dy } = camera;
  return { k: k * factor, dx: px - (px - dx) * factor, dy: py - (py - dy) * factor };
}

export const toX = (c: Camera, x: number): number => c.k * x + c.dx;
export const toY = (c: Camera, y: number): number => c.dy - c.k * y;

/** Points by cell of a grid in pixels, so that the pointer asks few of them. */
export class Finder {
  readonly #cells = new Map<number, number[]>();
  readonly #px: Float32Array;
  readonly #py: Float32Array;
  readonly size: number;

  constructor(cloud: Cloud, camera: Camera, size = 24) {
    this.size = size;
    const n = cloud.x.length;
    this.#px = new Float32Array(n);
    this.#py = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const [x, y] = [toX(camera, cloud.x[i]), toY(camera, cloud.y[i])];
      this.#px[i] = x;
      this.#py[i] = y;
      if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
      const key = this.#key(Math.floor(x / size), Math.floor(y / size));
      const cell = this.#cells.get(key);
      if (cell) cell.push(i);
      else this.#cells.set(key, [i]);
    }
  }

  #key(i: number, j: number): number {
    return (i + 1e6) * 4e6 + (j + 1e6);
  }

  at(i: number): [number, number] {
    return [this.#px[i], this.#py[i]];
  }

  /** The nearest point within `reach` pixels; -1 where there is none.  Ties go to the last drawn. */
  nearest(px: number, py: number, reach: number): number {
    const { size } = this;
    let best = -1;
    let least = reach * reach;
    for (let i = Math.floor((px - reach) / size); i <= Math.floor((px + reach) / size); i++) {
      for (let j = Math.floor((py - reach) / size); j <= Math.floor((py + reach) / size); j++) {
        for (const k of this.#cells.get(this.#key(i, j)) ?? []) {
          const d = (this.#px[k] - px) ** 2 + (this.#py[k] - py) ** 2;
          if (d <= least) [best, least] = [k, d];
        }
      }
    }
    return best;
  }

  /** One step with an arrow key: the nearest point in a cone of 45 degrees to either side. */
  step(from: number, right: number, down: number): number {
    const [x, y] = this.at(from);
    let best = from;
    let least = Infinity;
    for (let k = 0; k < this.#px.length; k++) {
      const [dx, dy] = [this.#px[k] - x, this.#py[k] - y];
      const along = dx * right + dy * down;
      const across = Math.abs(dx * down) + Math.abs(dy * right);
      if (!(along > 1e-3) || across > along) continue;
      const d = along + 2 * across;
      if (d < least) [best, least] = [k, d];
    }
    return best;
  }
}

/** Points inside a closed polygon of pixels [x0, y0, x1, y1, ...] (even-odd rule). */
export function inside(finder: Finder, count: number, polygon: number[], allowed: (k: number) => boolean): number[] {
  const found: number[] = [];
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let m = 0; m < polygon.length; m += 2) {
    x0 = Math.min(x0, polygon[m]);
    x1 = Math.max(x1, polygon[m]);
    y0 = Math.min(y0, polygon[m + 1]);
    y1 = Math.max(y1, polygon[m + 1]);
  }
  for (let k = 0; k < count; k++) {
    const [x, y] = finder.at(k);
    if (!(x >= x0 && x <= x1 && y >= y0 && y <= y1) || !allowed(k)) continue;
    let odd = false;
    for (let a = 0, b = polygon.length - 2; a < polygon.length; b = a, a += 2) {
      const [ax, ay, bx, by] = [polygon[a], polygon[a + 1], polygon[b], polygon[b + 1]];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
    }
    if (odd) found.push(k);
  }
  return found;
}

/** How much more often than by chance each category occurs among `chosen`, most first. */
export function enriched(codes: ArrayLike<number>, chosen: number[], categories: number): { code: number; count: number; of: number; times: number }[] {
  const [here, all] = [new Int32Array(categories), new Int32Array(categories)];
  let total = 0;
  for (let k = 0; k < codes.length; k++) {
    if (codes[k] < 0) continue;
    all[codes[k]]++;
    total++;
  }
  let size = 0;
  for (const k of chosen) {
    if (codes[k] < 0) continue;
    here[codes[k]]++;
    size++;
  }
  return [...here]
    .map((count, code) => ({ code, count, of: all[code], times: count / Math.max(size, 1) / (all[code] / Math.max(total, 1) || 1) }))
    .filter((row) => row.count > 0)
    .sort((a, b) => b.count - a.count || b.times - a.times);
}
