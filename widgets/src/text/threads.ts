// The marks of notes in a strip.
import type { Placed } from "../notes/notes";
import type { Strip } from "./strip";

/** Mark the tokens that notes are about, and put the notes' numbers behind the last one of each. */
export function markThreads(strip: Strip, threads: Placed[]): void {
  const noted: number[] = [];
  const ends = new Map<number, string>();
  for (const { anchor, number } of threads) {
    if (!anchor) continue;
    for (let k = anchor.from; k < anchor.to; k++) noted.push(k);
    const last = anchor.to - 1;
    ends.set(last, ends.has(last) ? `${ends.get(last)},${number}` : `${number}`);
  }
  strip.setMark("noted", noted);
  strip.setMark("note", ends.keys(), (k) => ends.get(k)!);
}
