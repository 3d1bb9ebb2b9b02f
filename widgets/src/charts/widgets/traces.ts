// TraceView: traces of every chain, the running LLC below them,
// a burn-in handle that recomputes it here, and a window to measure.
import type { RenderProps } from "../../base/afm";
import type { Shell } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { fill, h, show } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { badgeRow, BADGE_CSS } from "../badges";
import type { Badge } from "../badges";
import { burninHandle, HEIGHT, LEFT, LOW, RIGHT, runningPanel, TOP, tracePanel } from "../panels";
import { blockCount, nearestEdge, running, summarize } from "../series";
import type { Blocks, Summary } from "../series";
import { blockRows, chainTable } from "../tables";
import type { Chain } from "../tables";
import { CHAIN_CSS, DASHES, s, scale } from "../../base/svg";
import type { Scale } from "../../base/svg";
import css from "../styles/traces.css";

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

class Traces {
  private readonly shell: Shell;
  private readonly root = h("div", { class: "traces", role: "group" });
  private readonly answer = h("div", { class: "answer", role: "status" });
  private readonly badges = h("div", { class: "badges", role: "list", "aria-label": "Checks" });
  private readonly legend = h("div", { class: "bar chains", role: "toolbar", "aria-label": "Chains" });
  private readonly plot = h("div", { class: "plot" });
  private readonly tip = h("div", { class: "tip", hidden: true });
  private readonly said = h("div", { class: "said", "aria-live": "polite" });
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
    const shell = (this.shell = chartShell(props, this.root, "traces", CSS));
    this.root.setAttribute("aria-label", `Traces of ${meta.chains.length} chains`);
    const table = shell.tableButton(() => this.showTable(summarize(blocks, meta.nbeta, this.used, this.first)));
    const save = csvButton("traces.csv", () => blockRows(blocks, meta.chains), "The numbers behind the picture");
    fill(this.root, toolbar([this.answer], [table, save, pngButton("traces.png", this.plot)]), this.badges, this.legend, this.plot, shell.twin, this.foot, this.said);
    this.plot.addEventListener("pointermove", (event) => this.pointer(event));
    this.plot.addEventListener("pointerdown", (event) => this.press(event));
    this.plot.addEventListener("pointerup", (event) => this.release(event));
    this.plot.addEventListener("pointerleave", () => this.look(-1));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    shell.follow(["burnin", "hidden", "window", "estimate"], () => this.draw());
    shell.follow(["badges"], () => this.showBadges());
    shell.onWidth(this.plot, () => this.draw());
    this.showBadges();
    this.draw();
  }

  private get burnin(): number {
    return this.props.model.get("burnin") ?? 0;
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
    const { x, width, burnin } = this;
    const frame = { x, width, burnin, steps: meta.steps };
    const points = running(blocks, meta.nbeta, this.used, this.first);
    const handle = burninHandle(frame);
    const svg = s(
      "svg",
      { class: "chart", viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT, role: "group", "aria-label": "Traces and running LLC" },
      ...tracePanel(frame, blocks, meta.chains, this.shown),
      ...runningPanel(frame, points, this.error(summary), summary.steps, meta.truth ?? null),
      this.windowRect,
      this.cursorLine,
      handle,
    );
    fill(this.plot, svg, this.tip);
    if (focused) handle.focus({ preventScroll: true });
    this.showLegend(summary);
    this.showAnswer(summary);
    this.placeWindow();
    this.shell.refreshTable();
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
        (width > 1 ? `, drawn as the minimum and maximum of every ${width}; the burn-in moves by ${width} steps` : "") +
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
    this.shell.set("hidden", rest.length === hidden.length ? [...hidden, k].sort((a, b) => a - b) : rest);
    this.legend.querySelectorAll("button")[k]?.focus();
  }

  private step(event: PointerEvent): number {
    const box = this.plot.getBoundingClientRect();
    return this.x.invert((event.clientX - box.left) * (this.width / box.width));
  }

  private setBurnin(step: number): void {
    const { edges } = this.blocks;
    const k = Math.min(nearestEdge(this.blocks, step), blockCount(this.blocks) - 1);
    if (edges[k] !== this.burnin) this.shell.set("burnin", edges[k]);
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
    this.shell.set("window", moved ? this.span(moving.from, this.step(event)) : null);
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
      this.shell.set("window", null);
      this.look(-1);
    } else if (event.key in to) {
      this.setBurnin(this.blocks.edges[Math.max(0, Math.min(blockCount(this.blocks) - 1, to[event.key]))]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private showTable(summary: Summary): void {
    fill(this.shell.twin, chainTable(this.meta, summary.each, this.used));
  }
}

export default mountData<Meta>((props, meta, data) => {
  new Traces(props, meta, { ...(data as unknown as Blocks), chains: meta.chains.length });
});
