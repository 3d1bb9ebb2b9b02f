// Click a token: every other one is coloured by its influence on it, computed here from the draws.
import type { RenderProps } from "../../base/afm";
import { watch } from "../../base/afm";
import type { PayloadMeta } from "../../base/codec";
import { robustLimit, roundUp, stepClass } from "../../base/color";
import { Corpus, visible } from "../corpus";
import type { CorpusData } from "../corpus";
import { add, fill, h, show, table } from "../../base/dom";
import type { Source } from "../panel";
import { Rows, extremes } from "../rows";
import { install } from "../../base/theme";
import { mountData } from "../../base/mount";
import { viewer as makeViewer } from "../viewer";
import css from "./influence.css";

const QUANTILE = 0.995;
const TOP = 8;
const HEADS = ["where", "\u00b1 s.e.#"];

async function draw(props: RenderProps, meta: PayloadMeta & { title: string; draws: number; z: number; notes: string[]; begin: number; begin_example: string }, data: Record<string, any>): Promise<void> {
  const { model, signal } = props;
  const corpus = new Corpus(data as unknown as CorpusData);
  const rows = new Rows({ q: data.q, draws: meta.draws, batches: data.batches, sd: data.sd });
  const n = corpus.count;
  const ranked = (k: number) => data.ranked[corpus.exampleOf(k)] === 1;
  let query = corpus.find({ example: meta.begin_example, token: meta.begin });
  let held = 0; // a colour range that is locked between queries

  const button = (label: string, on: boolean, title: string, run: () => void) => {
    const made = h("button", { "aria-pressed": on, title, onclick: run }, label);
    return made;
  };
  const choose = (normalize: boolean) => {
    model.set("normalize", normalize);
    model.save_changes();
  };
  const corr = button("correlation", true, "minus the correlation of the two losses", () => choose(true));
  const cov = button("covariance", false, "minus their covariance, in square nats", () => choose(false));
  const hold = button("Lock colour range", false, "Keep the colour range when the query changes", () => {
    held = held ? 0 : viewer.source().limit;
    hold.setAttribute("aria-pressed", String(!!held));
    update();
  });
  const viewer = makeViewer(props, {
    corpus,
    title: meta.title,
    enter: "make this token the query: the others are coloured by their influence on it",
    lockTip: false,
    tools: [h("span.group", { role: "group", "aria-label": "Measure" }, corr, cov), hold],
    changed(part) {
      const k = corpus.find(viewer.focus().focus);
      if (part !== "focus") return;
      if (k >= 0 && k !== query) {
        query = k;
        update();
      } else viewer.strip.setMark("at", [query]);
    },
    metric: () => choose(!model.get("normalize")),
    more: (k) => {
      if (k === query) return [h("div.big", {}, "the query"), sd(k)];
      if (!rows.varies(k)) return [h("p", {}, "its loss is constant")];
      return [h("p", {}, `${viewer.source().value[k] < 0 ? "more weight here lowers" : "more weight here raises"} the query's expected loss`), sd(k)];
    },
  });
  const sd = (k: number) => h("p.quiet", {}, `sd of its loss ${show(data.sd[k])} nats`);
  install("slt-influence", css, viewer.root.getRootNode());
  viewer.root.querySelector(".main")!.classList.add("two");
  viewer.strip.element.classList.add("pick");
  viewer.head.className = "asked";
  viewer.side.tabIndex = 0;
  viewer.side.setAttribute("role", "region");
  viewer.side.setAttribute("aria-label", "Sources and examples, ranked");

  const context = (k: number, s: Source) => {
    const [before, at, after] = corpus.context(k, 5, 3);
    return h(
      "button.src", { title: `query ${corpus.where(k)}`, onclick: () => viewer.pick(k), onpointerenter: () => viewer.focus().setHover(corpus.place(k)), onpointerleave: () => viewer.focus().setHover(null) },
      h("i", {}, visible(before).slice(-14)),
      h("span", { class: `t ${stepClass(s.value[k], s.limit, "diverging")}` }, visible(at)),
      h("i", {}, visible(after)),
      h("small", {}, corpus.where(k)),
    );
  };
  const measured = (v: number, e: number) => h("td.num", {}, `${v < 0 ? "\u25bc" : "\u25b2"} ${show(v, true)}`, h("small.quiet", {}, ` \u00b1${show(e, false, 2)}`));
  const list = (caption: string, tokens: number[], s: Source) =>
    table(caption, HEADS, tokens.map((k) => h("tr", {}, h("td", {}, context(k, s)), measured(s.value[k], s.error![k]))));

  const update = () => {
    const normalize: boolean = model.get("normalize");
    const row = rows.row(query, normalize);
    const value = row.value.subarray(0, n);
    const error = row.error.subarray(0, n);
    const limit = held || roundUp(robustLimit(value, QUANTILE, query));
    const source: Source = {
      label: normalize ? "\u2212correlation" : "\u2212covariance",
      unit: normalize ? "" : "nats\u00b2",
      negative: "helpful",
      positive: "harmful",
      scale: "diverging",
      limit,
      limitNote: held ? "locked" : `${100 * QUANTILE}th percentile of |value|`,
      value,
      error,
      z: meta.z,
      errorNote: "",
      skip: query,
    };
    corr.setAttribute("aria-pressed", String(normalize));
    cov.setAttribute("aria-pressed", String(!normalize));
    viewer.strip.setMark("at", [query]);
    viewer.show(source);
    fill(
      viewer.head,
      h("span.quiet", {}, "Influence on"),
      h("span.tok", {}, visible(corpus.text[query])),
      h("span.quiet", {}, `${corpus.where(query)}, sd of its loss ${show(data.sd[query])} nats`),
    );
    const keep = (k: number) => k !== query && ranked(k);
    const sequences = corpus.examples.map((_, e) => e).filter((e) => data.ranked[e] && Number.isFinite(row.value[n + e]));
    sequences.sort((a, b) => row.value[n + a] - row.value[n + b]);
    const widest = Math.max(1e-30, ...sequences.map((e) => Math.abs(row.value[n + e])));
    const own = corpus.exampleOf(query);
    fill(
      viewer.side,
      list("Most helpful (negative)", extremes(value, TOP, true, keep), source),
      list("Most harmful (positive)", extremes(value, TOP, false, keep), source),
      corpus.examples.length > 1 &&
        table(
          "By example (sum of its tokens)",
          HEADS,
          sequences.slice(0, 50).map((e) => {
            const v = row.value[n + e];
            const bar = h("span", { class: `share ${stepClass(v, widest, "diverging")}`, "aria-hidden": "true" });
            bar.style.width = `${Math.round((60 * Math.abs(v)) / widest)}px`;
            const name = h("button.plain", { onclick: () => viewer.strip.reveal(corpus.start[e]) }, corpus.examples[e]);
            return h("tr", {}, h("td", {}, name, e === own ? h("small.quiet", {}, " the query's own ") : null, bar), measured(v, row.error[n + e]));
          }),
        ),
    );
    viewer.strip.element.setAttribute("aria-label", `${meta.title} on ${visible(corpus.text[query])}: ${n} tokens. Arrow keys move, Enter queries a token, ? lists all keys`);
  };
  add(viewer.foot, ...meta.notes.map((text) => h("p", {}, text)));
  update();
  viewer.strip.start();
  watch(model, ["normalize"], update, signal);
  await viewer.connect();
  viewer.strip.setMark("at", [query]);
}

export default mountData(draw);
