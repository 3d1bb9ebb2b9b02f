// NetworkBuilder: sliders for widths and ranks; the exact learning
// coefficient, its multiplicity, and whether a planted point attains it, computed in the page.
import type { RenderProps } from "../../base/afm";
import type { Shell } from "../../base/chart_shell";
import { chartShell } from "../../base/chart_shell";
import { fill, h, show } from "../../base/dom";
import { mount } from "../../base/mount";
import { certificate, learningCoefficient } from "../dln";
import { CHAIN_CSS, s, scale } from "../../base/svg";
import css from "../styles/network.css";

const CSS = CHAIN_CSS + css;
const MOST = 60;
const LAYERS = 7;

class Network {
  private readonly root = h("div", { class: "network", role: "group", "aria-label": "Build a deep linear network" });
  private readonly answer = h("p", { class: "answer", role: "status" });
  private readonly controls = h("div");
  private readonly picture = h("div");
  private readonly proof = h("p", { class: "proof" });
  private readonly code = h("code");
  private readonly shell: Shell;

  constructor(props: RenderProps) {
    const shell = (this.shell = chartShell(props, this.root, "network", CSS));
    fill(
      this.root,
      this.answer,
      h("div", { class: "two" }, this.controls, h("div", {}, this.picture, this.proof)),
      h("p", { class: "foot" }, "Blue: the layers in the set \u03a3 of the formula (the narrowest, after subtracting the rank). Try it: ", this.code),
    );
    shell.follow(["widths", "ranks"], () => this.draw());
    shell.onWidth(this.picture, () => this.drawPicture());
    this.build();
    this.draw();
  }

  private get widths(): number[] {
    return this.shell.get("widths");
  }

  private get ranks(): number[] {
    const { widths } = this;
    return this.shell.get<number[]>("ranks").map((rank, k) => Math.min(rank, widths[k], widths[k + 1]));
  }

  private set(widths: number[], ranks: number[]): void {
    const fitting = ranks.map((rank, k) => Math.min(rank, widths[k], widths[k + 1]));
    this.shell.set("widths", widths);
    this.shell.set("ranks", fitting);
  }

  private slider(name: string, value: number, low: number, high: number, change: (value: number) => void): HTMLElement {
    const said = h("output", {}, value);
    const input = h("input", { type: "range", min: low, max: high, step: 1, "aria-label": name, oninput: () => { said.textContent = input.value; change(Number(input.value)); } });
    input.value = String(value);
    return h("label", { class: "row" }, h("span", {}, name), input, said);
  }

  /** The sliders, made anew only when the number of layers changes: a slider in use must stay. */
  private build(): void {
    const { widths, ranks } = this;
    const last = widths.length - 1;
    const name = (k: number) => (k === 0 ? "input" : k === last ? "output" : `hidden ${k}`);
    fill(
      this.controls,
      this.slider("layers", last, 1, LAYERS, (count) => {
        const now = this.widths;
        const grown = [...now.slice(0, -1), ...Array(LAYERS).fill(now[now.length - 2] ?? 8)].slice(0, count).concat(now[now.length - 1]);
        const full = grown.slice(1).map((width, k) => Math.min(width, grown[k]));
        this.set(grown, full.map((top, k) => (k < this.ranks.length - 1 ? Math.min(top, this.ranks[k]) : top)));
        this.build();
        this.controls.querySelector("input")?.focus();
      }),
      h("p", { class: "quiet" }, "Widths"),
      ...widths.map((width, k) => this.slider(name(k), width, 1, MOST, (value) => {
        const next = [...this.widths];
        // A layer of full rank stays one of full rank.
        const full = this.ranks.map((rank, j) => rank === Math.min(next[j], next[j + 1]));
        next[k] = value;
        this.set(next, this.ranks.map((rank, j) => (full[j] ? Math.min(next[j], next[j + 1]) : rank)));
        this.refreshRanks();
      })),
      h("p", { class: "quiet" }, "Rank of each weight matrix"),
      ...ranks.map((rank, k) => this.slider(`W${k + 1}`, rank, 0, Math.min(widths[k], widths[k + 1]), (value) => {
        const next = [...this.ranks];
        next[k] = value;
        this.set(this.widths, next);
      })),
    );
  }

  private refreshRanks(): void {
    const { widths, ranks } = this;
    const rows = [...this.controls.querySelectorAll<HTMLLabelElement>("label.row")].slice(1 + widths.length);
    rows.forEach((row, k) => {
      const input = row.querySelector("input")!;
      input.max = String(Math.min(widths[k], widths[k + 1]));
      input.value = String(ranks[k]);
      row.querySelector("output")!.textContent = String(ranks[k]);
    });
  }

  private draw(): void {
    const { widths, ranks } = this;
    if (ranks.length !== widths.length - 1) return; // one of the two is still on its way
    if (this.controls.querySelectorAll("label.row").length !== 2 * widths.length) this.build();
    const proof = certificate(widths, ranks);
    const found = learningCoefficient(widths, proof.rank);
    const d = widths.slice(1).reduce((sum, width, k) => sum + width * widths[k], 0);
    fill(
      this.answer,
      `\u03bb = ${show(found.value, false, 6)}, multiplicity ${found.multiplicity} `,
      h("small", {}, `of a truth of rank ${proof.rank}; ${d.toLocaleString("en")} parameters, so a regular model would have ${show(d / 2, false, 6)}`),
    );
    this.proof.textContent = proof.certified
      ? `\u2713 Certified: the point is smooth, half the rank of its Jacobian is ${show(proof.local, false, 6)}, and that is \u03bb. An estimate here has a known answer.`
      : proof.smooth
        ? `The point is smooth, and its own coefficient is half the rank of its Jacobian, ${show(proof.local, false, 6)}: more than the \u03bb of the whole space, ${show(found.value, false, 6)}. A sampler that stays near it finds the former.`
        : `\u2715 Not certified: the point is degenerate. Half the rank of its Jacobian, ${show(proof.local, false, 6)}, bounds its coefficient from below, and nothing here proves that it attains ${show(found.value, false, 6)}.`;
    this.code.textContent = `slt.benchmarks.network([${widths.join(", ")}], [${ranks.join(", ")}])`;
    this.drawPicture();
  }

  private drawPicture(): void {
    const { widths, ranks } = this;
    const proof = certificate(widths, ranks);
    const found = learningCoefficient(widths, proof.rank);
    const width = Math.max(240, this.picture.clientWidth || 420);
    const x = scale([0, Math.max(1, widths.length - 1)], [34, width - 34]);
    const tall = (value: number) => 8 + (96 * value) / Math.max(...widths, 1);
    const middle = 66;
    const parts: Node[] = [];
    ranks.forEach((rank, k) => {
      const thick = tall(rank) - 8;
      parts.push(s("path", { class: "wire", d: `M${x(k)} ${middle - thick / 2}L${x(k + 1)} ${middle - thick / 2}L${x(k + 1)} ${middle + thick / 2}L${x(k)} ${middle + thick / 2}Z` }));
      parts.push(s("text", { x: (x(k) + x(k + 1)) / 2, y: middle + 4, "text-anchor": "middle" }, `rank ${rank}`));
    });
    widths.forEach((value, k) => {
      parts.push(s("g", { class: `layer${found.chosen.includes(k) ? " in" : ""}` }, s("rect", { x: x(k) - 8, y: middle - tall(value) / 2, width: 16, height: tall(value), rx: 4 }), s("text", { class: "big", x: x(k), y: 136, "text-anchor": "middle" }, String(value))));
    });
    const d = widths.slice(1).reduce((sum, w, k) => sum + w * widths[k], 0);
    const bar = scale([0, d / 2], [0, width - 190]);
    const bars: [string, string, number][] = [["half", "d / 2", d / 2], ["lambda", "\u03bb", found.value], ["point", "at this point", proof.local]];
    bars.forEach(([name, label, value], k) => {
      const y = 152 + 20 * k;
      parts.push(s("text", { class: "big", x: 0, y: y + 11 }, label), s("rect", { class: name, x: 92, y, width: Math.max(1, bar(Math.min(value, d / 2))), height: 14, rx: 2 }), s("text", { x: 98 + bar(Math.min(value, d / 2)), y: y + 11 }, `${name === "point" && !proof.smooth ? "\u2265 " : ""}${show(value, false, 6)}`));
    });
    const label = `Widths ${widths.join(", ")}; ranks ${ranks.join(", ")}; lambda ${found.value}`;
    fill(this.picture, s("svg", { class: "chart", role: "img", "aria-label": label, viewBox: `0 0 ${width} 214`, height: 214 }, ...parts));
  }
}

export default mount((props) => {
  new Network(props);
});
