// CompressionView: loss gap against level with a
// tolerance that is dragged, the scatter that is fitted anew each time, and both over training.
import type { RenderProps } from "../../base/afm";
import type { Rows, Shell } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import { fill, h, show, table } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { chosenData, criticalName } from "../compression_data";
import type { Chosen, Criticals, Meta, Subject } from "../compression_data";
import { fitLine, interval, r2, spearman } from "../fit";
import { axis, extent, frame } from "../plane";
import type { Axis } from "../plane";
import { CHAIN_CSS, line, s } from "../../base/svg";
import css from "../styles/compression.css";

const CSS = CHAIN_CSS + css;
const W = 400;
const H = 300;
const BOX = { left: 52, right: W - 12, top: 26, bottom: H - 40 };

class Compression {
  private readonly root = h("div", { class: "compression", role: "group", "aria-label": "Complexity against compression" });
  private readonly answer = h("div", { class: "answer", role: "status" });
  private readonly curves = h("div", { class: "panel plot" });
  private readonly scatter = h("div", { class: "panel" });
  private readonly training = h("div", { class: "panel" });
  private readonly fits = h("div", { class: "panel" });
  private readonly foot = h("p", { class: "foot" });
  private readonly shell: Shell;
  private readonly selects: Record<string, HTMLSelectElement> = {};
  private y!: Axis;
  private dragging = false;

  constructor(
    props: RenderProps,
    private readonly meta: Meta,
    private readonly data: Record<string, ArrayLike<number>>,
  ) {
    const shell = (this.shell = chartShell(props, this.root, "compression", CSS));
    const pickers: HTMLElement[] = [];
    for (const [trait, label] of [["subject", "Model"], ["scheme", "Compression"], ["predictor", "Against"]] as const) {
      const select = h("select", { "aria-label": label, onchange: () => this.shell.set(trait, Number(select.value)) });
      this.selects[trait] = select;
      pickers.push(h("label", { class: "quiet" }, `${label} `, select));
    }
    this.selects.checkpoint = h("select", { "aria-label": "Checkpoint", onchange: () => this.shell.set("checkpoint", Number(this.selects.checkpoint.value)) });
    const table = shell.tableButton(() => this.showTable(this.criticals()));
    const bar = toolbar([...pickers, this.selects.checkpoint], [table, csvButton("compression.csv", () => [this.heads(), ...this.rows(this.criticals())]), pngButton("compression.png", this.root)]);
    fill(this.root, bar, this.answer, h("div", { class: "panels" }, this.curves, this.scatter, this.training, this.fits), shell.twin, this.foot);
    this.curves.addEventListener("pointerdown", (e) => this.press(e));
    this.curves.addEventListener("pointermove", (e) => this.drag(e));
    this.curves.addEventListener("pointerup", () => (this.dragging = false));
    this.curves.addEventListener("keydown", (e) => this.key(e));
    shell.follow(["subject", "scheme", "predictor", "tolerance", "checkpoint"], () => this.draw());
    this.draw();
  }

  private get(name: string): number {
    return this.shell.get<number>(name) ?? 0;
  }

  private get number(): number {
    return Math.min(this.get("subject"), this.meta.subjects.length - 1);
  }
  private get subject(): Subject {
    return this.meta.subjects[this.number];
  }

  /** The model and the scheme that are chosen now. */
  private get chosen(): Chosen {
    return chosenData(this.meta, this.data, this.number, Math.min(this.get("scheme"), this.subject.schemes.length - 1));
  }

  private criticals(): Criticals {
    return this.chosen.criticals(this.get("tolerance"));
  }

  private options(): void {
    const wanted: Record<string, string[]> = {
      subject: this.meta.subjects.map((one) => one.name),
      scheme: this.subject.schemes.map((one) => one.label),
      predictor: this.subject.predictors,
    };
    for (const [trait, labels] of Object.entries(wanted)) {
      const select = this.selects[trait];
      if (select.dataset.of !== labels.join()) {
        select.dataset.of = labels.join();
        fill(select, ...labels.map((label, k) => h("option", { value: k }, label)));
      }
      select.value = String(Math.min(this.get(trait), labels.length - 1));
    }
    const steps = this.subject.steps.map((step, i) => h("option", { value: i }, `step ${step}`));
    fill(this.selects.checkpoint, h("option", { value: -1 }, "no checkpoint picked"), ...steps);
    this.selects.checkpoint.value = String(this.get("checkpoint"));
  }

  private draw(): void {
    this.options();
    const found = this.criticals();
    const focused = document.activeElement?.getAttribute("role") === "slider" && this.root.contains(document.activeElement);
    this.drawCurves(found.at);
    if (focused) (this.curves.querySelector("[role=slider]") as SVGElement | null)?.focus({ preventScroll: true });
    this.drawScatter(found);
    this.drawTraining(found.at);
    this.drawFits(found.at);
    this.shell.refreshTable();
  }

  private shade(i: number): number {
    return this.subject.steps.length > 1 ? i / (this.subject.steps.length - 1) : 0;
  }

  /** What belongs to one checkpoint: coloured by its place in training, clickable. */
  private group(i: number, ...parts: Node[]): SVGGElement {
    const on = this.get("checkpoint") === i;
    return s(
      "g",
      { class: `cp${on ? " on" : ""}`, style: `--t:${this.shade(i).toFixed(3)}`, "data-step": this.subject.steps[i] },
      s("title", {}, `step ${this.subject.steps[i]}`),
      ...parts,
    );
  }

  private chart(host: HTMLElement, label: string, ...parts: Node[]): void {
    const chart = s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": label }, ...parts);
    chart.addEventListener("click", (event) => {
      const step = (event.target as Element).closest?.("[data-step]")?.getAttribute("data-step");
      if (step !== null && step !== undefined) {
        const i = this.subject.steps.indexOf(Number(step));
        this.shell.set("checkpoint", this.get("checkpoint") === i ? -1 : i);
      }
    });
    fill(host, chart);
  }

  private drawCurves(at: number[]): void {
    const { meta } = this;
    const { subject, scheme, levels, gap: gapOf } = this.chosen;
    const tolerance = this.get("tolerance");
    const x = axis(extent(levels), [BOX.left, BOX.right], scheme.log);
    const y = axis([Math.min(meta.tolerances[0] / 3, tolerance), Math.max(meta.tolerances[1] * 4, tolerance)], [BOX.bottom, BOX.top], true, 0.02);
    this.y = y;
    const parts = frame(BOX, x, y, { x: scheme.unit, y: "", what: "Loss increase (nats) at each level" });
    subject.steps.forEach((_, i) => {
      const gap = gapOf(i);
      const level = scheme.grid ? 2 ** at[i] : at[i];
      const mark = Number.isFinite(at[i]) ? [s("circle", { cx: x(level), cy: y(tolerance), r: 3.5 })] : [];
      parts.push(this.group(i, s("path", { class: "curve", d: line(levels.map((v, k) => [x(v), y(gap[k])] as const)) }), ...mark));
    });
    const place = y(tolerance);
    const text = `tolerance ${show(tolerance)} nats`;
    parts.push(
      s(
        "g",
        { class: "handle", role: "slider", tabindex: 0, "aria-label": "Tolerance", "aria-orientation": "vertical", "aria-valuemin": meta.tolerances[0], "aria-valuemax": meta.tolerances[1], "aria-valuenow": tolerance, "aria-valuetext": text },
        s("title", {}, `${text}: drag, or use the arrow keys`),
        s("rect", { class: "hit", x: BOX.left, y: place - 8, width: BOX.right - BOX.left, height: 16 }),
        s("line", { x1: BOX.left, x2: BOX.right, y1: place, y2: place }),
        s("rect", { class: "grip", x: BOX.right - 30, y: place - 5, width: 24, height: 10, rx: 3 }),
        s("text", { x: BOX.right - 36, y: place - 7, "text-anchor": "end" }, text),
      ),
    );
    this.chart(this.curves, "Loss gap against level", ...parts);
  }

  private drawScatter({ at, ends }: Criticals): void {
    const { subject, scheme, predictor, llcError } = this.chosen;
    const k = Math.min(this.get("predictor"), subject.predictors.length - 1);
    const name = subject.predictors[k];
    const value = predictor(k);
    const error = k === 0 ? llcError : value.map(() => 0);
    const x = axis(extent(value.flatMap((v, i) => [v - 2 * error[i], v + 2 * error[i]])), [BOX.left, BOX.right]);
    const y = axis(extent([...at, ...ends.flat()]), [BOX.bottom, BOX.top]);
    const parts = frame(BOX, x, y, { x: name, y: "", what: criticalName(scheme) });
    const use = at.map((v, i) => i).filter((i) => Number.isFinite(at[i]) && Number.isFinite(value[i]));
    const [px, py] = [use.map((i) => value[i]), use.map((i) => at[i])];
    if (use.length > 2) {
      const [slope, offset] = fitLine(px, py);
      const [a, b] = extent(px);
      parts.push(s("path", { class: "fit", d: line([[x(a), y(offset + slope * a)], [x(b), y(offset + slope * b)]]) }));
    }
    for (const i of use) {
      parts.push(
        this.group(
          i,
          s("line", { class: "bar", x1: x(value[i] - 2 * error[i]), x2: x(value[i] + 2 * error[i]), y1: y(at[i]), y2: y(at[i]) }),
          s("line", { class: "bar", x1: x(value[i]), x2: x(value[i]), y1: y(ends[i][0]), y2: y(ends[i][1]) }),
          s("circle", { cx: x(value[i]), cy: y(at[i]), r: 4.5 }),
        ),
      );
    }
    this.chart(this.scatter, `Critical compression against ${name}`, ...parts);
    const r = r2(px, py);
    const [low, high] = interval(px, py, r2);
    const lost = at.length - use.length;
    fill(
      this.answer,
      use.length > 3 ? `R\u00b2 ${show(r)} ` : "Too few crossings at this tolerance ",
      h("small", {}, use.length > 3 ? `(95 % ${show(low)} to ${show(high)} over ${use.length} checkpoints of one run), Spearman ${show(spearman(px, py))}; tolerance ${show(this.get("tolerance"))} nats${lost ? `; ${lost} checkpoint${lost > 1 ? "s do" : " does"} not cross it` : ""}` : ""),
    );
    const i = this.get("checkpoint");
    this.foot.textContent =
      i >= 0 && i < subject.steps.length
        ? `Step ${subject.steps[i]}: ${name} ${show(value[i])}, ${criticalName(scheme)} ${show(at[i])} (95 % over examples ${show(ends[i][0])} to ${show(ends[i][1])}).`
        : "Colour: early checkpoints blue, late ones orange. Click one to see it in every panel. Checkpoints of one run are not independent, but the intervals treat them as if they were.";
  }

  private drawTraining(at: number[]): void {
    const { subject, scheme, predictor } = this.chosen;
    const llc = predictor(0);
    const box = { ...BOX, right: W - 44 };
    const x = axis(extent(subject.steps, true), [box.left, box.right], true);
    const left = axis(extent(llc), [box.bottom, box.top]);
    const right = axis(extent(at), [box.bottom, box.top]);
    const parts = frame(box, x, left, { x: "training step", y: "", what: "Over training" });
    for (const v of [right.low + (right.high - right.low) * 0.06, (right.low + right.high) / 2, right.high - (right.high - right.low) * 0.06]) {
      parts.push(s("text", { class: "k1", x: box.right + 5, y: right(v) + 4 }, show(v)));
    }
    parts.push(s("text", { class: "k0", x: box.left + 8, y: box.top + 12 }, "\u25cf LLC"));
    parts.push(s("text", { class: "k1", x: box.left + 56, y: box.top + 12 }, `\u25cb ${criticalName(scheme)} (right)`));
    parts.push(s("path", { class: "series k0", d: line(subject.steps.map((v, i) => [x(v), left(llc[i])] as const)) }));
    parts.push(s("path", { class: "series k1", "stroke-dasharray": "5 3", d: line(subject.steps.map((v, i) => [x(v), Number.isFinite(at[i]) ? right(at[i]) : NaN] as const)) }));
    subject.steps.forEach((v, i) => {
      parts.push(this.group(i, s("circle", { cx: x(v), cy: left(llc[i]), r: 3.5 })));
    });
    this.chart(this.training, "LLC and critical compression over training", ...parts);
  }

  private drawFits(at: number[]): void {
    const { subject, predictor } = this.chosen;
    const body = subject.predictors.map((name, k) => {
      const value = predictor(k);
      const use = at.map((_, i) => i).filter((i) => Number.isFinite(at[i]) && Number.isFinite(value[i]));
      const [px, py] = [use.map((i) => value[i]), use.map((i) => at[i])];
      const [a, b] = interval(px, py, r2);
      const cells = use.length > 3 ? [show(r2(px, py)), `${show(a)} to ${show(b)}`, show(spearman(px, py))] : ["no value", "", "no value"];
      return h("tr", { class: k ? "" : "llc" }, h("th", { scope: "row" }, name), ...cells.map((text) => h("td.num", {}, text)));
    });
    fill(this.fits, table("Linear fit on each predictor", ["", "R\u00b2#", "95 %#", "Spearman#"], body));
  }

  private move(value: number): void {
    const [low, high] = this.meta.tolerances;
    const kept = Math.max(low, Math.min(high, value));
    if (kept !== this.get("tolerance")) this.shell.set("tolerance", Number(kept.toPrecision(3)));
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0 || !(event.target as Element).closest?.(".handle")) return;
    this.dragging = true;
    this.curves.setPointerCapture(event.pointerId);
    (this.curves.querySelector("[role=slider]") as SVGElement | null)?.focus({ preventScroll: true });
    event.preventDefault();
  }

  private drag(event: PointerEvent): void {
    if (!this.dragging) return;
    const box = this.curves.querySelector("svg")!.getBoundingClientRect();
    this.move(this.y.invert((event.clientY - box.top) * (H / box.height)));
  }

  private key(event: KeyboardEvent): void {
    const far = event.shiftKey ? 1.6 : 1.1;
    const now = this.get("tolerance");
    const [low, high] = this.meta.tolerances;
    const to: Record<string, number> = { ArrowUp: now * far, ArrowRight: now * far, ArrowDown: now / far, ArrowLeft: now / far, Home: low, End: high };
    if (!(event.key in to)) return;
    this.move(to[event.key]);
    event.preventDefault();
    event.stopPropagation();
  }

  private rows({ at, ends }: Criticals): Rows {
    const { subject, predictor } = this.chosen;
    const columns = subject.predictors.map((_, k) => predictor(k));
    return subject.steps.map((step, i) => [step, at[i], ends[i][0], ends[i][1], ...columns.map((c) => c[i])]);
  }

  private heads(): string[] {
    const { subject, scheme } = this.chosen;
    return ["step", criticalName(scheme), "lower", "upper", ...subject.predictors];
  }

  private showTable(found: Criticals): void {
    const body = this.rows(found).map((row) => h("tr", {}, ...row.map((v) => h("td.num", {}, typeof v === "number" ? show(v) : v))));
    fill(this.shell.twin, table(`Checkpoints at tolerance ${show(this.get("tolerance"))}`, this.heads().map((t) => `${t}#`), body));
  }
}

export default mountData<Meta>((props, meta, data) => {
  new Compression(props, meta, data);
});
