// TransienceView: loss out of distribution, the plane of the joint
// PCA and the distances to both ideal predictors, with one step for all of them.
import type { RenderProps } from "../../base/afm";
import type { Rows, Shell } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { fill, h, show, table } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { axis, extent, frame } from "../plane";
import type { Axis } from "../plane";
import { CHAIN_CSS, DASHES, line, s } from "../../base/svg";
import css from "../styles/transience.css";

interface Meta extends PayloadMeta {
  seeds: string[];
  runs: string[]; // number of tasks, "∞" for the last
  finite: boolean[]; // whether a run has a dMMSE of its own
  components: string[];
}

const CSS = CHAIN_CSS + css;
const W = 400;
const H = 300;
const BOX = { left: 52, right: W - 14, top: 26, bottom: H - 40 };

/** Five points round a circle. */
function star(x: number, y: number, r = 7): string {
  const points = Array.from({ length: 10 }, (_, k) => {
    const radius = k % 2 ? r * 0.42 : r;
    const angle = (Math.PI * k) / 5 - Math.PI / 2;
    return `${(x + radius * Math.cos(angle)).toFixed(1)} ${(y + radius * Math.sin(angle)).toFixed(1)}`;
  });
  return `M${points.join("L")}Z`;
}

const diamond = (x: number, y: number, r = 6): string => `M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z`;

class Transience {
  private readonly root = h("div", { class: "transience", role: "group", "aria-label": "Transient structure" });
  private readonly buttons = h("div", { class: "bar runs", role: "toolbar", "aria-label": "Number of tasks" });
  private readonly range = h("input", { type: "range", min: 0, "aria-label": "Checkpoint" });
  private readonly said = h("output");
  private readonly panels: HTMLElement[] = Array.from({ length: 4 }, () => h("div", { class: "panel" }));
  private readonly shell: Shell;
  private readonly foot = h("p", { class: "foot" });
  private readonly seedSelect: HTMLSelectElement;
  private readonly planeSelect: HTMLSelectElement;
  private readonly pickSelect: HTMLSelectElement;

  constructor(
    props: RenderProps,
    private readonly meta: Meta,
    private readonly data: Record<string, ArrayLike<number>>,
  ) {
    const shell = (this.shell = chartShell(props, this.root, "transience", CSS));
    this.seedSelect = h("select", { "aria-label": "Seed", onchange: () => this.shell.set("seed", Number(this.seedSelect.value)) }, ...meta.seeds.map((name, k) => h("option", { value: k }, `seed ${name}`)));
    const pairs = meta.components.flatMap((_, i) => meta.components.slice(i + 1).map((_, j) => [i, i + 1 + j]));
    this.planeSelect = h("select", { "aria-label": "Components shown", onchange: () => this.shell.set("plane", this.planeSelect.value.split(",").map(Number)) }, ...pairs.map(([i, j]) => h("option", { value: `${i},${j}` }, `${meta.components[i]} and ${meta.components[j]}`)));
    this.pickSelect = h("select", { "aria-label": "Run picked", onchange: () => this.shell.set("picked", Number(this.pickSelect.value)) }, ...meta.runs.map((_, m) => h("option", { value: m }, `picked: ${this.name(m)}`)));
    this.range.max = String(this.steps.length - 1);
    this.range.addEventListener("input", () => this.shell.set("checkpoint", Number(this.range.value)));
    const bar = toolbar([this.seedSelect, this.planeSelect, this.pickSelect], [shell.tableButton(() => this.showTable()), csvButton("transience.csv", () => this.rows()), pngButton("transience.png", this.root)]);
    const time = h("div", { class: "bar time" }, h("label", { class: "quiet" }, "Checkpoint"), this.range, this.said);
    fill(this.root, bar, this.buttons, time, h("div", { class: "panels" }, ...this.panels), shell.twin, this.foot);
    shell.follow(["seed", "hidden", "checkpoint", "picked", "plane"], () => this.draw());
    this.draw();
  }

  private get<T>(name: string): T {
    return this.shell.get<T>(name);
  }

  private get steps(): number[] {
    return Array.from(this.data.step);
  }
  private get seed(): number {
    return Math.min(this.get<number>("seed") ?? 0, this.meta.seeds.length - 1);
  }
  private get at(): number {
    return Math.max(0, Math.min(this.get<number>("checkpoint") ?? 0, this.steps.length - 1));
  }
  private get picked(): number {
    return Math.max(0, Math.min(this.get<number>("picked") ?? 0, this.meta.runs.length - 1));
  }

  private value(name: string, run: number, ...rest: number[]): number {
    const sizes = (this.meta.arrays[name].shape as number[]).slice(2);
    let index = this.seed * this.meta.runs.length + run;
    rest.forEach((at, k) => (index = index * sizes[k] + at));
    return this.data[name][index];
  }

  private series(name: string, run: number, ...rest: number[]): number[] {
    return this.steps.map((_, t) => this.value(name, run, t, ...rest));
  }

  /** Runs that this seed has and that are not switched off. */
  private get shown(): number[] {
    const hidden = this.get<number[]>("hidden") ?? [];
    return this.meta.runs.map((_, m) => m).filter((m) => !hidden.includes(m) && this.has(m));
  }
  private has(m: number): boolean {
    return Number.isFinite(this.value("ood", m, 0));
  }
  private name(m: number): string {
    return `M = ${this.meta.runs[m]}`;
  }

  /** The checkpoint of the least loss out of distribution. */
  private critical(m: number): number {
    const ood = this.series("ood", m);
    return ood.reduce((best, v, t) => (v < ood[best] ? t : best), 0);
  }

  private draw(): void {
    const { steps, at } = this;
    this.seedSelect.value = String(this.seed);
    this.planeSelect.value = (this.get<number[]>("plane") ?? [0, 1]).join();
    this.pickSelect.value = String(this.picked);
    this.range.value = String(at);
    this.range.setAttribute("aria-valuetext", `step ${steps[at]}`);
    this.said.textContent = `step ${steps[at]}`;
    this.drawButtons();
    this.drawLoss();
    this.drawPlane();
    this.drawDistances();
    this.drawTokens();
    const m = this.picked;
    const c = this.critical(m);
    const ood = this.series("ood", m);
    const end = ood[ood.length - 1];
    this.foot.textContent =
      `${this.name(m)}: lowest loss out of distribution ${show(ood[c])} at step ${steps[c]} (circle), ${show(end)} at the end (star): ` +
      `${show((end / ood[c] - 1) * 100, true, 2)} %; standard error of one value over sequences ${show(this.value("ood_se", m, c))}. ` +
      "Diamonds: dMMSE of each set of tasks; square: ridge; neither enters the PCA. Distances in the plane are not distances between functions: the third panel shows those. Click a run to pick it.";
    this.shell.refreshTable();
  }

  private drawButtons(): void {
    const hidden = this.get<number[]>("hidden") ?? [];
    fill(
      this.buttons,
      ...this.meta.runs.map((_, m) => {
        const sample = s("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, s("path", { d: "M0 4H22", "stroke-dasharray": DASHES[m % 8] }));
        const off = hidden.includes(m) || !this.has(m);
        return h("button", { class: `k${m % 8}`, "aria-pressed": String(!off), disabled: !this.has(m), title: this.has(m) ? "" : "not trained with this seed", onclick: () => this.toggle(m) }, sample, this.name(m));
      }),
    );
  }

  private toggle(m: number): void {
    const hidden = this.get<number[]>("hidden") ?? [];
    this.shell.set("hidden", hidden.includes(m) ? hidden.filter((v) => v !== m) : [...hidden, m]);
    this.buttons.querySelectorAll("button")[m]?.focus();
  }

  /** One run of a panel: its path up to now and after, the mark of t_crit, the end and the moment. */
  private run(m: number, points: [number, number][]): SVGGElement {
    const { at } = this;
    const c = this.critical(m);
    const dash = DASHES[m % 8];
    const [x, y] = points[at];
    const last = points[points.length - 1];
    const group = s(
      "g",
      { class: `run k${m % 8}${m === this.picked ? " picked" : ""}`, "data-run": m },
      s("title", {}, this.name(m)),
      s("path", { class: "run", d: line(points.slice(0, at + 1)), "stroke-dasharray": dash }),
      s("path", { class: "run later", d: line(points.slice(at)), "stroke-dasharray": dash }),
      s("circle", { class: "crit", cx: points[c][0], cy: points[c][1], r: 4.5 }),
      s("path", { class: "goal", d: star(last[0], last[1]) }),
      s("circle", { class: "now", cx: x, cy: y, r: 4.5 }),
    );
    group.addEventListener("click", () => this.shell.set("picked", m));
    return group;
  }

  private chart(k: number, label: string, parts: Node[]): void {
    fill(this.panels[k], s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, ...parts));
  }

  private drawLoss(): void {
    const { steps, shown } = this;
    const goals = shown.map((m) => this.value("dmmse_ood", m));
    const ridge = this.value("ridge_ood", this.picked);
    const x = axis(extent(steps, true), [BOX.left, BOX.right], true, 0.02);
    const y = axis(extent([...shown.flatMap((m) => this.series("ood", m)), ridge]), [BOX.bottom, BOX.top]);
    const parts = frame(BOX, x, y, { x: "training step", y: "", what: "Loss out of distribution" });
    const now = x(Math.max(steps[this.at], 1));
    parts.push(s("line", { class: "cursor", x1: now, x2: now, y1: BOX.top, y2: BOX.bottom }));
    if (ridge) parts.push(s("line", { class: "level", x1: BOX.left, x2: BOX.right, y1: y(ridge), y2: y(ridge) }), s("text", { x: BOX.left + 4, y: y(ridge) - 4 }, "ridge"));
    shown.forEach((m, i) => {
      if (this.meta.finite[m] && goals[i] <= y.high) parts.push(s("line", { class: `own k${m % 8}`, x1: BOX.right - 40, x2: BOX.right, y1: y(goals[i]), y2: y(goals[i]) }, s("title", {}, `dMMSE, ${this.name(m)}`)));
      parts.push(this.run(m, this.series("ood", m).map((v, t) => [x(Math.max(steps[t], 1)), y(v)] as [number, number])));
    });
    this.chart(0, "Loss out of distribution over training", parts);
  }

  private drawPlane(): void {
    const [a, b] = this.get<number[]>("plane") ?? [0, 1];
    const { shown, meta } = this;
    const goals = shown.filter((m) => meta.finite[m]);
    const ridge = [a, b].map((k) => this.value("ridge_score", this.picked, k));
    const of = (k: number) => [...shown.flatMap((m) => this.series("score", m, k)), ...goals.map((m) => this.value("dmmse_score", m, k)), this.value("ridge_score", this.picked, k)];
    const x = axis(extent(of(a)), [BOX.left, BOX.right]);
    const y = axis(extent(of(b)), [BOX.bottom, BOX.top]);
    const share = (k: number) => `${meta.components[k]} (${show(100 * this.data.explained[this.seed * meta.components.length + k], false, 2)} % of the variance)`;
    const parts = frame(BOX, x, y, { x: share(a), y: "", what: share(b) });
    for (const m of shown) {
      const [p, q] = [this.series("score", m, a), this.series("score", m, b)];
      parts.push(this.run(m, p.map((v, t) => [x(v), y(q[t])] as [number, number])));
    }
    for (const m of goals) {
      parts.push(s("path", { class: `goal k${m % 8}`, d: diamond(x(this.value("dmmse_score", m, a)), y(this.value("dmmse_score", m, b))) }, s("title", {}, `dMMSE, ${this.name(m)}`)));
    }
    parts.push(s("rect", { class: "ridge", x: x(ridge[0]) - 5, y: y(ridge[1]) - 5, width: 10, height: 10 }, s("title", {}, "ridge")));
    this.chart(1, "Trajectories in the plane of the joint PCA", parts);
  }

  private drawDistances(): void {
    const shown = this.shown.filter((m) => this.meta.finite[m]);
    const dm = extent(shown.flatMap((m) => this.series("to_dmmse", m)), true);
    const rg = extent(shown.flatMap((m) => this.series("to_ridge", m)), true);
    const x: Axis = axis(dm, [BOX.left, BOX.right], true);
    const y: Axis = axis(rg, [BOX.bottom, BOX.top], true);
    const parts = frame(BOX, x, y, { x: "distance to dMMSE (mean square)", y: "", what: "Distance to ridge (mean square)" });
    const [low, high] = [Math.max(x.low, y.low), Math.min(x.high, y.high)];
    if (high > low) parts.push(s("line", { class: "diagonal", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
    for (const m of shown) {
      const [p, q] = [this.series("to_dmmse", m), this.series("to_ridge", m)];
      parts.push(this.run(m, p.map((v, t) => [x(v), y(q[t])] as [number, number])));
    }
    if (!shown.length) parts.push(s("text", { x: BOX.left + 8, y: BOX.top + 20 }, "Only runs with finitely many tasks have a dMMSE of their own."));
    this.chart(2, "Distances to both ideal predictors, on the training distribution", parts);
  }

  private drawTokens(): void {
    const m = this.picked;
    const count = (this.meta.arrays.loss.shape as number[])[3];
    const of = (name: string) => Array.from({ length: count }, (_, k) => this.value(name, m, k));
    const mine = Array.from({ length: count }, (_, k) => this.value("loss", m, this.at, k));
    const [dm, rg] = [of("dmmse_loss"), of("ridge_loss")];
    const x = axis([1, count], [BOX.left, BOX.right]);
    const y = axis(extent([0, ...mine, ...dm, ...rg]), [BOX.bottom, BOX.top]);
    const parts = frame(BOX, x, y, { x: "pair k of the sequence", y: "", what: `Loss at each pair, ${this.name(m)}, step ${this.steps[this.at]}` });
    const path = (v: number[]) => line(v.map((value, k) => [x(k + 1), y(value)] as const));
    const rows: [string, number[], string][] = [["mine", mine, "\u25cf model"], ["dm", dm, "\u2013\u2013 dMMSE"], ["rg", rg, "\u00b7\u00b7 ridge"]];
    rows.forEach(([kind, values, label], i) => {
      parts.push(s("path", { class: kind, d: path(values) }));
      parts.push(s("text", { class: kind, x: BOX.right, y: BOX.top + 12 + 15 * i, "text-anchor": "end" }, label));
    });
    this.chart(3, "Loss of each pair against both predictors", parts);
  }

  private showTable(): void {
    const body = this.shown.map((m) => {
      const c = this.critical(m);
      const ood = this.series("ood", m);
      const cells = [ood[c], this.steps[c], ood[ood.length - 1], ood[this.at], this.value("to_dmmse", m, this.at), this.value("to_ridge", m, this.at)];
      return h("tr", {}, h("th", { scope: "row" }, this.name(m)), ...cells.map((v) => h("td.num", {}, show(v))));
    });
    const heads = ["run", "lowest OOD loss#", "at step#", "OOD loss at the end#", `at step ${this.steps[this.at]}#`, "to dMMSE#", "to ridge#"];
    fill(this.shell.twin, table(`Runs of seed ${this.meta.seeds[this.seed]}`, heads, body));
  }

  private rows(): Rows {
    const rows: Rows = [["tasks", "step", "ood", "to_dmmse", "to_ridge", ...this.meta.components]];
    for (const m of this.shown) {
      this.steps.forEach((step, t) => {
        const scores = this.meta.components.map((_, k) => this.value("score", m, t, k));
        rows.push([this.meta.runs[m], step, this.value("ood", m, t), this.value("to_dmmse", m, t), this.value("to_ridge", m, t), ...scores]);
      });
    }
    return rows;
  }
}

export default mountData<Meta>((props, meta, data) => {
  new Transience(props, meta, data);
});
