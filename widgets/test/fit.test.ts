import assert from "node:assert/strict";
import { test } from "node:test";
import { critical, crossing, fitLine, interval, r2, ranks, spearman } from "../src/charts/fit";
import { logTicks } from "../src/charts/plane";
import { crossover, freeEnergy } from "../src/charts/selection";

test("a power law is crossed where it is", () => {
  const levels = [100, 50, 20, 10, 5];
  const gap = levels.map((v) => 7 / v ** 2);
  for (const tolerance of [0.005, 0.05, 0.2]) {
    const expected = Math.sqrt(7 / tolerance);
    assert.ok(Math.abs(crossing(levels, gap, tolerance, true) / expected - 1) < 1e-12);
    assert.ok(Math.abs(critical(levels, gap, tolerance, true, true) - Math.log2(expected)) < 1e-12);
  }
});

test("what never crosses, and the first crossing", () => {
  assert.equal(crossing([0, 0.5, 1], [0, 0, 0.01], 0.1, false), Infinity);
  assert.equal(crossing([0, 0.5, 1], [0.2, 0.3, 0.4], 0.1, false), -Infinity);
  assert.equal(critical([255, 15, 3], [0, 0.01, 0.02], 0.1, true, true), -Infinity);
  assert.ok(Math.abs(crossing([0, 0.25, 0.5, 0.75], [0, 0.2, 0.05, 0.3], 0.1, false) - 0.125) < 1e-12);
  assert.equal(crossing([0, 0.25, NaN], [0, 0.01, NaN], 0.1, false), Infinity);
});

test("lines and ranks", () => {
  const x = [1, 2, 3, 4, 5];
  const y = [2.1, 3.9, 6.2, 7.8, 10.1];
  const [slope, offset] = fitLine(x, y);
  assert.ok(Math.abs(slope - 1.99) < 1e-9 && Math.abs(offset - 0.05) < 1e-9);
  assert.ok(r2(x, y) > 0.997 && r2(x, y) < 1);
  assert.equal(spearman(x, y), 1);
  assert.deepEqual(ranks([3, 1, 3, 2]), [2.5, 0, 2.5, 1]);
  assert.ok(Number.isNaN(r2([1, 1, 1], [1, 2, 3])));
  const [low, high] = interval(x, y, r2);
  assert.ok(low > 0.9 && high <= 1 && low < high);
  assert.deepEqual(interval(x, y, r2), [low, high]);
});

test("log ticks are round", () => {
  assert.deepEqual(logTicks(0.9, 1100), [1, 10, 100, 1000]);
  assert.deepEqual(logTicks(1, 9), [1, 2, 5]);
});

test("the crossover of the free energies is that of Lambert's function", () => {
  const at = crossover([0.3, 0.5], [20, 2]);
  assert.ok(Math.abs(at - 571.3) < 0.05);
  assert.ok(Math.abs(freeEnergy(at, 0.3, 20) - freeEnergy(at, 0.5, 2)) < 1e-9 * at);
  assert.ok(Number.isNaN(crossover([0.3, 0.5], [2, 20])));
  assert.ok(Number.isNaN(crossover([0.3, 0.3], [2, 20])));
});
