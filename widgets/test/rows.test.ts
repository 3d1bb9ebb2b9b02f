import assert from "node:assert/strict";
import { test } from "node:test";
import { Rows, extremes } from "../src/text/rows";

// A small linear congruential generator, so that a failure can be run again.
function random(seed: number): () => number {
  return () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32 - 0.5;
}

function made(tokens: number, draws: number, groups: number, seed = 1) {
  const next = random(seed);
  const q = Int8Array.from({ length: tokens * draws }, () => Math.round(250 * next()));
  q.fill(0, 2 * draws, 3 * draws); // token 2 does not vary
  const sd = Float32Array.from({ length: tokens }, () => 1 + next());
  sd[2] = 0;
  const batches = Int32Array.from({ length: groups + 1 }, (_, g) => Math.round((g * draws) / groups));
  return { q, draws, sd, batches };
}

function naive(d: ReturnType<typeof made>, i: number, j: number, normalize: boolean): [number, number] {
  const a = [...d.q.subarray(i * d.draws, (i + 1) * d.draws)];
  const b = [...d.q.subarray(j * d.draws, (j + 1) * d.draws)];
  const norm = (x: number[]) => Math.sqrt(x.reduce((s, v) => s + v * v, 0));
  const [na, nb] = [norm(a), norm(b)];
  const parts: number[] = [];
  const shares: number[] = [];
  const groups = d.batches.length - 1;
  for (let g = 0; g < groups; g++) {
    let p = 0;
    let share = 0;
    for (let m = d.batches[g]; m < d.batches[g + 1]; m++) {
      p += (a[m] * b[m]) / (na * nb);
      share += ((a[m] / na) ** 2 + (b[m] / nb) ** 2) / 2;
    }
    parts.push(p);
    shares.push(normalize ? share : (d.batches[g + 1] - d.batches[g]) / d.draws);
  }
  const r = parts.reduce((s, p) => s + p, 0);
  const square = parts.reduce((s, p, g) => s + (p - r * shares[g]) ** 2, 0);
  const unit = normalize ? 1 : d.sd[i] * d.sd[j];
  return [-r * unit, Math.sqrt((square * groups) / (groups - 1)) * unit];
}

test("a row equals the naive sum, errors included, in both measures", () => {
  for (const groups of [2, 3, 7]) {
    const d = made(20, 61, groups, groups);
    const rows = new Rows(d);
    for (const normalize of [true, false]) {
      for (const i of [0, 5, 19]) {
        const { value, error } = rows.row(i, normalize);
        for (let j = 0; j < 20; j++) {
          if (j === 2) {
            assert.ok(Number.isNaN(value[j]) && Number.isNaN(error[j]));
            continue;
          }
          const [v, e] = naive(d, i, j, normalize);
          assert.ok(Math.abs(value[j] - v) < 1e-5, `value ${value[j]} ${v}`);
          assert.ok(Math.abs(error[j] - e) < 1e-5, `error ${error[j]} ${e}`);
        }
      }
    }
  }
});

test("a token is perfectly helpful to itself, without error", () => {
  const { value, error } = new Rows(made(5, 40, 4)).row(3, true);
  assert.ok(Math.abs(value[3] + 1) < 1e-6 && error[3] < 1e-6);
});

test("a token that does not vary answers nothing", () => {
  const { value } = new Rows(made(5, 40, 4)).row(2, true);
  assert.ok([...value].every(Number.isNaN));
});

test("one batch knows no error", () => {
  const { value, error } = new Rows(made(4, 30, 1)).row(0, true);
  assert.ok(Number.isFinite(value[1]) && Number.isNaN(error[1]));
});

test("extremes are those of a sort", () => {
  const next = random(9);
  const values = Float32Array.from({ length: 500 }, next);
  values[7] = NaN;
  const keep = (k: number) => k % 3 !== 0;
  const all = [...values.keys()].filter((k) => keep(k) && Number.isFinite(values[k]));
  const low = all.filter((k) => values[k] < 0).sort((a, b) => values[a] - values[b]).slice(0, 8);
  const high = all.filter((k) => values[k] > 0).sort((a, b) => values[b] - values[a]).slice(0, 8);
  assert.deepEqual(extremes(values, 8, true, keep), low);
  assert.deepEqual(extremes(values, 8, false, keep), high);
  assert.deepEqual(extremes(Float32Array.from([1, 2]), 8, true, keep), []);
});
