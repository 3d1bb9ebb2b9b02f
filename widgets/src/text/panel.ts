// Around a strip: the legend (limits, quantile, signs, uncertainty), the table that
// says the same as the picture, and the list of keys.
import { STEPS, stepClass } from "../base/color";
import type { Corpus } from "./corpus";
import { visible } from "./corpus";
import { csv, fill, h, show, table } from "../base/dom";
import css from "./panel.css";

export { css as panelCss };

/** The numbers on show, one a token. */
export interface Source {
  label: string; // "loss gain"
  unit: string; // "nats"
  negative: string; // what a negative number means
  positive: string;
  scale: "diverging" | "sequential";
  limit: number;
  limitNote: string; // "99.5th percentile of |value|"
  value: ArrayLike<number>;
  error: ArrayLike<number> | null;
  z: number; // 95 % interval = value +- z error
  errorNote: string;
  skip?: number; // a token that is outside the scale (the query itself)
}

/** Whether token k is significant at 95 % (its interval excludes 0); null where there is no error. */
export function sure(s: Source, k: number): boolean | null {
  const e = s.error ? s.error[k] : NaN;
  return Number.isFinite(e) && Number.isFinite(s.value[k]) ? Math.abs(s.value[k]) > s.z * e : null;
}

/** Class names of token k: its colour, whether it is clipped, and whether its sign is sure. */
export function classOf(s: Source, k: number): string {
  if (k === s.skip) return "";
  const value = s.value[k];
  let name = stepClass(value, s.limit, s.scale);
  if (Math.abs(value) > s.limit) name += " clip";
  if (s.error) {
    const known = sure(s, k);
    if (known === false) name += " mut";
    else if (known && s.scale === "diverging") name += value < 0 ? " neg" : " pos";
  }
  return name;
}

/** "+0.32 ± 0.05 nats" */
export function written(s: Source, k: number): string {
  const e = s.error ? s.error[k] : NaN;
  return show(s.value[k], s.scale === "diverging") + (Number.isFinite(e) ? ` \u00b1 ${show(e, false, 2)}` : "");
}

/** Ranks of all tokens by |value|, 1 = largest; NaN last. */
export function ranks(s: Source): Int32Array {
  const n = s.value.length;
  const order = new Int32Array(n);
  for (let k = 0; k < n; k++) order[k] = k;
  const size = (k: number) => (Number.isFinite(s.value[k]) ? Math.abs(s.value[k]) : -1);
  order.sort((a, b) => size(b) - size(a));
  const result = new Int32Array(n);
  for (let i = 0; i < n; i++) result[order[i]] = i + 1;
  return result;
}

export function legend(into: HTMLElement, s: Source): void {
  let clipped = 0;
  let muted = 0;
  let missing = 0;
  for (let k = 0; k < s.value.length; k++) {
    if (k === s.skip) continue;
    if (!Number.isFinite(s.value[k])) missing++;
    else if (Math.abs(s.value[k]) > s.limit) clipped++;
    if (sure(s, k) === false) muted++;
  }
  const steps: string[] = [];
  if (s.scale === "diverging") {
    for (let i = STEPS; i > 0; i -= 2) steps.push(`vn${i}`);
    steps.push("v0");
    for (let i = 2; i <= STEPS; i += 2) steps.push(`vp${i}`);
  } else {
    for (let i = 0; i <= STEPS; i += 2) steps.push(`vs${i}`);
  }
  const key = (name: string, text: string, glyph = "ab") =>
    h("span.key", {}, h("span", { class: `t ${name}`, "aria-hidden": "true" }, glyph), text);
  const two = s.scale === "diverging";
  fill(
    into,
    h(
      "span.scale", {},
      two ? h("span", {}, s.negative) : null,
      h("b", {}, two ? show(-s.limit) : "0"),
      h("span.ramp", { "aria-hidden": "true" }, ...steps.map((name) => h("i", { class: name }))),
      h("b", {}, show(s.limit, two)),
      two ? h("span", {}, s.positive) : null,
    ),
    h("span", {}, `${s.label}${s.unit ? `, ${s.unit}` : ""}`),
    h("span", {}, `colour range: ${s.limitNote}`),
    clipped ? key("clip vp8", `${clipped} clipped`) : null,
    s.error && two ? key("vn10 neg", "line below: negative") : null,
    s.error && two ? key("vp10 pos", "line above: positive") : null,
    s.error ? key("mut vp14", `faded: 95 % interval includes 0 (${muted} of ${s.value.length - missing})`) : null,
    missing ? key("vx", `${missing} without a value`) : null,
  );
}

const PAGE = 500;

/** The twin of the strip: every token as a row of a real table, PAGE rows at a time. */
export function twin(into: HTMLElement, corpus: Corpus, s: Source, pick: (k: number) => void): void {
  const order = Array.from({ length: s.value.length }, (_, k) => k);
  const size = (k: number) => (Number.isFinite(s.value[k]) ? Math.abs(s.value[k]) : -1);
  order.sort((a, b) => size(b) - size(a));
  const more = h("button", { onclick: () => grow() }, "More rows");
  let shown = 0;
  const grow = () => {
    for (const k of order.slice(shown, shown + PAGE)) {
      const known = sure(s, k);
      body.append(
        h(
          "tr",
          {},
          h("td.num", {}, ++shown),
          h("td.mono", {}, visible(corpus.text[k])),
          h("td.num", {}, (s.value[k] < 0 ? "\u25bc " : s.value[k] > 0 && s.scale === "diverging" ? "\u25b2 " : "") + written(s, k)),
          s.error && h("td", {}, known === null ? "unknown" : known ? "yes" : "no"),
          h("td", {}, h("button.plain", { onclick: () => pick(k) }, corpus.where(k))),
        ),
      );
    }
    more.hidden = shown >= order.length;
  };
  const head = ["rank#", "token", `${s.label}${s.unit ? ` (${s.unit})` : ""}${s.error ? " \u00b1 s.e." : ""}#`];
  if (s.error) head.push("significant at 95 %?");
  head.push("where");
  const made = table(`${s.label} of ${order.length} tokens, largest first`, head, []);
  const body = made.tBodies[0];
  grow();
  fill(into, made, more);
}

const KEYS: [string, string][] = [
  ["\u2190 \u2192", "previous / next token"],
  ["\u2191 \u2193", "line up, down"],
  ["Home End", "first, last token of the example (with Ctrl: of all)"],
  ["PgUp PgDn", "250 tokens back, on"],
  ["n p", "next, previous token among the strongest 5 %"],
  ["Shift + arrows", "choose a range"],
  ["/", "search"],
  ["[ ]", "previous / next metric"],
  ["a", "write a note on the token or the range"],
  ["Esc", "clear focus and range, then pins"],
  ["?", "this list"],
];

export function help(enter: string): HTMLElement {
  const rows: [string, string][] = [["click, Enter", enter], ["Ctrl-click, Space", "pin, unpin"], ...KEYS];
  return h("div.help", {}, h("dl", {}, ...rows.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
}

/** The numbers on show as CSV, one row a token. */
export function csvOf(corpus: Corpus, s: Source): string {
  const rows: (string | number)[][] = [["example", "token", "text", s.label, "standard_error"]];
  for (let k = 0; k < corpus.count; k++) {
    const e = corpus.examples[corpus.exampleOf(k)];
    rows.push([e, corpus.token[k], corpus.text[k], s.value[k], s.error ? s.error[k] : NaN]);
  }
  return csv(rows);
}
