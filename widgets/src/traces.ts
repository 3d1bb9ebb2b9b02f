// Has the sampler settled, and what LLC follows?  Traces of every chain, the running LLC below them,
// a burn-in handle that recomputes it here, and a window to measure.
import type { RenderProps } from "./lib/afm";
import { watch } from "./lib/afm";
import { unpack } from "./lib/codec";
import type { PayloadMeta } from "./lib/codec";
import { csv, download, fill, h, show } from "./lib/dom";
import { mount } from "./lib/mount";
import { useTheme } from "./lib/theme";
import { badgeRow, BADGE_CSS } from "./charts/badges";
import type { Badge } from "./charts/badges";
import { blockCount, nearestEdge, quantile, running, summarize, ticks } from "./charts/series";
import type { Blocks, Summary } from "./charts/series";
import { blockRows, chainTable } from "./charts/tables";
import type { Chain } from "./charts/tables";
import { CHAIN_CSS, DASHES, line, s, scale } from "./charts/svg";
import type { Scale } from "./charts/svg";
import css from "./traces.css";

interface Meta extends PayloadMeta {
  chains: Chain[];
  nbeta: number[];
  steps: number;
  burnin: number;
  component: string;
  truth?: number | null;
}

interface Estimate {
  burnin: number;
  problem?: string;
  mean: number | null;
  mcse: number | null;
  interval: [number | null, number | null];
}

const CSS = CHAIN_CSS + BADGE_CSS + css;

const LEFT = 62;
const RIGHT = 14;
const TOP = { y: 20, height: 150 };
const LOW = { y: 206, height: 110 };
const HEIGHT = 336;

class Traces {
  private readonly root = h("div", { class: "traces", role: "group" });
  private readonly answer = h("div", { class: "answer", role: "status" });
  private readonly badges = h("div", { class: "badges", role: "list", "aria-label": "Checks" });
  private readonly legend = h("div", { class: "bar chains", role: "toolbar", "aria-label": "Chains" });
  private readonly plot = h("div", { class: "plot" });
  private readonly tip = h("div", { class: "tip", hidden: true });
  private readonly said = h("div", { class: "said", "aria-live": "polite" });
  private readonly twin = h("div", { hidden: true });
  private readonly foot = h("p", { class: "foot" });
  private x!: Scale;
  private width = 0;
  private first = 0;
  private cursorLine = s("line", { class: "cursor", visibility: "hidden" });
  private windowRect = s("rect", { class: "window", visibility: "hidden" });
  private at = -1;
  private moving: { kind: "burnin" | "window"; from: number } | null = null;

  constructor(
    private readonly props: RenderProps,
    private readonly meta: Meta,
    private readonly blocks: Blocks,
  ) {
    const { model, el, signal } = props;
    fill(el, this.root);
    useTheme(this.root, "traces", CSS, signal);
    this.root.setAttribute("aria-label", `Traces of ${meta.chains.length} chains`);
    const table = h("button", { "aria-pressed": "false", onclick: () => this.toggleTable(table) }, "Table");
    const save = h("button", { onclick: () => this.save(), title: "The numbers behind the picture" }, "CSV");
    const bar = h("div", { class: "bar" }, this.answer, h("span", { class: "grow" }), table, save);
    fill(this.root, bar, this.badges, this.legend, this.plot, this.twin, this.foot, this.said);
    this.plot.addEventListener("pointermove", (event) => this.pointer(event));
    this.plot.addEventListener("pointerdown", (event) => this.press(event));
    this.plot.addEventListener("pointerup", (event) => this.release(event));
    this.plot.addEventListener("pointerleave", () => this.look(-1));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    watch(model, ["burnin", "hidden", "window", "estimate"], () => this.draw(), signal);
    watch(model, ["badges"], () => this.showBadges(), signal);
    const observer = new ResizeObserver(() => {
      if (Math.abs(this.plot.clientWidth - this.width) > 1) this.draw();
    });
    observer.observe(this.plot);
    signal?.addEventListener("abort", () => observer.disconnect());
    this.showBadges();
    this.draw();
  }

  private get burnin(): number {
    return this.props.model.get("burnin") ?? 0;
  }

  private set(name: string, value: unknown): void {
    this.props.model.set(name, value);
    this.props.model.save_changes();
  }

  private get used(): boolean[] {
    const hidden: number[] = this.props.model.get("hidden") ?? [];
    return this.meta.chains.map((chain, k) => !chain.excluded && !hidden.includes(k));
  }

  private get shown(): boolean[] {
    const hidden: number[] = this.props.model.get("hidden") ?? [];
    return this.meta.chains.map((_, k) => !hidden.includes(k));
  }

  private showBadges(): void {
    badgeRow(this.badges, (this.props.model.get("badges") as Badge[]) ?? []);
  }

  /** Draw everything anew; a few thousand points take milliseconds. */
  private draw(): void {
    const { blocks, meta } = this;
    this.width = this.plot.clientWidth || 640;
    this.first = nearestEdge(blocks, this.burnin);
    const summary = summarize(blocks, meta.nbeta, this.used, this.first);
    this.x = scale([0, meta.steps], [LEFT, this.width - RIGHT]);
    const focused = this.root.contains(document.activeElement) && document.activeElement?.getAttribute("role") === "slider";
    const handle = this.handle();
    const svg = s(
      "svg",
      { class: "chart", viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT, role: "group", "aria-label": "Traces and running LLC" },
      ...this.traces(),
      ...this.runningPanel(summary),
      this.windowRect,
      this.cursorLine,
      handle,
    );
    fill(this.plot, svg, this.tip);
    if (focused) handle.focus({ preventScroll: true });
    this.showLegend(summary);
    this.showAnswer(summary);
    this.placeWindow();
    if (!this.twin.hidden) this.showTable(summary);
  }

  private axis(y: Scale, low: number, high: number, box: typeof TOP, title: string): Node[] {
    const right = this.width - RIGHT;
    const parts: Node[] = [s("text", { class: "what", x: LEFT, y: box.y - 7 }, title)];
    for (const value of ticks(low, high, Math.max(2, box.height / 36))) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(s("line", { class: value === 0 ? "zero" : "grid", x1: LEFT, x2: right, y1: at, y2: at }));
      parts.push(s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, show(value)));
    }
    return parts;
  }

  private traces(): Node[] {
    const { blocks, meta, shown } = this;
    const size = blockCount(blocks);
    const finite: number[] = [];
    for (let c = 0; c < blocks.chains; c++) {
      if (!shown[c]) continue;
      for (let k = 0; k < size; k++) finite.push(blocks.low[c * size + k], blocks.high[c * size + k]);
    }
    // A chain that ran away must not flatten the rest: 0.2 % may be cut at either end.
    let low = Math.min(0, quantile(finite, 0.002));
    let high = Math.max(0, quantile(finite, 0.998));
    if (high <= low) [low, high] = [low - 0.5, high + 0.5];
    const pad = 0.04 * (high - low);
    const y = scale([low - pad, high + pad], [TOP.y + TOP.height, TOP.y]);
    const clip = (v: number) => Math.max(low - pad, Math.min(high + pad, v));
    const parts = this.axis(y, low, high, TOP, "Loss of each batch minus its loss at w*");
    parts.push(s("rect", { class: "shade", x: LEFT, y: TOP.y, width: Math.max(0, this.x(this.burnin) - LEFT), height: TOP.height }));
    for (const step of ticks(0, meta.steps, Math.max(2, this.width / 130))) {
      if (step <= meta.steps) parts.push(s("text", { x: this.x(step), y: LOW.y + LOW.height + 17, "text-anchor": "middle" }, String(step)));
    }
    parts.push(s("text", { x: LEFT - 8, y: LOW.y + LOW.height + 17, "text-anchor": "end" }, "step"));
    meta.chains.forEach((chain, c) => {
      if (!shown[c]) return;
      const points: [number, number][] = [];
      for (let k = 0; k < size; k++) {
        const at = c * size + k;
        const step = (blocks.edges[k] + blocks.edges[k + 1]) / 2;
        points.push([this.x(step), y(clip(blocks.low[at]))]);
        if (blocks.high[at] !== blocks.low[at]) points.push([this.x(step), y(clip(blocks.high[at]))]);
      }
      const alpha = chain.excluded ? 0.45 : 0.9;
      parts.push(s("path", { class: `trace k${c % 8}`, d: line(points), "stroke-opacity": alpha, "stroke-dasharray": DASHES[c % 8] }, s("title", {}, chain.label)));
    });
    return parts;
  }

  private runningPanel(summary: Summary): Node[] {
    const points = running(this.blocks, this.meta.nbeta, this.used, this.first);
    const error = this.error(summary);
    const band = points.map((p) => 2 * error * Math.sqrt(summary.steps / p.steps));
    const late = points.slice(Math.floor(points.length / 20));
    const spread = late.map((p, i) => band[i + points.length - late.length] || 0);
    let low = quantile(late.map((p, i) => p.mean - spread[i]), 0.01);
    let high = quantile(late.map((p, i) => p.mean + spread[i]), 0.99);
    const truth = this.meta.truth ?? null;
    if (truth !== null) [low, high] = [Math.min(low, truth), Math.max(high, truth)];
    if (low > 0 && low < high * 0.5) low = 0;
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const pad = 0.08 * (high - low);
    const y = scale([low - pad, high + pad], [LOW.y + LOW.height, LOW.y]);
    const clip = (v: number) => Math.max(low - pad, Math.min(high + pad, v));
    const parts = this.axis(y, low, high, LOW, "LLC from the burn-in up to each step, with 2 standard errors");
    parts.push(s("rect", { class: "shade", x: LEFT, y: LOW.y, width: Math.max(0, this.x(this.burnin) - LEFT), height: LOW.height }));
    if (Number.isFinite(error)) {
      const up = points.map((p, i) => [this.x(p.step), y(clip(p.mean + band[i]))] as const);
      const down = points.map((p, i) => [this.x(p.step), y(clip(p.mean - band[i]))] as const).reverse();
      if (points.length > 1) parts.push(s("path", { class: "band", d: line([...up, ...down]) + "Z" }));
    }
    parts.push(s("path", { class: "mean", d: line(points.map((p) => [this.x(p.step), y(clip(p.mean))] as const)) }));
    if (truth !== null) {
      parts.push(s("line", { class: "truth", x1: LEFT, x2: this.width - RIGHT, y1: y(truth), y2: y(truth) }, s("title", {}, `known: ${show(truth, false, 4)}`)));
      parts.push(s("text", { class: "truth", x: this.width - RIGHT, y: y(truth) - 5, "text-anchor": "end" }, `known answer ${show(truth, false, 4)}`));
    }
    return parts;
  }

  private handle(): SVGGElement {
    const at = this.x(this.burnin);
    const bottom = LOW.y + LOW.height;
    const text = `burn-in ${this.burnin} steps`;
    return s(
      "g",
      { class: "handle", role: "slider", tabindex: 0, "aria-label": "Burn-in", "aria-valuemin": 0, "aria-valuemax": this.meta.steps - 1, "aria-valuenow": this.burnin, "aria-valuetext": text },
      s("title", {}, `${text}: drag, or use the arrow keys`),
      s("rect", { class: "hit", x: at - 9, y: TOP.y - 4, width: 18, height: bottom - TOP.y + 8 }),
      s("line", { x1: at, x2: at, y1: TOP.y - 2, y2: bottom }),
      s("rect", { class: "grip", x: at - 5, y: TOP.y + TOP.height / 2 - 12, width: 10, height: 24, rx: 3 }),
    );
  }

  /** Python's own standard error where it knows this burn-in and these chains, else batch means. */
  private exact(): Estimate | null {
    const given = this.props.model.get("estimate") as Estimate;
    const all = this.meta.chains.every((chain, k) => !!chain.excluded || this.used[k]);
    return given && all && !given.problem && given.burnin === this.burnin && given.mean !== null ? given : null;
  }

  private error(summary: Summary): number {
    return this.exact()?.mcse ?? summary.mcse;
  }

  private showAnswer(summary: Summary): void {
    const exact = this.exact();
    const count = this.used.filter(Boolean).length;
    const kinds = new Set(this.meta.nbeta.filter((_, k) => this.used[k]));
    if (kinds.size > 1) {
      fill(this.answer, "No pooled LLC ", h("small", {}, "the chains have different temperatures; see the table"));
      return;
    }
    const error = this.error(summary);
    const mean = exact?.mean ?? summary.mean;
    const bounds = exact?.interval?.every((v) => v !== null)
      ? `95 % interval ${show(exact.interval[0]!)} to ${show(exact.interval[1]!)}`
      : "standard error by batch means, computed in the page";
    const few = count < this.meta.chains.length ? `, ${count} of ${this.meta.chains.length} chains` : "";
    fill(
      this.answer,
      Number.isFinite(mean) ? `LLC ${show(mean)} \u00b1 ${Number.isFinite(error) ? show(error, false, 2) : "?"} ` : "No LLC: nothing after the burn-in ",
      h("small", {}, `${bounds}; burn-in ${this.burnin}${few}`),
    );
    const width = this.blocks.edges[1] ? Math.max(...[0, 1].map((k) => (this.blocks.edges[k + 1] ?? 0) - this.blocks.edges[k] || 0)) : 1;
    fill(
      this.foot,
      `Chains start at w*, where the difference is 0. ${this.meta.steps} steps` +
        (width > 1 ? `, drawn as the least and the greatest of every ${width}; the burn-in moves by ${width} steps` : "") +
        `. Component: ${this.meta.component}. Drag over the traces to measure a window.`,
    );
  }

  private showLegend(summary: Summary): void {
    const shown = this.shown;
    fill(
      this.legend,
      ...this.meta.chains.map((chain, k) => {
        const sample = s("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, s("path", { d: "M0 4H22", "stroke-dasharray": DASHES[k % 8] }));
        const each = summary.each[k];
        const value = !Number.isFinite(each) ? "no value" : Math.abs(each) < 1e4 ? each.toPrecision(3).replace("-", "\u2212") : show(each);
        return h(
          "button",
          { class: `k${k % 8}`, "aria-pressed": String(shown[k]), title: chain.excluded || `LLC of ${chain.label}: ${value}`, onclick: () => this.toggle(k) },
          sample,
          `${chain.label}${chain.excluded ? " \u2715 diverged" : `: ${value}`}`,
        );
      }),
    );
  }

  private toggle(k: number): void {
    const hidden: number[] = this.props.model.get("hidden") ?? [];
    const rest = hidden.filter((other) => other !== k);
    this.set("hidden", rest.length === hidden.length ? [...hidden, k].sort((a, b) => a - b) : rest);
    this.legend.querySelectorAll("button")[k]?.focus();
  }

  private step(event: PointerEvent): number {
    const box = this.plot.getBoundingClientRect();
    return this.x.invert((event.clientX - box.left) * (this.width / box.width));
  }

  private setBurnin(step: number): void {
    const { edges } = this.blocks;
    const k = Math.min(nearestEdge(this.blocks, step), blockCount(this.blocks) - 1);
    if (edges[k] !== this.burnin) this.set("burnin", edges[k]);
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0) return;
    const onHandle = (event.target as Element).closest?.(".handle");
    this.moving = { kind: onHandle ? "burnin" : "window", from: this.step(event) };
    this.plot.setPointerCapture(event.pointerId);
    if (onHandle) (onHandle as SVGElement).focus({ preventScroll: true });
    event.preventDefault();
  }

  private pointer(event: PointerEvent): void {
    const step = this.step(event);
    if (this.moving?.kind === "burnin") this.setBurnin(step);
    else if (this.moving) this.placeWindow(this.span(this.moving.from, step));
    else this.look(Math.max(0, nearestEdge(this.blocks, step - this.blocks.edges[1] / 2)), event);
  }

  private release(event: PointerEvent): void {
    const moving = this.moving;
    this.moving = null;
    if (moving?.kind !== "window") return;
    const moved = Math.abs(this.x(this.step(event)) - this.x(moving.from)) > 4;
    this.set("window", moved ? this.span(moving.from, this.step(event)) : null);
  }

  private span(a: number, b: number): [number, number] {
    const { edges } = this.blocks;
    const [first, last] = [a, b].sort((p, q) => p - q).map((v) => nearestEdge(this.blocks, v));
    return [edges[first], edges[Math.max(last, first + 1)] ?? this.meta.steps];
  }

  private placeWindow(given?: [number, number] | null): void {
    const span = given ?? (this.props.model.get("window") as [number, number] | null);
    const rect = this.windowRect;
    rect.setAttribute("visibility", span ? "visible" : "hidden");
    if (!span) return;
    const [a, b] = span;
    rect.setAttribute("x", String(this.x(a)));
    rect.setAttribute("width", String(Math.max(1, this.x(b) - this.x(a))));
    rect.setAttribute("y", String(TOP.y));
    rect.setAttribute("height", String(LOW.y + LOW.height - TOP.y));
    const found = summarize(this.blocks, this.meta.nbeta, this.used, nearestEdge(this.blocks, a), nearestEdge(this.blocks, b));
    const error = Number.isFinite(found.mcse) ? ` \u00b1 ${show(found.mcse, false, 2)} (batch means)` : "";
    this.foot.textContent = `Window: steps ${a} to ${b - 1}, LLC ${show(found.mean)}${error}. Escape or a click clears it.`;
  }

  private look(k: number, event?: PointerEvent): void {
    const { blocks } = this;
    this.at = Math.min(k, blockCount(blocks) - 1);
    this.cursorLine.setAttribute("visibility", k < 0 ? "hidden" : "visible");
    this.tip.hidden = k < 0;
    if (k < 0) return;
    const size = blockCount(blocks);
    const x = this.x((blocks.edges[this.at] + blocks.edges[this.at + 1]) / 2);
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: TOP.y, y2: LOW.y + LOW.height })) this.cursorLine.setAttribute(name, String(value));
    const last = blocks.edges[this.at + 1] - 1;
    const where = last > blocks.edges[this.at] ? `steps ${blocks.edges[this.at]} to ${last}` : `step ${last}`;
    const rows = this.meta.chains.flatMap((chain, c) => (this.shown[c] ? [[c, `${chain.label}: ${show(blocks.mean[c * size + this.at], true)}`] as const] : []));
    fill(this.tip, where, ...rows.map(([c, text]) => h("div", { class: `k${c % 8}` }, text)));
    this.tip.style.top = `${TOP.y}px`;
    this.tip.style.left = x > this.width / 2 ? "" : `${x + 12}px`;
    this.tip.style.right = x > this.width / 2 ? `${this.width - x + 12}px` : "";
    if (!event) this.said.textContent = [where, ...rows.map(([, text]) => text)].join(", ");
  }

  private key(event: KeyboardEvent): void {
    const far = event.shiftKey ? 10 : 1;
    const k = nearestEdge(this.blocks, this.burnin);
    const to: Record<string, number> = { ArrowLeft: k - far, ArrowRight: k + far, ArrowDown: k - far, ArrowUp: k + far, PageDown: k - 50, PageUp: k + 50, Home: 0, End: blockCount(this.blocks) - 2 };
    if (event.key === "Escape") {
      this.moving = null;
      this.set("window", null);
      this.look(-1);
    } else if (event.key in to) {
      this.setBurnin(this.blocks.edges[Math.max(0, Math.min(blockCount(this.blocks) - 1, to[event.key]))]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private toggleTable(button: HTMLElement): void {
    this.twin.hidden = !this.twin.hidden;
    button.setAttribute("aria-pressed", String(!this.twin.hidden));
    if (!this.twin.hidden) this.showTable(summarize(this.blocks, this.meta.nbeta, this.used, this.first));
  }

  private showTable(summary: Summary): void {
    fill(this.twin, chainTable(this.meta, summary.each, this.used));
  }

  private save(): void {
    download("traces.csv", csv(blockRows(this.blocks, this.meta.chains)), "text/csv");
  }
}

export default mount(async (props) => {
  const meta = props.model.get("meta") as Meta;
  const data = (await unpack(meta, props.model.get("payload"))) as unknown as Blocks;
  if (props.signal?.aborted) return;
  new Traces(props, meta, { ...data, chains: meta.chains.length });
  props.el.dataset.sltReady = String(Date.now());
});
