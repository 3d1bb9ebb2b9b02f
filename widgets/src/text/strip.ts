// The strip: tokens laid out, painted and stepped through.  Spans in blocks of about 250 tokens that the
// browser skips while they are out of sight (content-visibility); up to DOM_LIMIT tokens all are in
// the document in the end (so that find and copy work), beyond that blocks come and go on demand.
import type { Corpus } from "./corpus";
import { look } from "./corpus";
import { h } from "../base/dom";
import css from "./strip.css";

export { css as stripCss };
export const DOM_LIMIT = 20_000;
const BLOCK = 250;
const LINE = 27; // px: 13.5px at line-height 2

interface Block {
  element: HTMLElement;
  from: number;
  to: number;
  filled: boolean;
  near: boolean;
  painted: number;
}

export type Mark = "hover" | "at" | "pin" | "cursor" | "hit" | "range" | "noted" | "note";
type Span = HTMLSpanElement & { k?: number };

/** Where to cut [from, to) so that a cut falls after a line break where there is one. */
export function cuts(text: string[], from: number, to: number): number[] {
  const result = [from];
  let at = from;
  while (to - at > BLOCK * 1.3) {
    let end = at + BLOCK;
    for (let k = at + BLOCK * 1.2; k > at + BLOCK * 0.8; k--) {
      if (text[k - 1].endsWith("\n")) {
        end = k;
        break;
      }
    }
    result.push(end);
    at = end;
  }
  result.push(to);
  return result;
}

export class Strip {
  readonly element: HTMLDivElement;
  #blocks: Block[] = [];
  #marks = new Map<Mark, Map<number, string>>();
  #version = 1;
  #classOf: (k: number) => string = () => "";
  readonly #observer: IntersectionObserver;
  #idle = 0;
  readonly #uid: string;

  constructor(
    readonly corpus: Corpus,
    label: string,
    uid: string,
    signal?: AbortSignal,
  ) {
    this.#uid = uid;
    this.element = h("div", {
      class: "strip glyphs",
      tabindex: 0,
      role: "group",
      "aria-label": label,
    });
    this.#observer = new IntersectionObserver((entries) => this.#seen(entries), {
      root: this.element,
      rootMargin: "300px 0px",
    });
    signal?.addEventListener("abort", () => {
      this.#observer.disconnect();
      clearTimeout(this.#idle);
    });
    this.#build();
  }

  #build(): void {
    const { corpus } = this;
    for (let e = 0; e < corpus.examples.length; e++) {
      const section = h("div.ex", { role: "group", "aria-label": corpus.examples[e] });
      const tokens = corpus.start[e + 1] - corpus.start[e];
      section.append(
        h(
          "div.exh", {},
          h("b", {}, corpus.examples[e]),
          [corpus.labels[e], `${tokens} token${tokens === 1 ? "" : "s"}`].filter(Boolean).join(" · "),
        ),
      );
      const ends = cuts(corpus.text, corpus.start[e], corpus.start[e + 1]);
      for (let i = 0; i + 1 < ends.length; i++) {
        const element = h("div.bk");
        let characters = 0;
        let breaks = 0;
        for (let k = ends[i]; k < ends[i + 1]; k++) {
          characters += corpus.text[k].length;
          if (corpus.text[k].includes("\n")) breaks++;
        }
        const height = LINE * Math.max(1, Math.ceil(characters / 95) + 0.6 * breaks);
        element.style.containIntrinsicSize = `auto 100px auto ${Math.round(height)}px`;
        const block = { element, from: ends[i], to: ends[i + 1], filled: false, near: false, painted: 0 };
        (element as any).block = block;
        this.#blocks.push(block);
        section.append(element);
      }
      this.element.append(section);
    }
  }

  /** Fill what is in sight first; the rest while the browser is idle. */
  start(): void {
    let height = 0;
    for (const block of this.#blocks) {
      if (height > 600) break;
      this.#fillBlock(block);
      block.near = true;
      height += parseFloat(block.element.style.containIntrinsicSize.split(" ").pop() ?? "0") + LINE;
    }
    for (const block of this.#blocks) this.#observer.observe(block.element);
    if (this.corpus.count <= DOM_LIMIT) this.#fillLater(0, 160);
  }

  #fillLater(from: number, wait: number): void {
    this.#idle = window.setTimeout(() => {
      const until = performance.now() + 8;
      let i = from;
      while (i < this.#blocks.length && performance.now() < until) this.#fillBlock(this.#blocks[i++]);
      if (i < this.#blocks.length) this.#fillLater(i, 24);
    }, wait);
  }

  #seen(entries: IntersectionObserverEntry[]): void {
    for (const entry of entries) {
      const block: Block = (entry.target as any).block;
      block.near = entry.isIntersecting;
      if (block.near) {
        this.#fillBlock(block);
        this.#paintBlock(block);
      } else if (block.filled && this.corpus.count > DOM_LIMIT) {
        block.element.textContent = "";
        block.filled = false;
      }
    }
  }

  #fillBlock(block: Block): void {
    if (block.filled) return;
    const { corpus } = this;
    const parts = document.createDocumentFragment();
    const e = corpus.exampleOf(block.from);
    const first = corpus.first[e];
    if (block.from === corpus.start[e] && first !== null) {
      const seen = look(first);
      const span = h("span", { class: `${seen.kind} f0`, title: "first token: given, not predicted" });
      if (seen.glyph) span.dataset.g = seen.glyph;
      if (seen.glyph.length > 1) span.style.setProperty("--g", `${seen.glyph.length}`);
      span.textContent = first;
      parts.append(span);
    }
    for (let k = block.from; k < block.to; k++) {
      const span: Span = document.createElement("span");
      const { kind, glyph } = look(corpus.text[k]);
      span.k = k;
      (span as any).kind = kind;
      if (glyph) {
        span.dataset.g = glyph;
        if (glyph.length > 1) span.style.setProperty("--g", `${glyph.length}`);
      }
      span.className = `${kind} ${this.#classOf(k)}`;
      span.textContent = corpus.text[k];
      parts.append(span);
    }
    block.element.append(parts);
    block.filled = true;
    block.painted = this.#version;
    for (const [mark, places] of this.#marks) {
      for (const [k, value] of places) {
        if (k >= block.from && k < block.to) this.span(k)?.setAttribute(`data-${mark}`, value);
      }
    }
  }

  /** Give every token the class that `classOf` says: what is in sight now, the rest when idle. */
  paint(classOf: (k: number) => string): void {
    this.#classOf = classOf;
    const version = ++this.#version;
    const later: Block[] = [];
    for (const block of this.#blocks) {
      if (!block.filled) continue;
      if (block.near) this.#paintBlock(block);
      else later.push(block);
    }
    const go = () => {
      const until = performance.now() + 8;
      while (later.length && version === this.#version && performance.now() < until) {
        this.#paintBlock(later.shift()!);
      }
      if (later.length && version === this.#version) setTimeout(go, 16);
    };
    if (later.length) setTimeout(go, 16);
  }

  #paintBlock(block: Block): void {
    if (!block.filled || block.painted === this.#version) return;
    block.painted = this.#version;
    for (let node = block.element.firstChild as Span | null; node; node = node.nextSibling as Span) {
      if (node.k === undefined) continue;
      const name = `${(node as any).kind} ${this.#classOf(node.k)}`;
      if (node.className !== name) node.className = name;
    }
  }

  #blockOf(k: number): Block | undefined {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#blocks[middle].from <= k) low = middle;
      else high = middle - 1;
    }
    return this.#blocks[low];
  }

  /** The element of token k, if its block is in the document (`make`: put it there). */
  span(k: number, make = false): Span | null {
    const block = k >= 0 && k < this.corpus.count ? this.#blockOf(k) : undefined;
    if (!block || k >= block.to) return null;
    if (!block.filled) {
      if (!make) return null;
      this.#fillBlock(block);
    }
    const children = block.element.children;
    return children[children.length - (block.to - k)] as Span;
  }

  /** The token under an event, or -1. */
  at(event: Event): number {
    const target = event.target as Span | null;
    return target?.k ?? -1;
  }

  /** Mark exactly these tokens (attribute data-<mark>); `values` gives each one's text. */
  setMark(mark: Mark, tokens: Iterable<number>, values?: (k: number) => string): void {
    for (const k of this.#marks.get(mark)?.keys() ?? []) this.span(k)?.removeAttribute(`data-${mark}`);
    const now = new Map<number, string>();
    for (const k of tokens) if (k >= 0) now.set(k, values ? values(k) : "");
    this.#marks.set(mark, now);
    for (const [k, value] of now) this.span(k)?.setAttribute(`data-${mark}`, value);
  }

  marked(mark: Mark): number[] {
    return [...(this.#marks.get(mark)?.keys() ?? [])].sort((a, b) => a - b);
  }

  /** Name token k as the active one, for assistive technology. */
  activate(k: number): void {
    const old = this.element.getAttribute("aria-activedescendant");
    if (old) this.element.querySelector(`[id="${old}"]`)?.removeAttribute("id");
    const span = this.span(k, true);
    if (!span) return;
    span.id = `${this.#uid}-t${k}`;
    this.element.setAttribute("aria-activedescendant", span.id);
  }

  /** Scroll the strip, and only the strip, until token k is in sight. */
  reveal(k: number): void {
    const span = this.span(k, true);
    if (!span) return;
    const box = this.element.getBoundingClientRect();
    const at = span.getBoundingClientRect();
    if (at.top < box.top + 4) this.element.scrollTop += at.top - box.top - box.height / 3;
    else if (at.bottom > box.bottom - 4) this.element.scrollTop += at.bottom - box.bottom + box.height / 3;
  }

  /** The token one line up (-1) or down (+1) nearest below the left edge of token k. */
  line(k: number, step: 1 | -1): number {
    const start = this.span(k, true)?.getBoundingClientRect();
    if (!start) return k;
    let best = k;
    let distance = Infinity;
    let top: number | null = null;
    for (let j = k + step; j >= 0 && j < this.corpus.count; j += step) {
      const rect = this.span(j, true)?.getClientRects()[0];
      if (!rect || Math.abs(rect.top - start.top) < 6) continue;
      if (top === null) top = rect.top;
      if (Math.abs(rect.top - top) > 6) break;
      const away = Math.abs(rect.left - start.left);
      if (away < distance) [best, distance] = [j, away];
    }
    return best;
  }
}
