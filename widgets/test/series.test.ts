import assert from "node:assert/strict";
import { test } from "node:test";
import { nearestEdge, quantile, running, summarize, ticks, type Blocks } from "../src/charts/series";
import { line, scale } from "../src/base/svg";

function normal(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => ((state = (state * 1664525 + 1013904223) >>> 0) + 0.5) / 2 ** 32;
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function blocks(values: number[][], width: number): Blocks {
  const steps = values[0].length;
  const edges = [];
  for (let at = 0; at < steps; at += width) edges.push(at);
  edges.push(steps);
  const mean: number[] = [];
  const count: number[] = [];
  for (const chain of values) {
    for (let k = 0; k + 1 < edges.length; k++) {
      const part = chain.slice(edges[k], edges[k + 1]).filter(Number.isFinite);
      mean.push(part.length ? part.reduce((a, b) => a + b, 0) / part.length : NaN);
      count.push(part.length);
    }
  }
  return { edges, mean, low: mean, high: mean, count, chains: values.length };
}

test("a mean from any edge is exact, whatever the block size", () => {
  const draw = normal(1);
  const values = [0, 1].map((c) => Array.from({ length: 103 }, () => c + draw()));
  const nbeta = [10, 20];
  for (const width of [1, 7]) {
    const found = summarize(blocks(values, width), nbeta, [true, true], 14 / width);
    const cut = values.map((v, c) => v.slice(14).map((x) => x * nbeta[c]));
    const mean = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length;
    assert.ok(Math.abs(found.mean - mean(cut.flat())) < 1e-9);
    assert.ok(Math.abs(found.each[1] - mean(cut[1])) < 1e-9);
    assert.equal(found.steps, 178);
  }
});

test("a chain that is switched off or has ended does not enter", () => {
  const b = blocks([[1, 1, 1, NaN], [5, 5, 5, 5]], 1);
  assert.equal(summarize(b, [1, 1], [true, false], 0).mean, 1);
  assert.equal(summarize(b, [1, 1], [true, true], 0).mean, 23 / 7);
  assert.deepEqual(running(b, [1, 1], [true, false], 0).map((r) => r.steps), [1, 2, 3, 3]);
});

test("the standard error of independent steps is sd / sqrt(n), of correlated ones larger", () => {
  const draw = normal(7);
  const n = 10000;
  const flat = Array.from({ length: n }, draw);
  const found = summarize(blocks([flat], 1), [1], [true], 0).mcse;
  // 100 batches: the relative error of their spread is 1/sqrt(200) = 7 %; four of those.
  assert.ok(Math.abs(found * Math.sqrt(n) - 1) < 0.28, String(found));
  const sticky = flat.map(() => 0);
  for (let i = 1; i < n; i++) sticky[i] = 0.8 * sticky[i - 1] + 0.6 * flat[i];
  // AR(1): tau = (1 + .8) / (1 - .8) = 9, hence three times the error.
  const more = summarize(blocks([sticky], 1), [1], [true], 0).mcse;
  assert.ok(Math.abs((more * Math.sqrt(n)) / 3 - 1) < 0.4, String(more));
});

test("the running mean ends at the mean", () => {
  const b = blocks([[4, 2, 6, 8]], 1);
  assert.deepEqual(running(b, [2], [true], 1).map((r) => r.mean), [4, 8, 32 / 3]);
});

test("edges, quantiles, ticks, scales, paths", () => {
  const b = blocks([Array(100).fill(0)], 10);
  assert.deepEqual([0, 14, 16, 99, 1000].map((x) => nearestEdge(b, x)), [0, 1, 2, 10, 10]);
  assert.equal(quantile([3, NaN, 1, 2], 0.5), 2);
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(2, 2), [2]);
  const x = scale([0, 10], [100, 200]);
  assert.equal(x.invert(x(3)), 3);
  assert.equal(line([[0, 1], [1, NaN], [2, 3], [3, 4]]), "M0.0 1.0M2.0 3.0L3.0 4.0");
});
