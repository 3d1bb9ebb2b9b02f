import assert from "node:assert/strict";
import { test } from "node:test";
import { between, change, slopes } from "../src/charts/stages";

const all = { step: [1, 10, 100], value: [0, 5, 2, 7, 6, 3], error: [1, 0, 1, 0, 2, 0], curves: 2 };

test("values between checkpoints lie on a line in log time", () => {
  assert.deepEqual(between(all.step, 0.1), [[0, 1]]);
  assert.deepEqual(between(all.step, 500), [[2, 1]]);
  const [[a, p], [b, q]] = between(all.step, Math.sqrt(1000));
  assert.deepEqual([a, b], [1, 2]);
  assert.ok(Math.abs(p - 0.5) < 1e-12 && Math.abs(q - 0.5) < 1e-12);
});

test("a change counts the checkpoints that both ends share once", () => {
  assert.deepEqual(change(all, 0, 1, 100), { value: 6, error: Math.sqrt(5) });
  const half = change(all, 0, 10, Math.sqrt(1000)); // .5 v2 + .5 v1 - v1
  assert.ok(Math.abs(half.value - 2) < 1e-9);
  assert.ok(Math.abs(half.error - Math.sqrt(0.25 * 4 + 0.25)) < 1e-9);
  assert.equal(change(all, 1, 5, 5).error, 0);
});

test("slopes stand in the geometric middle", () => {
  const found = slopes(all, 0);
  assert.ok(Math.abs(found[0].at - Math.sqrt(10)) < 1e-9);
  assert.ok(Math.abs(found[0].value - 2 / Math.log(10)) < 1e-9);
  assert.ok(Math.abs(found[0].error - Math.SQRT2 / Math.log(10)) < 1e-9);
});
