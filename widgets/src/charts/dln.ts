// The learning coefficient of a deep linear network and what is proven at a planted point: the same
// as slt_notebook/benchmarks/dln.py, where the formulas and their sources stand.

export interface Coefficient {
  value: number;
  multiplicity: number;
  /** The layers (places in `widths`) of the set that the formula is about. */
  chosen: number[];
}

/** Aoyagi's lambda and multiplicity for widths H_0..H_L and a true product of rank r. */
export function learningCoefficient(widths: number[], rank: number): Coefficient {
  const order = widths.map((_, k) => k).sort((a, b) => widths[a] - widths[b] || a - b);
  const excess = order.map((k) => widths[k] - rank);
  let size = 1;
  let total = 0;
  for (; size < excess.length; size++) {
    total = excess.slice(0, size + 1).reduce((a, b) => a + b, 0);
    const next = excess[size + 1];
    const apart = next === undefined || (excess[size] < next && total < size * next);
    if (apart && total >= size * excess[size]) break;
  }
  const chosen = excess.slice(0, size + 1);
  const a = total - (Math.ceil(total / size) - 1) * size;
  const pairs = (total ** 2 - chosen.reduce((s, d) => s + d * d, 0)) / 2;
  const value =
    (rank * (widths[0] + widths[widths.length - 1]) - rank ** 2) / 2 +
    (a * (size - a)) / (4 * size) -
    ((size - 1) * total ** 2) / (4 * size) +
    pairs / 2;
  return { value, multiplicity: a * (size - a) + 1, chosen: order.slice(0, size + 1).sort((p, q) => p - q) };
}

export interface Certificate {
  rank: number;
  jacobianRank: number;
  smooth: boolean;
  local: number;
  certified: boolean;
}

/** What is proven at weights whose layers have these ranks, in general position. */
export function certificate(widths: number[], ranks: number[]): Certificate {
  const last = widths.length - 1;
  const at = (i: number, j: number): number => (i < 0 || j > last || j < i ? 0 : i === j ? widths[i] : Math.min(...ranks.slice(i, j)));
  const rank = at(0, last);
  let rho = 0;
  for (let k = 1; k <= last; k++) rho += (at(k, last) - (k > 1 ? at(k - 1, last) : 0)) * at(0, k - 1);
  const keys: [number, number][] = [];
  for (let i = 0; i <= last; i++) for (let j = i; j <= last; j++) keys.push([i, j]);
  const count = keys.map(([i, j]) => at(i, j) - at(i - 1, j) - at(i, j + 1) + at(i - 1, j + 1));
  const smooth = fibre(widths, keys, count, rank, rho) === rho;
  const whole = learningCoefficient(widths, rank).value;
  return { rank, jacobianRank: rho, smooth, local: rho / 2, certified: smooth && rho === 2 * whole };
}

/** Codimension of the largest stratum that steepest descent meets; stops at `goal`. */
function fibre(widths: number[], keys: [number, number][], start: number[], rank: number, goal: number): number {
  const last = widths.length - 1;
  const hom = keys.map(([i, j]) => keys.map(([k, e]) => (k <= i && i <= e && e <= j ? 1 : 0)));
  const place = (i: number, j: number) => keys.findIndex(([a, b]) => a === i && b === j);
  const parameters = widths.slice(1).reduce((sum, h, k) => sum + h * widths[k], 0);
  const fixed = parameters - widths.reduce((sum, h) => sum + h * h, 0) + rank * (widths[0] + widths[last] - rank);
  const form = (x: number[], y: number[]) => x.reduce((sum, a, p) => (a ? sum + a * y.reduce((t, b, q) => t + hom[p][q] * b, 0) : sum), 0);
  const moves: { first: number; second: number; change: number[]; square: number }[] = [];
  for (const [i, j] of keys) {
    for (const [k, e] of keys) {
      if (!(i < k && k <= j + 1 && j + 1 <= e) || (i === 0 && e === last)) continue;
      const change = keys.map(() => 0);
      change[place(i, j)] -= 1;
      change[place(k, e)] -= 1;
      change[place(i, e)] += 1;
      if (k <= j) change[place(k, j)] += 1;
      moves.push({ first: place(i, j), second: place(k, e), change, square: form(change, change) });
    }
  }
  let count = start;
  for (;;) {
    const here = fixed + form(count, count);
    if (here <= goal) return here;
    let best = 0;
    let next: number[] | null = null;
    for (const { first, second, change, square } of moves) {
      const room = Math.min(count[first], count[second]);
      if (room <= 0) continue;
      const times = Math.max(1, Math.floor(room / 8));
      const gain = (times * (form(change, count) + form(count, change)) + times ** 2 * square) / times;
      if (gain < best) {
        best = gain;
        next = count.map((c, p) => c + times * change[p]);
      }
    }
    if (!next) return here;
    count = next;
  }
}
