// The number of observations at which two solutions have equal free energy, by the formulas of
// slt_notebook/estimators/llc/model_selection.py.

/** `n L + llc log n`. */
export const freeEnergy = (n: number, loss: number, llc: number): number => n * loss + llc * Math.log(n);

/** The upper root of `n / log n = (llc_1 - llc_2) / (L_2 - L_1)`; NaN where there is none. */
export function crossover(losses: [number, number], llcs: [number, number]): number {
  const ratio = (llcs[0] - llcs[1]) / (losses[1] - losses[0]);
  if (!(ratio >= Math.E) || !Number.isFinite(ratio)) return NaN;
  // n / log n rises from e at n = e on: Newton's steps on n - ratio log n from above converge.
  let n = 2 * ratio * Math.log(ratio) + Math.E;
  for (let k = 0; k < 60; k++) n -= (n - ratio * Math.log(n)) / (1 - ratio / n);
  return n;
}
