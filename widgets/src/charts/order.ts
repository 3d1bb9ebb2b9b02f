// Errors of estimates, and whether they preserve the order of the true values.

/** Median and quartiles; infinite numbers count as the largest. */
export function spread(values: number[]): { lower: number; median: number; upper: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (q: number): number => {
    if (!sorted.length) return NaN;
    const place = q * (sorted.length - 1);
    const k = Math.floor(place);
    const next = sorted[Math.min(k + 1, sorted.length - 1)];
    return place === k || sorted[k] === next ? sorted[k] : sorted[k] + (place - k) * (next - sorted[k]);
  };
  return { lower: at(0.25), median: at(0.5), upper: at(0.75) };
}

/** Share of the pairs with different truths that the estimates order alike; NaN without pairs. */
export function orderPreservation(estimate: number[], truth: number[]): number {
  let pairs = 0;
  let kept = 0;
  for (let i = 0; i < truth.length; i++) {
    for (let j = 0; j < truth.length; j++) {
      if (!(truth[i] < truth[j] * (1 - 1e-9))) continue;
      pairs++;
      if (estimate[i] < estimate[j]) kept++;
    }
  }
  return pairs ? kept / pairs : NaN;
}
