import assert from "node:assert/strict";
import { test } from "node:test";
import { anchor, compose, pointsAt, reply, tagsOf, textOf, union, withStatus } from "../src/notes/annotation";
import { Corpus } from "../src/text/corpus";

function corpus(rows: string[][], names = rows.map((_, i) => `t/${i}`), first: (string | null)[] = rows.map(() => null)): Corpus {
  const start = [0];
  for (const row of rows) start.push(start.at(-1)! + row.length);
  return new Corpus({
    examples: names,
    labels: rows.map(() => null),
    first,
    start: Int32Array.from(start),
    token: Int32Array.from(rows.flatMap((row) => row.map((_, i) => i + 1))),
    text: rows.flat(),
    id: null,
  });
}

const base = corpus([["The", " cat", " sat", " on", " the", " mat", "."], [" the", " dog", " the", " dog"]]);
const on = (from: number, to: number, where = base) => compose(where, from, to, "slt:run/x", "look", "Ada", ["t"]);

test("a note stands where it was written", () => {
  assert.deepEqual(anchor(on(1, 3), base), { from: 1, to: 3, how: "dims" });
});

test("it is found again after another tokenization", () => {
  const other = corpus([["Th", "e ", "ca", "t sat", " o", "n the", " mat."], [" the dog", " the dog"]]);
  assert.deepEqual(anchor(on(1, 3), other), { from: 1, to: 4, how: "quote" });
});

test("it is found in an example of another name, also where the first token is not predicted", () => {
  const moved = corpus([["x"], [": ", "The", " cat", " sat", " on", " the"]], ["a", "b"], [null, "Yes"]);
  assert.deepEqual(anchor(on(1, 3), moved), { from: 3, to: 5, how: "quote" });
});

test("of two like places the one with its surroundings is taken", () => {
  const shifted = corpus([["a", " the", " dog", " the", " dog"]]);
  assert.deepEqual(anchor(on(10, 11), shifted), { from: 4, to: 5, how: "quote" });
});

test("a short word elsewhere is an orphan", () => {
  assert.equal(anchor(on(4, 5), corpus([["Under", " the", " bridge"]])), null);
});

test("the annotation is that of the recommendation, and the same as in Python", () => {
  const note = on(1, 3);
  assert.equal(note["@context"], "http://www.w3.org/ns/anno.jsonld");
  assert.match(note.id, /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(note.target.selector, [
    { type: "TextQuoteSelector", exact: " cat sat", prefix: "The", suffix: " on the mat." },
    { type: "slt:DimsSelector", dims: { example: "t/0", token: [2, 4] } },
  ]);
  assert.deepEqual([textOf(note), tagsOf(note), pointsAt(note)], ["look", ["t"], "t/0 \u00b7 2\u20133"]);
  assert.equal(reply(note, "yes", "").target, note.id);
});

test("union: newest version, every order, tombstones stay", () => {
  const note = on(1, 3);
  const gone = withStatus(note, "deleted");
  assert.ok(gone.modified > note.modified);
  for (const lists of [[[note], [gone]], [[gone], [note]]]) {
    assert.deepEqual(union(...lists), [gone]);
  }
});
