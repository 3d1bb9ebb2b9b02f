// Search for a text, also across the borders of tokens.
import type { Corpus } from "./corpus";

/** The tokens in which a hit begins, and all tokens that hits touch; case does not matter. */
export function hits(corpus: Corpus, text: string): { starts: number[]; touched: number[] } {
  const wanted = text.toLowerCase();
  const starts: number[] = [];
  const touched: number[] = [];
  for (let e = 0; wanted && e < corpus.examples.length; e++) {
    const from = corpus.start[e];
    // Lower-cased part by part, so that offsets still fit where lower-casing changes a length.
    const parts = corpus.text.slice(from, corpus.start[e + 1]).map((part) => part.toLowerCase());
    const all = parts.join("");
    let k = 0;
    let begin = 0;
    for (let at = all.indexOf(wanted); at >= 0; at = all.indexOf(wanted, at + wanted.length)) {
      while (begin + parts[k].length <= at) begin += parts[k++].length;
      starts.push(from + k);
      for (let j = k, b = begin; j < parts.length && b < at + wanted.length; b += parts[j++].length) {
        touched.push(from + j);
      }
    }
  }
  return { starts, touched };
}
