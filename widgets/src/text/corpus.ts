// The tokens of a view: flat arrays in reading order, and the ids by which views are linked.
import type { Place } from "../base/focus";

export interface CorpusData {
  examples: string[];
  labels: (string | null)[];
  first: (string | null)[];
  start: Int32Array; // [examples + 1]: where each example begins in the flat arrays
  token: Int32Array; // [tokens]: index of the predicted token in its example
  text: string[];
  id: Int32Array | null;
}

/** What whitespace and odd characters look like: `glyph` is drawn, the text itself stays true. */
export interface Look {
  kind: string; // class names
  glyph: string;
}

const SPECIAL = /^(<\|.*\|>|<\/?s>|<(bos|eos|pad|unk|mask)>|\[(CLS|SEP|PAD|MASK|UNK)\])$/;
const BYTE = /^<0x[0-9A-Fa-f]{2}>$|\ufffd/;
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;

export function look(text: string): Look {
  if (SPECIAL.test(text)) return { kind: "t chip", glyph: "" };
  if (BYTE.test(text)) return { kind: "t chip", glyph: "" };
  if (CONTROL.test(text)) return { kind: "t chip iso", glyph: "\u25cc" };
  if (text.includes("\n") || text.includes("\r")) {
    return { kind: "t nl", glyph: text.replace(/\r?\n|\r/g, "\u23ce").replace(/[^\u23ce]/g, "") };
  }
  const lead = text.match(/^[ \t\u00a0]+/)?.[0] ?? "";
  if (!lead) return { kind: text === "" ? "t chip" : "t", glyph: text === "" ? "\u2205" : "" };
  return { kind: "t sp", glyph: lead.replaceAll("\t", "\u21e5").replace(/[ \u00a0]/g, "\u00b7") };
}

/** A token's text for a table or a tooltip, where whitespace must be seen. */
export const visible = (text: string): string =>
  text === ""
    ? "\u2205"
    : text
        .replaceAll("\n", "\u23ce")
        .replaceAll("\r", "\u240d")
        .replaceAll("\t", "\u21e5")
        .replaceAll(" ", "\u2423")
        .replace(new RegExp(CONTROL, "g"), (c) => `U+${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

export class Corpus {
  readonly examples: string[];
  readonly labels: (string | null)[];
  readonly first: (string | null)[];
  readonly start: Int32Array;
  readonly token: Int32Array;
  readonly text: string[];
  readonly id: Int32Array | null;
  readonly count: number;
  readonly #byId: Map<string, number>;

  constructor(data: CorpusData) {
    this.examples = data.examples;
    this.labels = data.labels;
    this.first = data.first;
    this.start = data.start;
    this.token = data.token;
    this.text = data.text;
    this.id = data.id?.length ? data.id : null;
    this.count = data.text.length;
    this.#byId = new Map(data.examples.map((name, e) => [name, e]));
  }

  /** The row of the example that holds flat token k. */
  exampleOf(k: number): number {
    let low = 0;
    let high = this.examples.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.start[middle] <= k) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  exampleIndex(name: string): number {
    return this.#byId.get(name) ?? -1;
  }

  /** The flat index of a place, or -1 where this view does not show it. */
  find(place: Place | null): number {
    const e = place ? this.exampleIndex(place.example) : -1;
    if (e < 0 || !place) return -1;
    let low = this.start[e];
    let high = this.start[e + 1] - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const token = this.token[middle];
      if (token === place.token) return middle;
      if (token < place.token) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** A range of one example as flat tokens [from, to); [-1, -1] where it is not on show. */
  span(range: { example: string; tokens: [number, number] } | null): [number, number] {
    if (!range) return [-1, -1];
    const { example, tokens } = range;
    const from = this.find({ example, token: tokens[0] });
    const last = this.find({ example, token: tokens[1] - 1 });
    return from >= 0 && last >= from ? [from, last + 1] : [-1, -1];
  }

  place(k: number): Place {
    return { example: this.examples[this.exampleOf(k)], token: this.token[k] };
  }

  /** "train/0 · token 17" */
  where(k: number): string {
    return `${this.examples[this.exampleOf(k)]} \u00b7 ${this.token[k]}`;
  }

  /** The text around token k, from its own example. */
  context(k: number, before: number, after: number): [string, string, string] {
    const e = this.exampleOf(k);
    const from = Math.max(this.start[e], k - before);
    const to = Math.min(this.start[e + 1], k + 1 + after);
    const head = (from > this.start[e] ? "\u2026" : (this.first[e] ?? "")) + this.text.slice(from, k).join("");
    const tail = this.text.slice(k + 1, to).join("") + (to < this.start[e + 1] ? "\u2026" : "");
    return [head, this.text[k], tail];
  }
}
