import assert from "node:assert/strict";
import { test } from "node:test";
import { enriched, Finder, fit, inside, toX, toY, zoom } from "../src/maps/points";

const cloud = { x: new Float32Array([0, 1, 2, NaN, 10]), y: new Float32Array([0, 1, 0, 3, 10]) };
const box = { width: 400, height: 200 };

test("everything finite is inside the box, at one scale", () => {
  const c = fit(cloud, box);
  for (const i of [0, 1, 2, 4]) {
    const [x, y] = [toX(c, cloud.x[i]), toY(c, cloud.y[i])];
    assert.ok(x >= 17 && x <= 383 && y >= 17 && y <= 183, `${x} ${y}`);
  }
  assert.ok(toY(c, 10) < toY(c, 0), "y points up");
  const one = fit({ x: new Float32Array([3]), y: new Float32Array([4]) }, box);
  assert.ok(Math.abs(toX(one, 3) - 200) < 1 && Math.abs(toY(one, 4) - 100) < 1);
});

test("zooming keeps the pixel under the pointer", () => {
  const c = fit(cloud, box);
  const z = zoom(c, 3, 120, 60);
  assert.ok(Math.abs(toX(z, (120 - c.dx) / c.k) - 120) < 1e-6);
  assert.ok(Math.abs(z.k - 3 * c.k) < 1e-9);
});

test("the nearest point is found as by looking at all", () => {
  const n = 500;
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const many = { x: Float32Array.from({ length: n }, random), y: Float32Array.from({ length: n }, random) };
  const camera = fit(many, box);
  const finder = new Finder(many, camera);
  for (let t = 0; t < 200; t++) {
    const [px, py] = [random() * 400, random() * 200];
    let [best, least] = [-1, 15 * 15];
    for (let k = 0; k < n; k++) {
      const [x, y] = finder.at(k);
      const d = (x - px) ** 2 + (y - py) ** 2;
      if (d <= least) [best, least] = [k, d];
    }
    const got = finder.nearest(px, py, 15);
    if (best < 0) assert.equal(got, -1);
    else {
      const [x, y] = finder.at(got);
      assert.ok(Math.abs((x - px) ** 2 + (y - py) ** 2 - least) < 1e-3);
    }
  }
});

test("arrow keys step to the next point that way, and stay where there is none", () => {
  const finder = new Finder(cloud, fit(cloud, box));
  assert.equal(finder.step(0, 1, 0), 2);
  assert.equal(finder.step(2, -1, 0), 0);
  assert.equal(finder.step(4, 1, 0), 4);
});

test("a lasso takes what lies inside it", () => {
  const finder = new Finder(cloud, { k: 10, dx: 0, dy: 100 });
  const square = [-5, 85, 25, 85, 25, 105, -5, 105];
  assert.deepEqual(inside(finder, 5, square, () => true), [0, 1, 2]);
  assert.deepEqual(inside(finder, 5, square, (k) => k !== 1), [0, 2]);
});

test("categories of a selection against all", () => {
  const found = enriched([0, 0, 1, 1, 1, -1], [0, 1, 2], 2);
  assert.deepEqual(found.map((row) => [row.code, row.count, row.of]), [[0, 2, 2], [1, 1, 3]]);
  assert.ok(Math.abs(found[0].times - 2 / 3 / (2 / 5)) < 1e-9);
});
