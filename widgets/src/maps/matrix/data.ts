// What is in the kernel: its examples, their tree, and what any block of it is.
import { Blocks, segments } from "../blocks";
import type { Segment, TreeNode } from "../blocks";
import type { PayloadMeta } from "../../base/codec";
import { robustLimit, roundUp } from "../../base/color";
import type { Place } from "../../base/focus";

export interface Meta extends PayloadMeta {
  title: string;
  draws: number;
  z: number;
  chains: number;
  notes: string[];
  order: string;
}

export type Range = [number, number, number, number]; // rows from, to, columns from, to

const MOST = 240; // cells a side

export const single = (s: Segment): boolean => s.to - s.from === 1;
export const size = (s: Segment): string => (single(s) ? "" : ` (${s.to - s.from})`);

/** What is on show: rows and columns are examples or closed branches. */
export interface Sight {
  range: Range;
  rows: Segment[];
  columns: Segment[];
  values: Float32Array; // row by row
  limit: number; // of the colours
  covariance: boolean;
}

export class Kernel {
  readonly n: number;
  readonly blocks: Blocks;
  readonly names: string[];
  readonly nodes: TreeNode[];
  readonly roots: number[];
  readonly chain: Uint8Array; // of each draw
  readonly unit: Float32Array; // nats of one step of the 8 bits
  readonly sd: Float32Array;
  readonly q: Int8Array;
  readonly #place: (i: number) => Place;
  readonly #index = new Map<string, number>();

  constructor(readonly meta: Meta, data: Record<string, any>) {
    this.blocks = new Blocks({ q: data.q, draws: meta.draws, batches: data.batches, sd: data.sd });
    this.names = data.names;
    this.n = this.names.length;
    this.nodes = data.tree as TreeNode[];
    this.roots = this.nodes.map((_, k) => k).filter((k) => this.nodes[k].depth === 0);
    this.chain = data.chain;
    this.unit = data.unit;
    this.sd = data.sd;
    this.q = data.q;
    this.#place = (i) => ({ example: data.examples[data.example[i]], token: data.token[i] });
    for (let i = 0; i < this.n; i++) this.#index.set(key(this.#place(i)), i);
  }

  place(i: number): Place {
    return this.#place(i);
  }

  find(place: Place): number | undefined {
    return this.#index.get(key(place));
  }

  look(range: Range, closed: Set<number>, covariance: boolean): Sight {
    const [r0, r1, c0, c1] = range;
    const cut = (a: number, b: number) => segments(this.nodes, this.roots, closed, a, b, MOST, (i) => this.names[i]);
    const rows = cut(r0, r1);
    const columns = r0 === c0 && r1 === c1 ? rows : cut(c0, c1);
    const values = this.blocks.matrix(rows, columns, covariance);
    const off: number[] = [];
    rows.forEach((a, i) => columns.forEach((b, j) => { if (!(single(a) && single(b) && a.from === b.from)) off.push(values[i * columns.length + j]); }));
    return { range, rows, columns, values, limit: roundUp(robustLimit(Float32Array.from(off), 0.995)) || 1, covariance };
  }
}

const key = (place: Place): string => `${place.example}\n${place.token}`;
