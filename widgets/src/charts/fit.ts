// Where a curve crosses a tolerance, and how well one number predicts another.
// The same formulas as slt_notebook/estimators/llc/compression.py.

/** The level where `gap` first rises above `tolerance`, levels from the least compression on.
 *  -Infinity: the first is above it already; Infinity: none is.  log: interpolate log level. */
export function crossing(levels: ArrayLike<number>, gap: ArrayLike<number>, tolerance: number, log: boolean): number {
  let count = 0;
  while (count < levels.length && Number.isFinite(levels[count])) count++;
  let k = 0;
  while (k < count && !(gap[k] > tolerance)) k++;
  if (k === count) return Infinity;
  if (k === 0) return -Infinity;
  const [low, high] = [gap[k - 1], gap[k]];
  let share = 0;
  if (Number.isFinite(high)) {
    share = low > 0
      ? (Math.log(tolerance) - Math.log(low)) / (Math.log(high) - Math.log(low))
      : (tolerance - low) / (high - low);
  }
  const place = log ? Math.log : (v: number) => v;
  const at = place(levels[k - 1]) + share * (place(levels[k]) - place(levels[k - 1]));
  return log ? Math.exp(at) : at;
}

/** A crossing as what people read: bits of a grid, else the level; infinities turned round where a
 *  larger level is less compression. */
export function critical(levels: ArrayLike<number>, gap: ArrayLike<number>, tolerance: number, log: boolean, grid: boolean): number {
  const at = crossing(levels, gap, tolerance, log);
  if (!Number.isFinite(at)) return levels[0] > levels[1] ? -at : at;
  return grid ? Math.log2(at) : at;
}

const mean = (x: number[]): number => x.reduce((a, b) => a + b, 0) / x.length;

function products(x: number[], y: number[]): [number, number, number] {
  const [mx, my] = [mean(x), mean(y)];
  let [xx, yy, xy] = [0, 0, 0];
  for (let i = 0; i < x.length; i++) {
    xx += (x[i] - mx) ** 2;
    yy += (y[i] - my) ** 2;
    xy += (x[i] - mx) * (y[i] - my);
  }
  return [xx, yy, xy];
}

/** Squared correlation; NaN where one does not vary. */
export function r2(x: number[], y: number[]): number {
  const [xx, yy, xy] = products(x, y);
  return xx > 0 && yy > 0 ? xy ** 2 / (xx * yy) : NaN;
}

export function ranks(x: number[]): number[] {
  const order = x.map((_, i) => i).sort((a, b) => x[a] - x[b]);
  const out = new Array<number>(x.length);
  for (let i = 0; i < order.length; ) {
    let j = i;
    while (j + 1 < order.length && x[order[j + 1]] === x[order[i]]) j++;
    for (let k = i; k <= j; k++) out[order[k]] = (i + j) / 2; // ties share their mean
    i = j + 1;
  }
  return out;
}

export function spearman(x: number[], y: number[]): number {
  const [xx, yy, xy] = products(ranks(x), ranks(y));
  return xx > 0 && yy > 0 ? xy / Math.sqrt(xx * yy) : NaN;
}

/** Slope and intercept of the least-squares line. */
export function fitLine(x: number[], y: number[]): [number, number] {
  const [xx, , xy] = products(x, y);
  const slope = xx > 0 ? xy / xx : NaN;
  return [slope, mean(y) - slope * mean(x)];
}

/** 95 % percentile interval of a statistic over resampled points, always with the same draws. */
export function interval(x: number[], y: number[], of: (x: number[], y: number[]) => number, resamples = 400): [number, number] {
  let state = 12345;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const found: number[] = [];
  for (let r = 0; r < resamples; r++) {
    const pick = x.map(() => Math.floor(next() * x.length));
    const value = of(pick.map((i) => x[i]), pick.map((i) => y[i]));
    if (Number.isFinite(value)) found.push(value);
  }
  found.sort((a, b) => a - b);
  const at = (q: number) => found[Math.min(found.length - 1, Math.max(0, Math.round(q * (found.length - 1))))] ?? NaN;
  return [at(0.025), at(0.975)];
}
