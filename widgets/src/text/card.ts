// The lines of the tooltip of a token.
import type { Corpus } from "./corpus";
import { visible } from "./corpus";
import { h } from "../base/dom";
import type { Placed } from "../notes/notes";
import { sure, written } from "./panel";
import type { Source } from "./panel";

export function card(corpus: Corpus, source: Source, k: number, rank: number, more: Node[], threads: Placed[]): Node[] {
  const lines: Node[] = [];
  if (k !== source.skip) {
    const known = sure(source, k);
    lines.push(h("div.big", {}, `${written(source, k)} ${source.unit}`));
    if (source.scale === "diverging" && source.value[k]) {
      lines.push(h("div", {}, source.value[k] < 0 ? `\u25bc ${source.negative}` : `\u25b2 ${source.positive}`));
    }
    const sign = known === null ? "" : known ? "; significant at 95 %" : "; 95 % interval includes 0";
    lines.push(h("p.quiet", {}, `rank ${rank} of ${corpus.count}${sign}`));
  }
  const id = corpus.id ? ` \u00b7 id ${corpus.id[k]}` : "";
  lines.push(h("p", {}, h("span.tok", {}, visible(corpus.text[k])), h("span.quiet", {}, ` ${corpus.where(k)}${id}`)));
  lines.push(...more);
  for (const { anchor, text, number } of threads) {
    if (anchor && k >= anchor.from && k < anchor.to) lines.push(h("p.memo", {}, `${number}. ${text.slice(0, 200)}`));
  }
  return lines;
}
