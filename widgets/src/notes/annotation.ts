// Notes and where they are anchored: W3C Web Annotations (the same JSON as
// slt_notebook/views/notes/annotation.py) anchored to tokens twice: by dims (exact) and by quote (survives
// another tokenization).  Pure functions, no page.
import type { Corpus } from "../text/corpus";

export interface Note {
  "@context"?: string;
  id: string;
  type: "Annotation";
  motivation: string;
  creator?: { type: string; name: string };
  created: string;
  modified: string;
  body: { type: string; value: string; format?: string; purpose: string }[];
  target: any;
  "slt:status": "open" | "resolved" | "deleted";
}

export interface Anchor {
  from: number; // flat tokens [from, to)
  to: number;
  how: "dims" | "quote";
}

export const CONTEXT = 48; // characters of prefix and suffix

export const textOf = (note: Note): string =>
  note.body?.find((b) => b.purpose !== "tagging")?.value ?? "";
export const tagsOf = (note: Note): string[] =>
  (note.body ?? []).filter((b) => b.purpose === "tagging").map((b) => b.value);
export const parentOf = (note: Note): string | null =>
  note.motivation === "replying" && typeof note.target === "string" ? note.target : null;
export const selectorOf = (note: Note, type: string): any =>
  (note.target?.selector ?? []).find?.((s: any) => s.type === type) ?? null;

/** Every note once: of two versions the one modified last; deleted ones stay as tombstones. */
export function union(...lists: Note[][]): Note[] {
  const byId = new Map<string, Note>();
  for (const note of lists.flat()) {
    const old = byId.get(note.id);
    if (!old || old.modified < note.modified) byId.set(note.id, note);
  }
  return [...byId.values()].sort((a, b) => (a.created < b.created ? -1 : a.created > b.created ? 1 : 0));
}

/** Length of the text that `a` and `b` share at their ends (suffix) or starts. */
function shared(a: string, b: string, atEnd: boolean): number {
  const limit = Math.min(a.length, b.length);
  let n = 0;
  while (n < limit && (atEnd ? a[a.length - 1 - n] === b[b.length - 1 - n] : a[n] === b[n])) n++;
  return n;
}

/** Where a note stands in `corpus`: by its dims if the quote is still there, else where the quote
 *  is found with its surroundings, else null (an orphan: listed, never dropped). */
export function anchor(note: Note, corpus: Corpus): Anchor | null {
  const dims = selectorOf(note, "slt:DimsSelector")?.dims;
  const quote = selectorOf(note, "TextQuoteSelector");
  const span = dims?.token;
  if (!Array.isArray(span)) return null;
  const from = corpus.find({ example: dims.example, token: span[0] });
  const last = corpus.find({ example: dims.example, token: span[1] - 1 });
  if (from >= 0 && last >= from) {
    if (!quote || corpus.text.slice(from, last + 1).join("") === quote.exact) {
      return { from, to: last + 1, how: "dims" };
    }
  }
  if (!quote?.exact) return null;
  const wanted = quote.prefix.length + quote.suffix.length;
  let best: Anchor | null = null;
  let bestScore = -1;
  let found = 0;
  for (let e = 0; e < corpus.examples.length; e++) {
    const head = corpus.first[e] ?? "";
    const parts = corpus.text.slice(corpus.start[e], corpus.start[e + 1]);
    const text = head + parts.join("");
    const ends: number[] = [];
    let length = head.length;
    for (const part of parts) ends.push((length += part.length));
    for (let at = text.indexOf(quote.exact); at >= 0; at = text.indexOf(quote.exact, at + 1)) {
      found++;
      const before = shared(text.slice(0, at), quote.prefix, true);
      const after = shared(text.slice(at + quote.exact.length), quote.suffix, false);
      const own = corpus.examples[e] === dims.example ? 0.5 : 0;
      if (before + after + own <= bestScore) continue;
      const stop = at + quote.exact.length;
      const a = ends.findIndex((end) => end > at);
      const b = ends.findIndex((end) => end >= stop);
      if (a < 0 || b < 0 || stop <= head.length) continue;
      bestScore = before + after + own;
      best = { from: corpus.start[e] + a, to: corpus.start[e] + b + 1, how: "quote" };
    }
  }
  const sure = bestScore >= wanted / 2 || (found === 1 && quote.exact.trim().length >= 8);
  return best && sure ? best : null;
}

/** crypto.randomUUID exists in secure contexts only. */
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 15) | 64;
  b[8] = (b[8] & 63) | 128;
  const s = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  return `urn:uuid:${s.slice(0, 8)}-${s.slice(8, 12)}-${s.slice(12, 16)}-${s.slice(16, 20)}-${s.slice(20)}`;
}

const blank = (text: string, author: string, tags: string[], motivation: string, target: unknown): Note => {
  const now = new Date().toISOString();
  const note: Note = {
    "@context": "http://www.w3.org/ns/anno.jsonld",
    id: uuid(),
    type: "Annotation",
    motivation,
    created: now,
    modified: now,
    body: [
      { type: "TextualBody", value: text, format: "text/plain", purpose: motivation },
      ...tags.map((value) => ({ type: "TextualBody", value, purpose: "tagging" })),
    ],
    target,
    "slt:status": "open",
  };
  if (author) note.creator = { type: "Person", name: author };
  return note;
};

/** A note on the flat tokens [from, to) of one example. */
export function compose(
  corpus: Corpus,
  from: number,
  to: number,
  source: string,
  text: string,
  author: string,
  tags: string[],
): Note {
  const e = corpus.exampleOf(from);
  const before = (corpus.first[e] ?? "") + corpus.text.slice(corpus.start[e], from).join("");
  const after = corpus.text.slice(to, corpus.start[e + 1]).join("");
  return blank(text, author, tags, "commenting", {
    source,
    selector: [
      {
        type: "TextQuoteSelector",
        exact: corpus.text.slice(from, to).join(""),
        prefix: before.slice(-CONTEXT),
        suffix: after.slice(0, CONTEXT),
      },
      {
        type: "slt:DimsSelector",
        dims: { example: corpus.examples[e], token: [corpus.token[from], corpus.token[to - 1] + 1] },
      },
    ],
  });
}

export const reply = (parent: Note, text: string, author: string): Note =>
  blank(text, author, [], "replying", parent.id);

export const withStatus = (note: Note, status: Note["slt:status"]): Note => {
  const now = new Date().toISOString();
  // Later than what it replaces even where two clocks, or one coarse clock, say otherwise.
  const modified = now > note.modified ? now : new Date(Date.parse(note.modified) + 1).toISOString();
  return { ...note, modified, "slt:status": status };
};

/** Where a note points, in words, without a corpus. */
export function pointsAt(note: Note): string {
  const dims = selectorOf(note, "slt:DimsSelector")?.dims ?? {};
  if (dims.component !== undefined) return `component ${dims.component}`;
  if (!dims.token) return "the whole run";
  const [a, b] = dims.token;
  return `${dims.example} \u00b7 ${b - a > 1 ? `${a}\u2013${b - 1}` : a}`;
}
