// SamplerBenchmark: error and order against the step,
// estimates against the truth beside them; the step that is chosen on the left filters the right.
import type { RenderProps } from "../../base/afm";
import type { Rows, Shell } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { fill, h, show, table } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { orderPreservation, spread } from "../order";
import { CHAIN_CSS, DASHES, line, s, scale } from "../../base/svg";
import type { Scale } from "../../base/svg";
import css from "../styles/samplers.css";

interface Problem {
  name: string;
  parameters: number;
  certified: boolean;
  size: string;
  note: string;
}

interface Meta extends PayloadMeta {
  samplers: string[];
  steps: number[];
  problems: Problem[];
  sizes: string[];
  about: string;
}

interface Data {
  estimate: Float32Array; // [sampler, step, problem], NaN: not finite
  mcse: Float32Array;
  truth: Float32Array;
}

const CSS = CHAIN_CSS + css;
const LEFT = 54;
const BOX = { error: { y: 22, height: 150 }, order: { y: 212, height: 92 } };
const HEIGHT = 330;
const LOW = -3; // log10 of the smallest error that is drawn
const HIGH = 1;

class Samplers {
  private readonly root = h("div", { class: "samplers", role: "group", "aria-label": "Sampler benchmark" });
  private readonly chips = h("div", { class: "bar chips", role: "toolbar", "aria-label": "Samplers" });
  private readonly left = h("div", { class: "plot" });
  private readonly right = h("div", { class: "plot" });
  private readonly now = h("p", { class: "said-now", role: "status" });
  private readonly shell: Shell;
  private readonly which = h("select", { "aria-label": "Networks", onchange: () => this.draw() });
  private hidden = new Set<number>();
  private pinned = -1;
  private x!: Scale;
  private width = 0;
  private dragging = false;

  constructor(
    props: RenderProps,
    private readonly meta: Meta,
    private readonly data: Data,
  ) {
    const shell = (this.shell = chartShell(props, this.root, "samplers", CSS));
    const kinds = ["all networks", "certified only", ...(meta.sizes.length > 1 ? meta.sizes.flatMap((size) => [`class ${size}`, `class ${size}, certified`]) : [])];
    fill(this.which, ...kinds.map((kind) => h("option", { value: kind }, kind)));
    if (meta.problems.some((p) => p.certified)) this.which.value = "certified only";
    const buttons = [shell.tableButton(() => this.showTable()), csvButton("samplers.csv", () => this.rows()), pngButton("samplers.png", this.root)];
    fill(
      this.root,
      toolbar([h("span.title", {}, "Samplers against the known answer"), this.which], buttons),
      this.chips,
      h("div", { class: "two" }, this.left, h("div", {}, this.right, this.now)),
      shell.twin,
      h("p", { class: "foot" }, `${meta.about} Lines: median of the absolute relative error over the networks, with the quartiles; non-finite estimates count as infinite. Drag the blue line, or use its arrow keys, to choose a step size; click a network to follow it. Open circles are not certified. \u00b1 is the Monte Carlo error.`),
    );
    this.left.addEventListener("pointerdown", (event) => {
      this.dragging = true;
      this.left.setPointerCapture(event.pointerId);
      this.moveTo(event);
    });
    this.left.addEventListener("pointermove", (event) => this.dragging && this.moveTo(event));
    this.left.addEventListener("pointerup", () => (this.dragging = false));
    this.left.addEventListener("keydown", (event) => this.key(event));
    shell.follow(["step"], () => this.draw());
    shell.onWidth(this.left, () => this.draw());
    this.draw();
  }

  private get step(): number {
    return Math.max(0, Math.min(this.meta.steps.length - 1, this.shell.get<number>("step") ?? 0));
  }

  private set step(k: number) {
    this.shell.set("step", Math.max(0, Math.min(this.meta.steps.length - 1, k)));
  }

  private get subset(): number[] {
    const kind = this.which.value;
    const size = kind.startsWith("class ") ? kind.slice(6).split(",")[0] : "";
    const sure = kind.includes("certified");
    return this.meta.problems.flatMap((p, k) => ((!sure || p.certified) && (!size || p.size === size) ? [k] : []));
  }

  private value(sampler: number, step: number, problem: number): number {
    const { steps, problems } = this.meta;
    return this.data.estimate[(sampler * steps.length + step) * problems.length + problem];
  }

  /** "118 ± 2", with the Monte Carlo error, or that it is not finite. */
  private written(sampler: number, step: number, problem: number): string {
    const value = this.value(sampler, step, problem);
    const { steps, problems } = this.meta;
    const error = this.data.mcse[(sampler * steps.length + step) * problems.length + problem];
    return Number.isFinite(value) ? `${show(value, false, 4)} \u00b1 ${show(error, false, 2)}` : "not finite";
  }

  private errors(sampler: number, step: number, subset: number[]): number[] {
    return subset.map((p) => {
      const found = Math.abs(this.value(sampler, step, p) / this.data.truth[p] - 1);
      return Number.isNaN(found) ? Infinity : found;
    });
  }

  private draw(): void {
    this.width = this.left.clientWidth || 440;
    const focused = document.activeElement?.getAttribute("role") === "slider" && this.root.contains(document.activeElement);
    this.drawChips();
    this.drawLeft();
    this.drawRight();
    if (focused) this.left.querySelector<SVGElement>('[role="slider"]')?.focus({ preventScroll: true });
    this.shell.refreshTable();
  }

  private drawChips(): void {
    const subset = this.subset;
    fill(
      this.chips,
      ...this.meta.samplers.map((name, k) => {
        const median = spread(this.errors(k, this.step, subset)).median;
        const sample = s("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, s("path", { d: "M0 4H22", "stroke-dasharray": DASHES[k % 8] }));
        const said = Number.isFinite(median) ? `${show(100 * median)} %` : "not finite";
        return h(
          "button",
          { class: `k${k % 8}`, "aria-pressed": String(!this.hidden.has(k)), title: `Median error at this step: ${said}`, onclick: () => { this.hidden.has(k) ? this.hidden.delete(k) : this.hidden.add(k); this.draw(); this.chips.querySelectorAll("button")[k]?.focus(); } },
          sample,
          `${name}: ${said}`,
        );
      }),
    );
  }

  private drawLeft(): void {
    const { steps, samplers } = this.meta;
    const subset = this.subset;
    const right = this.width - 12;
    const logs = steps.map(Math.log10);
    this.x = scale([logs[0], logs[logs.length - 1]], [LEFT + 8, right - 8]);
    const yError = scale([LOW, HIGH], [BOX.error.y + BOX.error.height, BOX.error.y]);
    const yOrder = scale([0, 1], [BOX.order.y + BOX.order.height, BOX.order.y]);
    const inside = (error: number) => Math.max(LOW, Math.min(HIGH, Math.log10(Math.max(error, 1e-9))));
    const parts: Node[] = [
      s("text", { class: "what", x: LEFT, y: 13 }, `Absolute relative error, ${subset.length} networks`),
      s("text", { class: "what", x: LEFT, y: BOX.order.y - 10 }, "Order preservation (share of pairs)"),
    ];
    for (let power = LOW; power <= HIGH; power++) {
      const text = power < 0 ? `${10 ** (power + 2)} %` : power === 0 ? "100 %" : `\u2265 ${10 ** (power + 2)} %`;
      parts.push(s("line", { class: "grid", x1: LEFT, x2: right, y1: yError(power), y2: yError(power) }));
      parts.push(s("text", { x: LEFT - 6, y: yError(power) + 4, "text-anchor": "end" }, text));
    }
    for (const value of [0, 0.5, 1]) {
      parts.push(s("line", { class: "grid", x1: LEFT, x2: right, y1: yOrder(value), y2: yOrder(value) }));
      parts.push(s("text", { x: LEFT - 6, y: yOrder(value) + 4, "text-anchor": "end" }, String(value)));
    }
    for (let k = Math.ceil(logs[0] - 1e-9); k <= logs[logs.length - 1] + 1e-9; k++) parts.push(s("text", { x: this.x(k), y: HEIGHT - 4, "text-anchor": "middle" }, `1e\u2212${-k}`));
    parts.push(s("text", { x: LEFT - 14, y: HEIGHT - 4, "text-anchor": "end" }, "step"));
    samplers.forEach((name, k) => {
      if (this.hidden.has(k)) return;
      const found = steps.map((_, j) => spread(this.errors(k, j, subset)));
      const up = found.map((f, j) => [this.x(logs[j]), yError(inside(f.upper))] as const);
      const down = found.map((f, j) => [this.x(logs[j]), yError(inside(f.lower))] as const).reverse();
      const truth = subset.map((p) => this.data.truth[p]);
      const order = steps.map((_, j) => orderPreservation(subset.map((p) => this.value(k, j, p)), truth));
      parts.push(
        s(
          "g",
          { class: `k${k % 8}` },
          s("path", { class: "band", d: `${line([...up, ...down])}Z` }),
          s("path", { class: "curve", d: line(found.map((f, j) => [this.x(logs[j]), yError(inside(f.median))] as const)), "stroke-dasharray": DASHES[k % 8] }, s("title", {}, name)),
          s("path", { class: "curve", d: line(order.map((v, j) => [this.x(logs[j]), yOrder(v)] as const)), "stroke-dasharray": DASHES[k % 8] }, s("title", {}, name)),
        ),
      );
    });
    const at = this.x(logs[this.step]);
    const bottom = BOX.order.y + BOX.order.height;
    const said = `step size ${show(steps[this.step])}`;
    parts.push(
      s(
        "g",
        { class: "handle", role: "slider", tabindex: 0, "aria-label": "Step size", "aria-valuemin": 0, "aria-valuemax": steps.length - 1, "aria-valuenow": this.step, "aria-valuetext": said },
        s("title", {}, said),
        s("line", { class: "cursor", x1: at, x2: at, y1: BOX.error.y, y2: bottom }),
        s("rect", { class: "hit", x: at - 9, y: BOX.error.y, width: 18, height: bottom - BOX.error.y }),
        s("rect", { class: "grip", x: at - 5, y: BOX.error.y + BOX.error.height + 6, width: 10, height: 18, rx: 3 }),
      ),
    );
    fill(this.left, s("svg", { class: "chart", role: "group", "aria-label": "Error and order preservation against the step size", viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT }, ...parts));
  }

  private drawRight(): void {
    const { samplers, problems, steps } = this.meta;
    const { truth } = this.data;
    const subset = this.subset;
    const logs = subset.map((p) => Math.log10(truth[p]));
    const low = Math.floor(4 * Math.min(...logs, 9)) / 4 - 0.1;
    const high = Math.ceil(4 * Math.max(...logs, low + 0.5)) / 4 + 0.1;
    const right = this.width - 12;
    const x = scale([low, high], [LEFT, right]);
    const y = scale([low, high], [HEIGHT - 40, 22]);
    const clip = (v: number) => Math.max(low, Math.min(high, v));
    const parts: Node[] = [s("text", { class: "what", x: LEFT, y: 13 }, `Estimate against the true coefficient, step ${show(steps[this.step])}`)];
    for (const tick of [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7]) {
      const log = Math.log10(tick);
      if (log < low || log > high) continue;
      parts.push(s("line", { class: "grid", x1: LEFT, x2: right, y1: y(log), y2: y(log) }), s("text", { x: LEFT - 6, y: y(log) + 4, "text-anchor": "end" }, show(tick)), s("text", { x: x(log), y: HEIGHT - 22, "text-anchor": "middle" }, show(tick)));
    }
    parts.push(s("text", { x: (LEFT + right) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, "true \u03bb (estimates outside the frame are drawn at its edge)"));
    parts.push(s("line", { class: "one", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
    let lost = 0;
    samplers.forEach((name, k) => {
      if (this.hidden.has(k)) return;
      const dots: Node[] = [];
      subset.forEach((p, i) => {
        const estimate = this.value(k, this.step, p);
        if (!Number.isFinite(estimate)) return void lost++;
        const log = estimate > 0 ? Math.log10(estimate) : low;
        const state = this.pinned < 0 ? "" : this.pinned === p ? " pin" : " dim";
        dots.push(
          s(
            "circle",
            { class: `dot${problems[p].certified ? "" : " open"}${state}`, cx: x(logs[i]), cy: y(clip(log)), r: this.pinned === p ? 5 : 3.6, "data-problem": p },
            s("title", {}, `${problems[p].name}, ${name}: ${this.written(k, this.step, p)}; true ${show(truth[p], false, 4)}`),
          ),
        );
      });
      parts.push(s("g", { class: `k${k % 8}` }, ...dots));
    });
    const svg = s("svg", { class: "chart", role: "img", "aria-label": "Estimates against the truth, both logarithmic", viewBox: `0 0 ${this.width} ${HEIGHT}`, height: HEIGHT }, ...parts);
    svg.addEventListener("click", (event) => {
      const at = (event.target as Element).closest?.("[data-problem]")?.getAttribute("data-problem");
      this.pinned = at === null || at === undefined || Number(at) === this.pinned ? -1 : Number(at);
      this.drawRight();
    });
    fill(this.right, svg);
    this.say(lost);
  }

  private say(lost: number): void {
    const { problems, samplers } = this.meta;
    if (this.pinned < 0) {
      const shown = samplers.length - this.hidden.size;
      fill(this.now, lost ? `${lost} of ${shown * this.subset.length} estimates are not finite at this step and are not drawn.` : "Every estimate at this step is finite.");
      return;
    }
    const p = problems[this.pinned];
    const found = samplers.flatMap((name, k) => (this.hidden.has(k) ? [] : [`${name} ${this.written(k, this.step, this.pinned)}`]));
    fill(this.now, `${p.name}: ${p.parameters.toLocaleString("en")} parameters, \u03bb = ${show(this.data.truth[this.pinned], false, 5)} (${p.certified ? "certified" : "not certified"}). ${found.join("; ")}. ${p.note}`);
  }

  private moveTo(event: PointerEvent): void {
    const box = this.left.getBoundingClientRect();
    const log = this.x.invert((event.clientX - box.left) * (this.width / box.width));
    const away = this.meta.steps.map((step) => Math.abs(Math.log10(step) - log));
    const k = away.indexOf(Math.min(...away));
    if (k !== this.step) this.step = k;
    this.left.querySelector<SVGElement>('[role="slider"]')?.focus({ preventScroll: true });
  }

  private key(event: KeyboardEvent): void {
    const last = this.meta.steps.length - 1;
    const to: Record<string, number> = { ArrowLeft: this.step - 1, ArrowDown: this.step - 1, ArrowRight: this.step + 1, ArrowUp: this.step + 1, Home: 0, End: last };
    if (!(event.key in to)) return;
    this.step = to[event.key];
    event.preventDefault();
    event.stopPropagation();
  }

  private rows(): Rows {
    const { samplers, steps, problems } = this.meta;
    const out: Rows = [["sampler", "step_size", "network", "parameters", "certified", "truth", "estimate", "mcse"]];
    samplers.forEach((name, k) =>
      steps.forEach((step, j) =>
        problems.forEach((p, i) => out.push([name, step, p.name, p.parameters, String(p.certified), this.data.truth[i], this.value(k, j, i), this.data.mcse[(k * steps.length + j) * problems.length + i]])),
      ),
    );
    return out;
  }

  private showTable(): void {
    const { samplers, steps } = this.meta;
    const subset = this.subset;
    const truth = subset.map((p) => this.data.truth[p]);
    const percent = (v: number) => (Number.isFinite(v) ? `${show(100 * v)} %` : "not finite");
    const body = samplers.map((name, k) => {
      const best = steps.map((_, j) => spread(this.errors(k, j, subset)).median);
      const at = best.indexOf(Math.min(...best));
      const here = spread(this.errors(k, this.step, subset)).median;
      const order = orderPreservation(subset.map((p) => this.value(k, this.step, p)), truth);
      return h("tr", {}, h("td", {}, name), h("td.num", {}, percent(here)), h("td.num", {}, show(order)), h("td.num", {}, show(steps[at])), h("td.num", {}, percent(best[at])));
    });
    fill(this.shell.twin, table(`${subset.length} networks, step size ${show(steps[this.step])}`, ["sampler", "median error#", "order preservation#", "best step#", "median error there#"], body));
  }
}

export default mountData<Meta>((props, meta, data) => {
  new Samplers(props, meta, data as unknown as Data);
});
