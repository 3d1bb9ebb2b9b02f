import assert from "node:assert/strict";
import { test } from "node:test";
import { Corpus, look, visible } from "../src/text/corpus";
import { csv, show } from "../src/base/dom";
import { hits } from "../src/text/search";
import { cuts } from "../src/text/strip";

const corpus = new Corpus({
  examples: ["a/0", "a/1"],
  labels: [null, "x"],
  first: ["The", null],
  start: Int32Array.from([0, 3, 5]),
  token: Int32Array.from([1, 2, 4, 1, 2]),
  text: [" Cat", " s", "at", "b", "c"],
  id: null,
});

test("tokens are found by ids", () => {
  assert.equal(corpus.find({ example: "a/0", token: 4 }), 2);
  assert.equal(corpus.find({ example: "a/0", token: 3 }), -1);
  assert.equal(corpus.find({ example: "b", token: 1 }), -1);
  assert.equal(corpus.find(null), -1);
  for (let k = 0; k < corpus.count; k++) assert.equal(corpus.find(corpus.place(k)), k);
});

test("context stays inside its example", () => {
  assert.deepEqual(corpus.context(1, 5, 5), ["The Cat", " s", "at"]);
  assert.deepEqual(corpus.context(3, 5, 5), ["", "b", "c"]);
});

test("whitespace and odd characters get a glyph and keep their text", () => {
  assert.deepEqual(look(" cat"), { kind: "t sp", glyph: "\u00b7" });
  assert.deepEqual(look("  \t"), { kind: "t sp", glyph: "\u00b7\u00b7\u21e5" });
  assert.deepEqual(look("\n\n  "), { kind: "t nl", glyph: "\u23ce\u23ce" });
  assert.deepEqual(look("\r\n"), { kind: "t nl", glyph: "\u23ce" });
  assert.deepEqual(look("cat"), { kind: "t", glyph: "" });
  assert.equal(look("").glyph, "\u2205");
  for (const special of ["<|endoftext|>", "<s>", "[CLS]", "<0xE2>", "\ufffd"]) assert.match(look(special).kind, /chip/);
  assert.match(look("\u202eabc").kind, /iso/);
  assert.equal(look("<b>").kind, "t");
  assert.equal(visible(" a\n"), "\u2423a\u23ce");
  assert.equal(visible("\u202e"), "U+202e");
});

test("search crosses the borders of tokens and ignores case", () => {
  assert.deepEqual(hits(corpus, "CAT SAT"), { starts: [0], touched: [0, 1, 2] });
  assert.deepEqual(hits(corpus, "t"), { starts: [0, 2], touched: [0, 2] });
  assert.deepEqual(hits(corpus, ""), { starts: [], touched: [] });
  assert.deepEqual(hits(corpus, "atb"), { starts: [], touched: [] }); // not across examples
});

test("blocks are cut after a line break where there is one, and cover everything", () => {
  const text = Array.from({ length: 1000 }, (_, i) => (i % 60 === 59 ? "\n" : "x"));
  const ends = cuts(text, 0, 1000);
  assert.equal(ends[0], 0);
  assert.equal(ends.at(-1), 1000);
  for (let i = 1; i < ends.length - 1; i++) {
    assert.equal(text[ends[i] - 1], "\n");
    assert.ok(ends[i] - ends[i - 1] >= 200 && ends[i] - ends[i - 1] <= 325);
  }
  assert.deepEqual(cuts(["a"], 0, 1), [0, 1]);
});

test("CSV quotes what needs it", () => {
  assert.equal(csv([["a,b", 'c"d', "e\nf", " g", 1.5, NaN]]), '"a,b","c""d","e\nf", g,1.5,NaN\r\n');
});

test("numbers for people", () => {
  assert.deepEqual([show(-0.01234), show(0.5, true), show(0), show(NaN), show(1234567), show(0.00001234)],
    ["\u22120.0123", "+0.5", "0", "no value", "1.23e+6", "1.23e-5"]);
});
