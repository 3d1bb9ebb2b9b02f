// OddsView: sliders for both losses,
// both coefficients and n; free energies, log odds and the crossover follow in the page.
import type { RenderProps } from "../../base/afm";
import type { Shell } from "../../base/chart_shell";
import { chartShell } from "../../base/chart_shell";
import { fill, h, show } from "../../base/dom";
import { mount } from "../../base/mount";
import { crossover, freeEnergy } from "../selection";
import { axis, extent, frame } from "../plane";
import { CHAIN_CSS, line, s } from "../../base/svg";
import css from "../styles/odds.css";

const CSS = CHAIN_CSS + css;
const W = 400;
const H = 290;
const BOX = { left: 60, right: W - 14, top: 26, bottom: H - 40 };

interface Knob {
  trait: string;
  index: number;
  label: string;
  low: number;
  high: number;
  log: boolean;
}

class Odds {
  private readonly root = h("div", { class: "odds", role: "group", "aria-label": "Free energy of two solutions" });
  private readonly answer = h("div", { class: "answer", role: "status" });
  private readonly sliders = h("div", { class: "sliders" });
  private readonly panels = [h("div", { class: "panel" }), h("div", { class: "panel" })];
  private readonly foot = h("p", { class: "foot" });
  private readonly shell: Shell;
  private readonly inputs: [Knob, HTMLInputElement, HTMLElement][] = [];

  constructor(props: RenderProps) {
    const shell = (this.shell = chartShell(props, this.root, "odds", CSS));
    const [u, v] = this.names;
    const [l0, l1] = this.pair("losses");
    const top = Math.max(Math.abs(l0), Math.abs(l1), 0.01) * 2;
    const most = Math.max(...this.pair("llcs"), 1) * 2;
    const knobs: Knob[] = [
      ...[u, v].map((name, index) => ({ trait: "losses", index, label: `loss of ${name} (nats)`, low: 0, high: top, log: false })),
      ...[u, v].map((name, index) => ({ trait: "llcs", index, label: `learning coefficient of ${name}`, low: 0, high: most, log: false })),
      { trait: "n", index: -1, label: "observations n", low: 10, high: 1e6, log: true },
    ];
    for (const knob of knobs) {
      const input = h("input", { type: "range", min: 0, max: 1000, "aria-label": knob.label });
      const output = h("output");
      input.addEventListener("input", () => this.turn(knob, Number(input.value) / 1000));
      this.inputs.push([knob, input, output]);
      this.sliders.append(h("label", { class: "quiet" }, knob.label), input, output);
    }
    fill(this.root, this.answer, this.sliders, h("div", { class: "panels" }, ...this.panels), this.foot);
    shell.follow(["losses", "llcs", "n"], () => this.draw());
    this.draw();
  }

  private pair(name: string): [number, number] {
    return this.shell.get(name);
  }
  private get names(): string[] {
    return this.shell.get("names");
  }

  private turn(knob: Knob, share: number): void {
    const { low, high, log } = knob;
    const value = Number((log ? low * (high / low) ** share : low + (high - low) * share).toPrecision(4));
    this.shell.set(knob.trait, knob.index < 0 ? value : this.pair(knob.trait).map((old, k) => (k === knob.index ? value : old)));
  }

  private draw(): void {
    const [losses, llcs] = [this.pair("losses"), this.pair("llcs")];
    const n = this.shell.get<number>("n");
    const [u, v] = this.names;
    for (const [knob, input, output] of this.inputs) {
      const value = knob.index < 0 ? n : this.pair(knob.trait)[knob.index];
      const share = knob.log ? Math.log(value / knob.low) / Math.log(knob.high / knob.low) : (value - knob.low) / (knob.high - knob.low);
      if (document.activeElement !== input) input.value = String(Math.round(1000 * share));
      input.setAttribute("aria-valuetext", show(value));
      output.textContent = show(value, false, 4);
    }
    const at = crossover(losses, llcs);
    const odds = (m: number) => freeEnergy(m, losses[1], llcs[1]) - freeEnergy(m, losses[0], llcs[0]);
    const wins = odds(n) > 0 ? u : v;
    fill(
      this.answer,
      `n = ${show(n, false, 4)}: ${odds(n) === 0 ? "even" : `${wins} by ${show(Math.abs(odds(n)))} nats`} `,
      h("small", {}, Number.isFinite(at) ? `crossover at n = ${show(at, false, 4)}` : "no crossover: one of them wins at every n"),
    );
    const far = Math.max(3000, 4 * n, Number.isFinite(at) ? 6 * at : 0);
    const ns = Array.from({ length: 120 }, (_, k) => 3 * (far / 3) ** (k / 119));
    const x = axis([ns[0], far], [BOX.left, BOX.right], true, 0);
    const marks = (y: (value: number) => number) => [
      s("line", { class: "now", x1: x(n), x2: x(n), y1: BOX.top, y2: BOX.bottom }),
      ...(Number.isFinite(at) ? [s("line", { class: "cross", x1: x(at), x2: x(at), y1: BOX.top, y2: BOX.bottom }), s("text", { x: x(at) + 4, y: BOX.bottom - 6 }, `n* = ${show(at, false, 4)}`)] : []),
      s("line", { class: "even", x1: BOX.left, x2: BOX.right, y1: y(0), y2: y(0) }),
    ];
    const per = [0, 1].map((k) => ns.map((m) => freeEnergy(m, losses[k], llcs[k]) / m));
    const y = axis([0, extent(per.flat().map((value) => Math.min(value, 3 * Math.max(...losses, 0.01) + per[0][60])))[1]], [BOX.bottom, BOX.top]);
    const curves = per.map((values, k) => s("path", { class: `curve k${k}`, "stroke-dasharray": k ? "6 3" : "", d: line(values.map((value, i) => [x(ns[i]), value > y.high ? NaN : y(value)] as const)) }));
    const legend = this.names.map((name, k) => s("text", { class: `name k${k}`, x: BOX.right - 4, y: BOX.top + 14 + 16 * k, "text-anchor": "end" }, `${k ? "\u2013 \u2013" : "\u2014"} ${name}`));
    this.put(0, "Free energy of each, per observation", [...frame(BOX, x, y, { x: "observations n", y: "", what: "Free energy per observation (nats)" }), ...marks(y), ...curves, ...legend]);
    const values = ns.map(odds);
    const near = [...values.filter((_, i) => ns[i] < 2.5 * Math.max(n, Number.isFinite(at) ? at : n)), 0];
    const z = axis(extent(near), [BOX.bottom, BOX.top]);
    const one = s("path", { class: "curve k0", d: line(values.map((value, i) => [x(ns[i]), value > z.high || value < z.low ? NaN : z(value)] as const)) });
    this.put(1, `Log odds of ${u} over ${v}`, [...frame(BOX, x, z, { x: "observations n", y: "", what: `Log odds of ${u} over ${v} (nats)` }), ...marks(z), one]);
    this.foot.textContent =
      "F = n L + \u03bb log n, up to O(log log n). At equal loss the lower \u03bb wins at every n; this does not say that it generalizes better. The posterior is a model of training: stochastic gradient descent is not Bayes. The curves carry no uncertainty of their own; the coefficients that you enter do.";
  }

  private put(k: number, label: string, parts: Node[]): void {
    fill(this.panels[k], s("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, ...parts));
  }
}

export default mount((props) => {
  new Odds(props);
});
