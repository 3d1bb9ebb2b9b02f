import assert from "node:assert/strict";
import { test } from "node:test";
import { STEPS, contrast, diverging, hex, ink, oklch, paletteCss, robustLimit, roundUp, sequential, stepClass } from "../src/base/color";

test("text reads on every step of every scale in both themes", () => {
  for (const dark of [false, true]) {
    for (let i = -STEPS; i <= STEPS; i++) {
      for (const back of [diverging(i / STEPS, dark), sequential(Math.abs(i) / STEPS, dark)]) {
        assert.ok(contrast(ink(back, dark), back) >= 4.5, `${hex(back)} dark=${dark}`);
      }
    }
  }
});

test("a scale moves one way in lightness, and its two arms differ in hue", () => {
  for (const dark of [false, true]) {
    let last = dark ? -1 : 256 * 3;
    for (let i = 1; i <= STEPS; i++) {
      const sum = diverging(i / STEPS, dark).reduce((a, b) => a + b);
      assert.ok(dark ? sum > last : sum < last);
      last = sum;
    }
    const [blue, orange] = [diverging(-1, dark), diverging(1, dark)];
    assert.ok(blue[2] > blue[0] + 60 && orange[0] > orange[2] + 60);
  }
});

test("OKLCH agrees with known colours", () => {
  assert.deepEqual(oklch(1, 0, 0), [255, 255, 255]);
  assert.deepEqual(oklch(0, 0, 0), [0, 0, 0]);
  const red = oklch(0.62796, 0.25768, 29.234); // sRGB red
  assert.ok(Math.abs(red[0] - 255) <= 1 && red[1] <= 3 && red[2] <= 3, String(red));
});

test("contrast is that of WCAG", () => {
  assert.equal(contrast([0, 0, 0], [255, 255, 255]), 21);
  assert.ok(Math.abs(contrast([118, 118, 118], [255, 255, 255]) - 4.54) < 0.01);
});

test("steps are symmetric, end at the limit, and say what has no value", () => {
  assert.equal(stepClass(0, 1, "diverging"), "v0");
  assert.equal(stepClass(-1, 1, "diverging"), "vn20");
  assert.equal(stepClass(7, 1, "diverging"), "vp20");
  assert.equal(stepClass(0.5, 1, "diverging"), "vp10");
  assert.equal(stepClass(NaN, 1, "diverging"), "vx");
  assert.equal(stepClass(0.5, 1, "sequential"), "vs10");
  assert.equal(stepClass(0, 0, "diverging"), "v0");
});

test("the robust limit is the quantile of |finite values|, without the query", () => {
  const values = Float32Array.from({ length: 1000 }, (_, i) => (i % 2 ? i : -i));
  values[5] = NaN;
  assert.equal(robustLimit(values, 0.995), 995); // the 995th of 999 (5 is missing)
  assert.equal(robustLimit([1, 2, 100], 1, 2), 2);
  assert.equal(robustLimit([], 0.5), 0);
  assert.equal(robustLimit(new Float32Array(300_000).fill(2)), 2); // no stack overflow
});

test("limits are rounded up to what the legend shows", () => {
  for (const [x, y] of [[0.4234, 0.43], [0.4, 0.4], [99.1, 100], [1234, 1300], [1e-7, 1e-7], [0, 0]]) {
    assert.equal(roundUp(x), y);
  }
});

test("the stylesheet names every step in both themes", () => {
  const css = paletteCss();
  for (const name of ["vn1", "vn20", "vp1", "vp20", "vs1", "vs20"]) {
    assert.equal(css.split(`.${name}{`).length, 3);
  }
});
