// Change between two points of training: interpolation in log time, with its error.

export interface Curves {
  step: ArrayLike<number>; // ascending, > 0
  value: ArrayLike<number>; // [step, curve]
  error: ArrayLike<number>;
  curves: number;
}

/** Weights of the two checkpoints around `at`: [index, weight] each. */
export function between(step: ArrayLike<number>, at: number): [number, number][] {
  const last = step.length - 1;
  if (at <= step[0]) return [[0, 1]];
  if (at >= step[last]) return [[last, 1]];
  let k = 0;
  while (step[k + 1] <= at) k++;
  const share = (Math.log(at) - Math.log(step[k])) / (Math.log(step[k + 1]) - Math.log(step[k]));
  return [[k, 1 - share], [k + 1, share]];
}

/** Change of curve c from step a to step b, and its standard error. */
export function change(all: Curves, c: number, a: number, b: number): { value: number; error: number } {
  const weight = new Map<number, number>();
  for (const [k, w] of between(all.step, b)) weight.set(k, (weight.get(k) ?? 0) + w);
  for (const [k, w] of between(all.step, a)) weight.set(k, (weight.get(k) ?? 0) - w);
  let [value, square] = [0, 0];
  for (const [k, w] of weight) {
    value += w * all.value[k * all.curves + c];
    square += (w * all.error[k * all.curves + c]) ** 2;
  }
  return { value, error: Math.sqrt(square) };
}

/** Slopes of curve c over log step between neighbouring checkpoints. */
export function slopes(all: Curves, c: number): { at: number; value: number; error: number }[] {
  const found = [];
  for (let k = 0; k + 1 < all.step.length; k++) {
    const wide = Math.log(all.step[k + 1]) - Math.log(all.step[k]);
    const { value, error } = change(all, c, all.step[k], all.step[k + 1]);
    found.push({ at: Math.sqrt(all.step[k] * all.step[k + 1]), value: value / wide, error: error / wide });
  }
  return found;
}
