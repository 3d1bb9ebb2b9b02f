// The covariance of one token's loss with every other's: any row of Z^T Z, computed in the page.
//
// Z[token, chain*draw] holds the losses over draws, centred per chain, in int8 (token-major,
// so that one token's draws lie together).  With q_i the row of token i, |q_i| its norm:
//   correlation   r_ij = q_i . q_j / (|q_i| |q_j|)            (the int8 scale cancels)
//   covariance    c_ij = r_ij sd_i sd_j                        (sd over draws, within chains)
//   influence     -c_ij, or normalised -r_ij: negative = helpful
// Standard errors by batch means: the draws are cut into G batches (never across chains), and with
// p_g the part of r_ij from batch g, a_g the share of |q|^2 in it, w_g the share of the draws,
//   e_g = p_g - r_ij (a_ig + a_jg) / 2    for the correlation (its influence function),
//   e_g = p_g - r_ij w_g                  for the covariance,   se^2 = G/(G-1) sum_g e_g^2.

export interface Draws {
  q: Int8Array; // [tokens * draws]
  draws: number; // chain*draw
  batches: Int32Array; // [G + 1]
  sd: Float32Array; // [tokens], in nats
}

export interface Row {
  value: Float32Array; // -r or -c
  error: Float32Array;
}

export class Rows {
  readonly tokens: number;
  readonly #norm: Float64Array;
  readonly #share: Float32Array; // [tokens * G]

  readonly #d: Draws;

  constructor(d: Draws) {
    this.#d = d;
    this.tokens = d.sd.length;
    const G = d.batches.length - 1;
    this.#norm = new Float64Array(this.tokens);
    this.#share = new Float32Array(this.tokens * G);
    for (let j = 0; j < this.tokens; j++) {
      let all = 0;
      for (let g = 0; g < G; g++) {
        let sum = 0;
        const end = j * d.draws + d.batches[g + 1];
        for (let m = j * d.draws + d.batches[g]; m < end; m++) sum += d.q[m] * d.q[m];
        this.#share[j * G + g] = sum;
        all += sum;
      }
      this.#norm[j] = Math.sqrt(all);
      for (let g = 0; g < G; g++) this.#share[j * G + g] /= all || 1;
    }
  }

  /** Tokens whose loss did not vary have no correlation. */
  varies(i: number): boolean {
    return this.#norm[i] > 0 && this.#d.sd[i] > 0;
  }

  /** Influence of every token on token i; NaN where a token's loss does not vary. */
  row(i: number, normalize: boolean): Row {
    const { q, draws, batches, sd } = this.#d;
    const G = batches.length - 1;
    const value = new Float32Array(this.tokens).fill(NaN);
    const error = new Float32Array(this.tokens).fill(NaN);
    if (!this.varies(i)) return { value, error };
    const mine = q.subarray(i * draws, (i + 1) * draws);
    const part = new Float64Array(G);
    for (let j = 0; j < this.tokens; j++) {
      if (!this.varies(j)) continue;
      const scale = 1 / (this.#norm[i] * this.#norm[j]);
      const base = j * draws;
      let r = 0;
      for (let g = 0; g < G; g++) {
        let sum = 0;
        const end = batches[g + 1];
        for (let m = batches[g]; m < end; m++) sum += mine[m] * q[base + m];
        part[g] = sum * scale;
        r += part[g];
      }
      let square = 0;
      for (let g = 0; g < G; g++) {
        const expected = normalize
          ? (r * (this.#share[i * G + g] + this.#share[j * G + g])) / 2
          : (r * (batches[g + 1] - batches[g])) / draws;
        square += (part[g] - expected) ** 2;
      }
      const unit = normalize ? 1 : sd[i] * sd[j];
      value[j] = -r * unit;
      error[j] = G > 1 ? Math.sqrt((square * G) / (G - 1)) * unit : NaN;
    }
    return { value, error };
  }
}

/** The `count` smallest (most helpful) or largest (most harmful) of `values`, best first. */
export function extremes(values: Float32Array, count: number, smallest: boolean, keep: (k: number) => boolean): number[] {
  const sign = smallest ? 1 : -1;
  const best: number[] = [];
  for (let k = 0; k < values.length; k++) {
    const v = values[k] * sign;
    if (!(v < 0) || !keep(k)) continue;
    if (best.length === count && v >= values[best[count - 1]] * sign) continue;
    let at = best.length;
    while (at > 0 && values[best[at - 1]] * sign > v) at--;
    best.splice(at, 0, k);
    if (best.length > count) best.pop();
  }
  return best;
}
