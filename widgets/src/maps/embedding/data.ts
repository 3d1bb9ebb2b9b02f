// The points of the map and their names.
import type { PayloadMeta } from "../../base/codec";
import { visible } from "../../text/corpus";
import { h, show } from "../../base/dom";
import type { Place } from "../../base/focus";
import type { Coordinate, Images } from "../paint";
import type { Cloud } from "../points";

export interface Meta extends PayloadMeta {
  title: string;
  count: number;
  layouts: { name: string; note: string }[];
  coordinates: Omit<Coordinate, "values">[];
  images: [number, number, number] | null;
  what: string; // "example" or "token"
  notes: string[];
}

/** Text of data on one line; what is nothing but blanks is made visible. */
const tidy = (text: string): string => (text.trim() ? text.replace(/\s*\n\s*/g, "\u23ce").replaceAll("\t", " ") : visible(text));

export class Points {
  readonly n: number;
  readonly clouds: Cloud[];
  readonly coordinates: Coordinate[];
  readonly images: Images | null;
  readonly label: string[];
  readonly context: [string, string, string][] | null;
  readonly example: string[]; // of each point
  readonly token: Int32Array;
  readonly #what: string;
  readonly #index = new Map<string, number>();

  constructor(meta: Meta, data: Record<string, any>) {
    this.n = meta.count;
    this.#what = meta.what;
    this.clouds = meta.layouts.map((_, i) => ({ x: data[`x${i}`], y: data[`y${i}`] }));
    this.coordinates = meta.coordinates.map((c, i) => ({ ...c, categories: c.categories.map(tidy), values: data[`c${i}`] }));
    this.images = meta.images && { data: data.images, height: meta.images[0], width: meta.images[1], channels: meta.images[2] };
    this.label = data.label;
    this.context = data.context ?? null;
    this.token = data.token;
    this.example = Array.from(data.example as Int32Array, (e) => data.examples[e]);
    for (let k = 0; k < this.n; k++) this.#index.set(`${this.example[k]}\n${this.token[k]}`, k);
  }

  place(k: number): Place {
    return { example: this.example[k], token: this.token[k] };
  }

  /** The point at a place, or -1. */
  find(place: Place | null): number {
    return place ? (this.#index.get(`${place.example}\n${place.token}`) ?? -1) : -1;
  }

  where(k: number): string {
    return this.#what === "token" ? `${this.example[k]} \u00b7 ${this.token[k]}` : this.example[k];
  }

  /** The token itself, or the label. */
  name(k: number): string {
    return this.context ? this.context[k][1] : this.label[k];
  }

  /** The name in its context, the token in bold. */
  words(k: number): Node[] {
    if (!this.context) return [h("span", {}, this.label[k])];
    const [before, token, after] = this.context[k];
    return [h("i", {}, before ? tidy(before).slice(-22) : ""), h("b", {}, tidy(token)), h("i", {}, after ? tidy(after) : "")];
  }

  value(c: Coordinate, k: number): string {
    if (c.kind === "category") return c.values[k] < 0 ? "none" : c.categories[c.values[k]];
    return show(c.values[k]);
  }
}
