// Estimates from decimated traces.  A trace arrives as blocks of consecutive steps
// (mean, least, greatest value, count), so that any mean that starts at a block's edge is exact.

export interface Blocks {
  /** Block k holds the steps edges[k] .. edges[k + 1] - 1. */
  edges: ArrayLike<number>;
  /** Chain-major, `chains * blocks` long. */
  mean: ArrayLike<number>;
  low: ArrayLike<number>;
  high: ArrayLike<number>;
  count: ArrayLike<number>;
  chains: number;
}

export interface Summary {
  /** nbeta times the mean gain over the chains used, and of each chain (NaN: no steps). */
  mean: number;
  each: number[];
  /** Standard error by batch means over all chains used; NaN below 4 batches. */
  mcse: number;
  steps: number;
}

export const blockCount = (blocks: Blocks): number => blocks.edges.length - 1;

/** The block whose edge is nearest to `step`, so that 0 <= k <= number of blocks. */
export function nearestEdge(blocks: Blocks, step: number): number {
  const { edges } = blocks;
  let low = 0;
  let high = edges.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (edges[middle] < step) low = middle + 1;
    else high = middle;
  }
  return low > 0 && step - edges[low - 1] < edges[low] - step ? low - 1 : low;
}

/** LLC of blocks `first .. last - 1`: nbeta * mean(loss - loss at w* of the same batch). */
export function summarize(
  blocks: Blocks,
  nbeta: ArrayLike<number>,
  used: boolean[],
  first: number,
  last = blockCount(blocks),
): Summary {
  const size = blockCount(blocks);
  const each: number[] = [];
  const batches: number[] = [];
  let total = 0;
  let steps = 0;
  // Batches of about sqrt(n) blocks: long against the correlation, many against the noise.
  const width = Math.max(1, Math.floor(Math.sqrt(last - first)));
  for (let chain = 0; chain < blocks.chains; chain++) {
    let sum = 0;
    let count = 0;
    let batchSum = 0;
    let batchCount = 0;
    let inBatch = 0;
    for (let k = first; k < last; k++) {
      const at = chain * size + k;
      const n = blocks.count[at];
      if (!n) continue;
      const value = nbeta[chain] * blocks.mean[at];
      sum += value * n;
      count += n;
      batchSum += value * n;
      batchCount += n;
      if (++inBatch === width) {
        if (used[chain]) batches.push(batchSum / batchCount);
        batchSum = batchCount = inBatch = 0;
      }
    }
    each.push(count ? sum / count : NaN);
    if (used[chain]) {
      total += sum;
      steps += count;
    }
  }
  let mcse = NaN;
  if (batches.length >= 4) {
    const centre = batches.reduce((a, b) => a + b, 0) / batches.length;
    const spread = batches.reduce((a, b) => a + (b - centre) ** 2, 0) / (batches.length - 1);
    mcse = Math.sqrt(spread / batches.length);
  }
  return { mean: steps ? total / steps : NaN, each, mcse, steps };
}

export interface Running {
  step: number;
  mean: number;
  steps: number;
}

/** Mean over the chains used of all steps from `first` to the end of block k, for every k. */
export function running(
  blocks: Blocks,
  nbeta: ArrayLike<number>,
  used: boolean[],
  first: number,
): Running[] {
  const size = blockCount(blocks);
  const found = [];
  let sum = 0;
  let steps = 0;
  for (let k = first; k < size; k++) {
    for (let chain = 0; chain < blocks.chains; chain++) {
      const at = chain * size + k;
      if (!used[chain] || !blocks.count[at]) continue;
      sum += nbeta[chain] * blocks.mean[at] * blocks.count[at];
      steps += blocks.count[at];
    }
    if (steps) found.push({ step: blocks.edges[k + 1], mean: sum / steps, steps });
  }
  return found;
}

/** The q quantile of the finite numbers (0 when there are none). */
export function quantile(values: number[], q: number): number {
  const finite = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!finite.length) return 0;
  return finite[Math.min(finite.length - 1, Math.max(0, Math.round(q * (finite.length - 1))))];
}

/** About `count` round numbers between `low` and `high`. */
export function ticks(low: number, high: number, count = 5): number[] {
  if (!(high > low)) return [low];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 5, 10].map((m) => m * power).find((step) => step >= raw)!;
  const found = [];
  for (let k = Math.ceil(low / unit - 1e-9); k * unit <= high + unit * 1e-9; k++) {
    found.push(Number((k * unit).toPrecision(12)));
  }
  return found;
}
