// The branches beside the rows: a button each, which closes or opens it.
import { fill, h } from "../../base/dom";
import type { Kernel, Sight } from "./data";

const LEAST = 9; // pixels below which a branch has no button

export function drawBranches(into: HTMLElement, height: number, kernel: Kernel, { range, rows }: Sight, shut: Set<number>, set: (closed: number[]) => void): void {
  const [r0, r1] = range;
  const { nodes } = kernel;
  into.style.setProperty("--size", `${height}px`);
  const rowOf = new Map<number, number>();
  rows.forEach((s, i) => { for (let k = s.from; k < s.to; k++) rowOf.set(k, i); });
  const made: Node[] = [];
  const ch = height / rows.length;
  const deepest = Math.max(0, ...nodes.map((node) => node.depth));
  const visit = (k: number) => {
    const node = nodes[k];
    const [a, b] = [Math.max(r0, node.from), Math.min(r1, node.to)];
    if (a >= b) return;
    const [top, bottom] = [(rowOf.get(a) ?? 0) * ch, ((rowOf.get(b - 1) ?? 0) + 1) * ch];
    const open = !shut.has(k);
    const leaf = !node.children.length || !open;
    if (bottom - top >= LEAST) {
      const button = h(
        "button",
        { "aria-expanded": String(open), title: `${node.name}: ${node.to - node.from} examples`, onclick: () => set(open ? [...shut, k] : [...shut].filter((one) => one !== k)) },
        `${open ? "\u25be" : "\u25b8"} ${node.name}`,
      );
      button.style.top = `${top}px`;
      button.style.height = `${bottom - top - 1}px`;
      button.style.insetInlineStart = `${(100 * node.depth) / (deepest + 1)}%`;
      if (!leaf) button.style.insetInlineEnd = `${100 - (100 * (node.depth + 1)) / (deepest + 1)}%`;
      made.push(button);
    }
    if (open) node.children.forEach(visit);
  };
  kernel.roots.forEach(visit);
  fill(into, ...made);
}

/** A button for every depth, which leaves one row for each of its branches. */
export function levelButtons({ nodes }: Kernel, set: (closed: number[]) => void): HTMLElement[] {
  const depth = Math.max(0, ...nodes.map((node) => node.depth));
  const at = (d: number) => nodes.map((_, k) => k).filter((k) => nodes[k].depth === d && nodes[k].to - nodes[k].from > 1);
  return Array.from({ length: depth + 1 }, (_, d) => h("button", { title: `one row for every branch at depth ${d + 1}`, onclick: () => set(at(d)) }, `level ${d + 1}`));
}
