import assert from "node:assert/strict";
import { test } from "node:test";
import { certificate, learningCoefficient } from "../src/charts/dln";
import { orderPreservation, spread } from "../src/charts/order";

test("known coefficients", () => {
  assert.deepEqual(learningCoefficient([2, 2, 2], 1), { value: 2, multiplicity: 2, chosen: [0, 1, 2] });
  const xy = learningCoefficient([1, 1, 1], 0);
  assert.deepEqual([xy.value, xy.multiplicity], [0.5, 2]);
  assert.equal(certificate([4, 3, 5], [3, 3]).certified, true);
  assert.equal(certificate([49, 8, 25], [1, 8]).local, 204.5);
});

test("order and spread", () => {
  assert.equal(orderPreservation([1, 3, 2], [1, 2, 3]), 2 / 3);
  assert.ok(Number.isNaN(orderPreservation([1], [1])));
  assert.equal(orderPreservation([NaN, 2], [1, 2]), 0);
  assert.deepEqual(spread([4, 1, 2, 3]), { lower: 1.75, median: 2.5, upper: 3.25 });
  assert.equal(spread([1, Infinity, Infinity]).median, Infinity);
});
