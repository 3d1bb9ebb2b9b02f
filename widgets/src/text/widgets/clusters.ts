// Tokens with similar responses: a table of
// clusters with their controls; a cluster opens its tokens in context, a token is shown elsewhere.
import type { RenderProps } from "../../base/afm";
import type { Rows } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { Corpus, visible } from "../corpus";
import type { CorpusData } from "../corpus";
import { fill, h, show } from "../../base/dom";
import { FocusLink } from "../../base/focus";
import type { Part } from "../../base/focus";
import { mountData } from "../../base/mount";
import css from "./clusters.css";

interface Column {
  name: string;
  note: string;
  low: boolean; // small values are the telling ones
}

interface Row {
  top: string;
  tag: string;
  values: (number | null)[]; // one a column
}

interface Meta extends PayloadMeta {
  title: string;
  columns: Column[];
  rows: Row[];
  summary: { name: string; values: string[] }[];
  heads: string[]; // of the summary
  notes: string[];
}

const LISTED = 200; // tokens listed at once

async function draw(props: RenderProps, meta: Meta, data: Record<string, any>): Promise<void> {
  const corpus = new Corpus(data as unknown as CorpusData);
  const cluster: Int32Array = data.cluster;
  const members: number[][] = meta.rows.map(() => []);
  for (let k = 0; k < cluster.length; k++) if (cluster[k] >= 0) members[cluster[k]].push(k);
  const shell = chartShell(props, h("div.clusters"), "clusters", css);
  const { root } = shell;
  const box = h("div.list", { role: "region", tabindex: -1, "aria-label": "Clusters" });
  const side = h("div.tokens", { role: "region", tabindex: 0, "aria-label": "Tokens of the cluster" });
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  let focus: FocusLink | null = null;
  let sorted = -1; // column, or -1: as found
  let down = false;
  const buttons = new Map<number, HTMLButtonElement>();

  const at = () => Math.min(shell.get<number>("cluster") ?? -1, meta.rows.length - 1);
  const choose = (c: number) => shell.set("cluster", c);
  const written = (value: number | null) => (value === null ? "\u2013" : Number.isInteger(value) ? String(value) : show(value, false, 2));

  const order = (): number[] => {
    const found = meta.rows.map((_, c) => c);
    if (sorted < 0) return found;
    const of = (c: number) => meta.rows[c].values[sorted] ?? Infinity;
    return found.sort((a, b) => (down ? of(b) - of(a) : of(a) - of(b)) || a - b);
  };

  // Arrow keys move through the list; one row at a time is in the order of Tab.
  const step = (event: KeyboardEvent, c: number) => {
    const list = order();
    const here = list.indexOf(c);
    const to: Record<string, number> = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: list.length - 1 };
    if (!(event.key in to)) return;
    event.preventDefault();
    event.stopPropagation();
    const next = list[Math.max(0, Math.min(list.length - 1, to[event.key]))];
    choose(next);
    buttons.get(next)?.focus();
  };

  const drawList = () => {
    const holding = buttons.size > 0 && box.contains(document.activeElement);
    buttons.clear();
    const head = meta.columns.map((column, i) =>
      h(
        "th.num", { scope: "col", "aria-sort": i === sorted ? (down ? "descending" : "ascending") : "none" },
        h("button.plain", { title: column.note, onclick: () => { [sorted, down] = i !== sorted ? [i, !column.low] : down === !column.low ? [i, column.low] : [-1, false]; drawList(); } }, column.name, h("span", { "aria-hidden": "true" }, i === sorted ? (down ? " \u25be" : " \u25b4") : "")),
      ),
    );
    const body = order().map((c, i) => {
      const row = meta.rows[c];
      const button = h(
        "button.open", { "aria-pressed": String(c === at()), tabindex: (at() < 0 ? i === 0 : c === at()) ? 0 : -1, "aria-label": `cluster ${c}: ${row.values[0]} tokens, ${row.top}`, onclick: () => choose(c === at() ? -1 : c), onkeydown: (event: Event) => step(event as KeyboardEvent, c) },
        h("b", {}, c), " ", h("span.mono", {}, row.top),
      );
      buttons.set(c, button);
      return h("tr", { class: c === at() ? "on" : null }, h("th", { scope: "row" }, button), h("td", {}, row.tag), ...row.values.map((v) => h("td.num", {}, written(v))));
    });
    fill(
      box,
      meta.rows.length
        ? h("table", {}, h("caption.said", {}, meta.title), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "cluster, most common tokens"), h("th", { scope: "col" }, "tag"), ...head)), h("tbody", {}, ...body))
        : h("p.quiet", {}, "No cluster was found."),
    );
    if (holding) buttons.get(at())?.focus({ preventScroll: true });
  };

  const drawTokens = () => {
    const c = at();
    if (c < 0) return fill(side, h("p.quiet", {}, "Choose a cluster to read its tokens in context."));
    const list = members[c];
    const focused = corpus.find(focus?.focus ?? null);
    const one = (k: number) => {
      const [before, token, after] = corpus.context(k, 8, 4);
      return h(
        "button", { title: corpus.where(k), class: k === focused ? "at" : null, "aria-current": k === focused ? "true" : null, onclick: () => focus?.setFocus(corpus.place(k)), onpointerenter: () => focus?.setHover(corpus.place(k)), onpointerleave: () => focus?.setHover(null) },
        h("i", {}, tidy(before).slice(-30)), h("b", {}, visible(token)), h("i", {}, tidy(after).slice(0, 16)),
        h("small", {}, corpus.labels[corpus.exampleOf(k)] ?? corpus.where(k)),
      );
    };
    fill(
      side,
      h("h4", {}, `Cluster ${c}: ${list.length} tokens`),
      h("div.bar", {}, h("button", { title: "Mark them in all linked views", onclick: () => focus?.setPins(list.slice(0, LISTED).map((k) => corpus.place(k))) }, "Pin them all"), h("button", { onclick: () => focus?.setPins([]) }, "Unpin")),
      h("div.lines", {}, ...list.slice(0, LISTED).map(one)),
      list.length > LISTED && h("p.quiet", {}, `The first ${LISTED} are listed; the CSV holds all.`),
    );
  };

  const update = () => {
    drawList();
    drawTokens();
    const c = at();
    live.textContent = c < 0 ? "no cluster chosen" : `cluster ${c}, ${members[c].length} tokens`;
  };

  const csvRows = (): Rows => {
    const rows: Rows = [["cluster", "example", "token", "text"]];
    members.forEach((list, c) => list.forEach((k) => rows.push([c, corpus.place(k).example, corpus.token[k], corpus.text[k]])));
    return rows;
  };

  root.append(
    toolbar([h("span.title", {}, meta.title)], [csvButton("clusters.csv", csvRows, "Download all tokens with their clusters")]),
    meta.summary.length > 0
      ? h("table.summary", {}, h("caption", {}, "Comparison with controls"), h("thead", {}, h("tr", {}, h("td"), ...meta.heads.map((text) => h("th.num", { scope: "col" }, text)))), h("tbody", {}, ...meta.summary.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name), ...row.values.map((v) => h("td.num", {}, v))))))
      : "",
    h("div.two", {}, box, side),
    h("div.foot", {}, h("p", {}, "Arrow keys move between clusters; click a heading to sort; a token is shown in all linked views."), ...meta.notes.map((text) => h("p", {}, text))),
    live,
  );
  update();
  shell.follow(["cluster"], update);
  focus = await FocusLink.connect(props, (part: Part, by: unknown) => {
    if (part !== "focus") return;
    const k = corpus.find(focus?.focus ?? null);
    drawTokens();
    if (k < 0 || by === focus) return;
    live.textContent = cluster[k] < 0 ? `${corpus.where(k)} is in no cluster` : `${corpus.where(k)} is in cluster ${cluster[k]}`;
    for (const [c, button] of buttons) button.classList.toggle("holds", c === cluster[k]);
  });
  drawTokens();
}

const tidy = (text: string): string => text.replace(/\s*\n\s*/g, "\u23ce").replaceAll("\t", " ");

export default mountData<Meta>(draw);
