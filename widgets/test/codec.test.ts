import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateSync } from "node:zlib";
import { bytesOf, unpack } from "../src/base/codec";
import type { PayloadMeta } from "../src/base/codec";

const words = ["é", "<b>", "\ud800"];
const json = new TextEncoder().encode('["\\u00e9","<b>","\\ud800"]');
const raw = new Uint8Array(8 + 16 + json.length);
raw.set(new Uint8Array(Int8Array.from([-1, 2, 127]).buffer), 0);
raw.set(new Uint8Array(Float32Array.from([0.5, -2, NaN]).buffer), 8);
raw.set(json, 24);
const meta: PayloadMeta = {
  codec: "zlib",
  size: raw.length,
  arrays: {
    q: { dtype: "i1", shape: [3], offset: 0, bytes: 3 },
    x: { dtype: "f4", shape: [3], offset: 8, bytes: 12 },
    text: { dtype: "json", shape: [], offset: 24, bytes: json.length },
  },
};
const packed = deflateSync(raw);

test("arrays come back whatever the host hands over, aligned or not", async () => {
  const shifted = new Uint8Array(packed.length + 3);
  shifted.set(packed, 3);
  const view = new DataView(shifted.buffer, 3, packed.length);
  for (const value of [packed, view, shifted.slice(3).buffer]) {
    const found = await unpack(meta, value);
    assert.deepEqual([...found.q], [-1, 2, 127]);
    assert.deepEqual([...found.x], [0.5, -2, NaN]);
    assert.deepEqual(found.text, words);
  }
});

test("a payload of another size is refused", async () => {
  await assert.rejects(unpack({ ...meta, size: 7 }, packed), /bytes where 7 were announced/);
});

test("no bytes are no bytes", () => {
  assert.equal(bytesOf(null).length, 0);
});
