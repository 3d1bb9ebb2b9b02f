// The mean kernel of a block of pairs, computed from the draws, for blocks of any size.
//
// With z_i the losses of example i over draws (centred per chain, variance 1), the mean
// correlation of all pairs of two sets of examples is the product of their mean traces:
//   mean_{i in A, j in B} r_ij = (mean_A z) . (mean_B z),
// so that an overview of 10,000 x 10,000 pairs costs no more than one of as many cells.  Pairs of an
// example with itself are left out.  Standard errors: batches of draws, as in rows.ts.

export interface Draws {
  q: Int8Array; // [series * draws], the largest of each series at +-127
  draws: number;
  batches: Int32Array; // [G + 1]
  sd: Float32Array; // [series], in nats
}

/** Examples [from, to) in the order on show. */
export interface Segment {
  from: number;
  to: number;
  name: string;
}

export interface Cell {
  value: number;
  error: number;
  pairs: number;
}

export class Blocks {
  readonly #d: Draws;
  readonly #unit: Float64Array; // 1 / |q_i|; 0 where the loss does not vary
  readonly #cache = new Map<string, Float32Array>();

  constructor(d: Draws) {
    this.#d = d;
    this.#unit = new Float64Array(d.sd.length);
    for (let i = 0; i < d.sd.length; i++) {
      let sum = 0;
      for (let m = i * d.draws; m < (i + 1) * d.draws; m++) sum += d.q[m] * d.q[m];
      this.#unit[i] = sum > 0 && d.sd[i] > 0 ? 1 / Math.sqrt(sum) : 0;
    }
  }

  varies(i: number): boolean {
    return this.#unit[i] > 0;
  }

  /** Sum over a segment of traces of unit length (times sd for the covariance). */
  trace({ from, to }: Segment, covariance: boolean): Float32Array {
    const key = `${from},${to},${covariance}`;
    const known = this.#cache.get(key);
    if (known) return known;
    const { q, draws, sd } = this.#d;
    const sum = new Float32Array(draws);
    for (let i = from; i < to; i++) {
      const unit = this.#unit[i] * (covariance ? sd[i] : 1);
      if (!unit) continue;
      const at = i * draws;
      for (let m = 0; m < draws; m++) sum[m] += unit * q[at + m];
    }
    if (this.#cache.size > 4000) this.#cache.clear();
    this.#cache.set(key, sum);
    return sum;
  }

  #alive(from: number, to: number): number {
    let count = 0;
    for (let i = from; i < to; i++) if (this.#unit[i]) count++;
    return count;
  }

  /** What the pairs of an example with itself add to a product of sums, and how many there are. */
  #own(a: Segment, b: Segment, covariance: boolean): [number, number] {
    let [sum, count] = [0, 0];
    for (let i = Math.max(a.from, b.from); i < Math.min(a.to, b.to); i++) {
      if (!this.#unit[i]) continue;
      sum += covariance ? this.#d.sd[i] ** 2 : 1;
      count++;
    }
    return [sum, count];
  }

  /** Mean kernel of every two segments, row by row; NaN where there is no pair.  A single example
   *  with itself has its own entry. */
  matrix(rows: Segment[], columns: Segment[], covariance: boolean): Float32Array<ArrayBuffer> {
    const out = new Float32Array(rows.length * columns.length);
    const sizes = columns.map((c) => this.#alive(c.from, c.to));
    const traces = columns.map((c) => this.trace(c, covariance));
    rows.forEach((a, i) => {
      const mine = this.trace(a, covariance);
      const size = this.#alive(a.from, a.to);
      columns.forEach((b, j) => {
        const other = traces[j];
        let dot = 0;
        for (let m = 0; m < mine.length; m++) dot += mine[m] * other[m];
        out[i * columns.length + j] = this.#mean(dot, size * sizes[j], a, b, covariance)[0];
      });
    });
    return out;
  }

  #mean(dot: number, all: number, a: Segment, b: Segment, covariance: boolean): [number, number] {
    const [own, count] = this.#own(a, b, covariance);
    if (all === 1 && count === 1) return [dot, 1];
    const pairs = all - count;
    return pairs > 0 ? [(dot - own) / pairs, pairs] : [NaN, 0];
  }

  /** One entry with its standard error. */
  cell(a: Segment, b: Segment, covariance: boolean): Cell {
    const { draws, batches } = this.#d;
    const [x, y] = [this.trace(a, covariance), this.trace(b, covariance)];
    const G = batches.length - 1;
    const parts = new Float64Array(G);
    let dot = 0;
    for (let g = 0; g < G; g++) {
      for (let m = batches[g]; m < batches[g + 1]; m++) parts[g] += x[m] * y[m];
      dot += parts[g];
    }
    const all = this.#alive(a.from, a.to) * this.#alive(b.from, b.to);
    const [value, pairs] = this.#mean(dot, all, a, b, covariance);
    let square = 0;
    for (let g = 0; g < G; g++) square += (parts[g] - (dot * (batches[g + 1] - batches[g])) / draws) ** 2;
    const error = G > 1 && pairs ? Math.sqrt((square * G) / (G - 1)) / pairs : NaN;
    return { value, error, pairs };
  }
}

/** A node of the tree over the order on show: examples [from, to), its children below it. */
export interface TreeNode {
  name: string;
  from: number;
  to: number;
  depth: number;
  children: number[];
}

/** The segments that [from, to) falls into: closed nodes whole, the rest cut into `most` pieces. */
export function segments(nodes: TreeNode[], roots: number[], closed: Set<number>, from: number, to: number, most: number, nameOf: (i: number) => string): Segment[] {
  const pieces: Segment[] = [];
  const visit = (k: number) => {
    const node = nodes[k];
    const [a, b] = [Math.max(from, node.from), Math.min(to, node.to)];
    if (a >= b) return;
    if (closed.has(k)) pieces.push({ from: a, to: b, name: node.name });
    else if (node.children.length) node.children.forEach(visit);
    else for (let i = a; i < b; i++) pieces.push({ from: i, to: i + 1, name: nameOf(i) });
  };
  roots.forEach(visit);
  const width = Math.ceil(pieces.length / most);
  if (width <= 1) return pieces;
  const joined: Segment[] = [];
  for (let i = 0; i < pieces.length; ) {
    // Never across a closed node: it stays one row.
    const start = pieces[i];
    let end = start;
    let count = 1;
    const single = (s: Segment) => s.to - s.from === 1;
    while (single(start) && count < width && i + count < pieces.length && single(pieces[i + count])) end = pieces[i + count++];
    joined.push(count > 1 ? { from: start.from, to: end.to, name: `${start.name} \u2026 ${end.name}` } : start);
    i += count;
  }
  return joined;
}
