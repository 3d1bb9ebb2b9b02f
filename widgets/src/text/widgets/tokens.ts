// One number a token, shown in the text itself.
import type { RenderProps } from "../../base/afm";
import { watch } from "../../base/afm";
import type { PayloadMeta } from "../../base/codec";
import { robustLimit, roundUp } from "../../base/color";
import { Corpus } from "../corpus";
import type { CorpusData } from "../corpus";
import { add, fill, h, show } from "../../base/dom";
import type { Source } from "../panel";
import { written } from "../panel";
import type { Metric } from "../../base/metric";
import { mountData } from "../../base/mount";
import { viewer as makeViewer } from "../viewer";

interface TokenMetric extends Metric {
  z: number;
  component?: string; // whose numbers these are, where they are a component's
}

const QUANTILE = 0.995;

async function draw(props: RenderProps, meta: PayloadMeta & { title: string; metrics: TokenMetric[] }, data: Record<string, any>): Promise<void> {
  const { model, signal } = props;
  const corpus = new Corpus(data as unknown as CorpusData);
  const sources: Source[] = meta.metrics.map((metric, i) => {
    const value: Float32Array = data[`value${i}`];
    return {
      ...metric,
      value,
      error: metric.error ? data[`error${i}`] : null,
      limit: metric.limit ?? roundUp(robustLimit(value, QUANTILE)),
      limitNote: metric.limit !== null ? "set by limit=" : `${100 * QUANTILE}th percentile of |value|`,
      errorNote: metric.note,
    };
  });
  const at = () => Math.min(Math.max(0, model.get("metric") ?? 0), sources.length - 1);
  const choose = (i: number) => {
    const next = (i + sources.length) % sources.length;
    model.set("metric", next);
    model.save_changes();
    const { component } = meta.metrics[next];
    if (component) viewer.focus()?.setComponent(component);
  };
  const picker = h("select", { "aria-label": "Metric", onchange: () => choose(picker.selectedIndex) });
  for (const { label } of sources) picker.append(h("option", {}, label));
  const viewer = makeViewer(props, {
    corpus,
    title: meta.title,
    enter: "keep the tooltip at this token, again: let go",
    lockTip: true,
    tools: sources.length > 1 ? [picker] : [],
    changed(part) {
      if (part !== "component") return;
      const i = meta.metrics.findIndex((m) => !!m.component && m.component === viewer.focus().component);
      if (i >= 0 && i !== at()) choose(i);
    },
    metric: (step) => choose(at() + step),
    more: (k) =>
      sources.length < 2
        ? []
        : [h("p.quiet", {}, sources.filter((_, i) => i !== at()).map((s) => `${s.label} ${written(s, k)}`).join(" \u00b7 "))],
  });
  const update = () => {
    const source = sources[at()];
    picker.selectedIndex = at();
    viewer.show(source);
    fill(viewer.foot);
    const notes = [source.errorNote, ...((meta.notes as string[]) ?? [])].filter(Boolean);
    add(viewer.foot, ...notes.map((text) => h("p", {}, text)));
    viewer.strip.element.setAttribute("aria-label", `${meta.title}: ${source.label} of ${corpus.count} tokens, limit ${show(source.limit)}. Arrow keys move, ? lists all keys`);
  };
  update();
  viewer.strip.start();
  watch(model, ["metric"], update, signal);
  await viewer.connect();
}

export default mountData(draw);
