// The numbers behind the traces: a table, and rows of a file.
import { h, show } from "../base/dom";
import { blockCount } from "./series";
import type { Blocks } from "./series";

export interface Chain {
  label: string;
  nbeta: number;
  excluded: string;
}

export function chainTable({ chains }: { chains: Chain[] }, llc: number[], used: boolean[]): HTMLElement {
  const cells = (...values: string[]) => values.map((value, i) => h(i ? "td" : "th", i ? { class: "num" } : { scope: "row" }, value));
  const rows = chains.map((chain, k) =>
    h("tr", {}, ...cells(chain.label, show(llc[k]), show(chain.nbeta), chain.excluded || (used[k] ? "used" : "switched off"))),
  );
  const head = ["chain", "LLC after burn-in", "n\u03b2", "status"].map((text) => h("th", { scope: "col" }, text));
  return h("table", {}, h("caption", {}, "Each chain"), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows));
}

export function blockRows(blocks: Blocks, chains: Chain[]): (string | number)[][] {
  const size = blockCount(blocks);
  const rows: (string | number)[][] = [["chain", "first_step", "past_last_step", "mean", "least", "greatest"]];
  chains.forEach((chain, c) => {
    for (let k = 0; k < size; k++) {
      const at = c * size + k;
      if (blocks.count[at]) rows.push([chain.label, blocks.edges[k], blocks.edges[k + 1], blocks.mean[at], blocks.low[at], blocks.high[at]]);
    }
  });
  return rows;
}
