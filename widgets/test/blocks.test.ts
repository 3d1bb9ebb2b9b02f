import assert from "node:assert/strict";
import { test } from "node:test";
import { Blocks, segments } from "../src/maps/blocks";
import type { TreeNode } from "../src/maps/blocks";

const [n, draws] = [12, 40];
let seed = 7;
const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647 - 0.5;
const q = new Int8Array(n * draws);
for (let i = 0; i < n; i++) {
  const row = Float64Array.from({ length: draws }, random);
  for (const [a, b] of [[0, 20], [20, 40]]) {
    const mean = row.subarray(a, b).reduce((x, y) => x + y) / 20;
    for (let m = a; m < b; m++) row[m] -= mean;
  }
  const peak = Math.max(...row.map(Math.abs));
  row.forEach((v, m) => (q[i * draws + m] = Math.round((127 * v) / peak)));
}
q.fill(0, 5 * draws, 6 * draws); // a loss that does not vary
const sd = Float32Array.from({ length: n }, (_, i) => (i === 5 ? 0 : 0.1 + i));
const batches = new Int32Array([0, 10, 20, 30, 40]);
const blocks = new Blocks({ q, draws, batches, sd });

function entry(i: number, j: number, covariance: boolean): number {
  let [dot, a, b] = [0, 0, 0];
  for (let m = 0; m < draws; m++) {
    const [x, y] = [q[i * draws + m], q[j * draws + m]];
    dot += x * y;
    a += x * x;
    b += y * y;
  }
  return (dot / Math.sqrt(a * b)) * (covariance ? sd[i] * sd[j] : 1);
}

const seg = (from: number, to: number) => ({ from, to, name: "" });

for (const covariance of [false, true]) {
  test(`means over blocks are means over pairs (covariance ${covariance})`, () => {
    for (const [a, b] of [[seg(0, 4), seg(4, 12)], [seg(0, 6), seg(0, 6)], [seg(1, 7), seg(3, 9)], [seg(2, 3), seg(8, 9)]]) {
      let [sum, count] = [0, 0];
      for (let i = a.from; i < a.to; i++) {
        for (let j = b.from; j < b.to; j++) {
          if (i === j || i === 5 || j === 5) continue;
          sum += entry(i, j, covariance);
          count++;
        }
      }
      const got = blocks.cell(a, b, covariance);
      assert.equal(got.pairs, count);
      assert.ok(Math.abs(got.value - sum / count) < 1e-5 * (1 + Math.abs(sum / count)));
      const [whole] = blocks.matrix([a], [b], covariance);
      assert.ok(Math.abs(whole - got.value) < 1e-5 * (1 + Math.abs(got.value)));
      assert.ok(got.error > 0);
    }
  });
}

test("an example with itself, and one that does not vary", () => {
  assert.ok(Math.abs(blocks.matrix([seg(3, 4)], [seg(3, 4)], false)[0] - 1) < 1e-5);
  assert.ok(Number.isNaN(blocks.matrix([seg(5, 6)], [seg(1, 2)], false)[0]));
});

test("closed nodes are one row; long lists are cut into pieces", () => {
  const nodes: TreeNode[] = [
    { name: "a", from: 0, to: 5, depth: 0, children: [] },
    { name: "b", from: 5, to: 12, depth: 0, children: [2, 3] },
    { name: "b1", from: 5, to: 6, depth: 1, children: [] },
    { name: "b2", from: 6, to: 12, depth: 1, children: [] },
  ];
  const name = String;
  const all = segments(nodes, [0, 1], new Set(), 0, 12, 100, name);
  assert.equal(all.length, 12);
  const some = segments(nodes, [0, 1], new Set([0, 3]), 0, 12, 100, name);
  assert.deepEqual(some.map((s) => [s.from, s.to]), [[0, 5], [5, 6], [6, 12]]);
  const cut = segments(nodes, [0, 1], new Set([0]), 0, 12, 4, name);
  assert.deepEqual(cut.map((s) => [s.from, s.to]), [[0, 5], [5, 7], [7, 9], [9, 11], [11, 12]]);
  assert.deepEqual(segments(nodes, [0, 1], new Set([1]), 6, 8, 9, name), [{ from: 6, to: 8, name: "b" }]);
});
