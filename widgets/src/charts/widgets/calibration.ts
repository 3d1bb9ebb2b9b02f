// CalibrationView: the settings that were tried; a click opens the traces of one.
import type { RenderProps } from "../../base/afm";
import type { Rows, Shell } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { fill, h, show, table } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { quantile, ticks } from "../series";
import { CHAIN_CSS, DASHES, line, s, scale } from "../../base/svg";
import css from "../styles/calibration.css";

interface Cell {
  gamma: number;
  nbeta: number;
  share: number;
  step_size: number;
  verdict: string;
  trusted: boolean;
  [number: string]: number | string | boolean | null;
}

interface Meta extends PayloadMeta {
  cells: Cell[];
  gammas: number[];
  nbetas: number[];
  shares: number[];
  chosen: number;
  reason: string;
  ok: boolean;
  steps: number;
  chains: number;
  blocks: number;
}

const METRICS: [key: string, label: string, meaning: string][] = [
  ["llc", "LLC", "the estimate, with its Monte Carlo error"],
  ["rho_loc", "rho_loc", "increase of the loss relative to its increase under localization alone: 0.3 to 0.7 is good; above 1, batch noise drives the chain"],
  ["halved", "change at half the step", "relative; passes within 5 % or two standard errors"],
  ["rhat", "R-hat", "1 where chains agree; a diagnostic without a standard error"],
  ["ess", "effective draws", "of all chains of the setting; an estimate without a standard error"],
  ["virial", "virial ratio", "1 in equilibrium; shown without its error"],
];
const CSS = CHAIN_CSS + css;

class Calibration {
  private readonly root = h("div", { class: "calibration", role: "group", "aria-label": "Calibration" });
  private readonly surface = h("div");
  private readonly detail = h("div", { role: "status" });
  private readonly shell: Shell;
  private metric = "llc";
  private at: number;

  constructor(
    props: RenderProps,
    private readonly meta: Meta,
    private readonly trace: Float32Array,
  ) {
    const shell = (this.shell = chartShell(props, this.root, "calibration", CSS));
    const given = shell.get<number>("selected");
    this.at = given >= 0 && given < meta.cells.length ? given : Math.max(0, meta.chosen);
    const pick = h("select", { "aria-label": "Number in the cells", onchange: () => ((this.metric = pick.value), this.drawSurface()) }, ...METRICS.map(([key, label]) => h("option", { value: key }, label)));
    const buttons = [shell.tableButton(() => this.showTable()), csvButton("calibration.csv", () => this.rows()), pngButton("calibration.png", this.root)];
    fill(
      this.root,
      h("p", { class: "reason" }, h("b", {}, meta.ok ? "\u2713 " : "\u2715 "), meta.reason),
      toolbar([h("span", {}, "Cells show"), pick], buttons),
      h("div", { class: "two" }, this.surface, this.detail),
      shell.twin,
      h("p", { class: "foot" }, "Solid cells are trusted; dashed ones say why not. The thick frame is the chosen setting. Click a cell, or use the arrow keys, to see its traces."),
    );
    shell.follow(["selected"], () => this.follow());
    shell.onWidth(this.detail, () => this.drawDetail());
    this.drawSurface();
    this.drawDetail();
  }

  private follow(): void {
    const given = this.shell.get<number>("selected");
    if (given === this.at || given < 0 || given >= this.meta.cells.length) return;
    this.at = given;
    this.drawSurface();
    this.drawDetail();
  }

  private select(k: number, focus = true): void {
    this.at = k;
    this.shell.set("selected", k);
    this.drawSurface();
    this.drawDetail();
    if (focus) this.surface.querySelector<HTMLElement>('[aria-selected="true"]')?.focus();
  }

  /** The number in a cell, with its standard error where it has one. */
  private written(cell: Cell): string {
    const value = cell[this.metric] as number | null;
    if (value === null) return "none";
    const error = cell[{ llc: "mcse", rho_loc: "rho_loc_error", halved: "halved_error" }[this.metric] ?? ""] as number | null | undefined;
    const size = this.metric === "halved" ? 100 : 1;
    const tail = this.metric === "halved" ? " %" : "";
    return show(size * value, this.metric === "halved") + (error === null || error === undefined ? "" : ` \u00b1 ${show(size * error, false, 2)}`) + tail;
  }

  private index(g: number, b: number, c: number): number {
    return (g * this.meta.nbetas.length + b) * this.meta.shares.length + c;
  }

  private drawSurface(): void {
    const { cells, gammas, nbetas, shares, chosen } = this.meta;
    const values = cells.filter((c) => c.trusted).map((c) => Math.abs(Number(c[this.metric])));
    const top = Math.max(...values, 1e-12);
    const grids = gammas.map((gamma, g) => {
      const rows = nbetas.map((_, i) => nbetas.length - 1 - i).map((b) =>
        h(
          "tr",
          { role: "row" },
          h("th", { scope: "row" }, `n\u03b2 ${show(nbetas[b])}`),
          ...shares.map((_, c) => {
            const k = this.index(g, b, c);
            const cell = cells[k];
            const value = cell[this.metric] as number | null;
            const text = this.written(cell);
            const strength = cell.trusted && value !== null ? Math.round((45 * Math.abs(value)) / top) : 0;
            const name = `${cell.trusted ? "trusted" : cell.verdict}, gamma ${show(gamma)}, nbeta ${show(cell.nbeta)}, step ${show(cell.step_size)}: ${text}${k === chosen ? ", chosen" : ""}`;
            const button = h(
              "button",
              {
                class: `cell${cell.trusted ? "" : " no"}${k === chosen ? " chosen" : ""}`,
                "aria-selected": String(k === this.at), role: "gridcell", tabindex: k === this.at ? 0 : -1, "aria-label": name,
                onclick: () => this.select(k), onkeydown: (event: KeyboardEvent) => this.key(event, g, b, c),
              },
              h("b", {}, text),
              h("span", {}, k === chosen ? "\u2713 chosen" : cell.trusted ? "\u2713 trusted" : cell.verdict),
            );
            button.style.setProperty("--share", `${strength}%`);
            return h("td", { role: "presentation" }, button);
          }),
        ),
      );
      const head = h("tr", { role: "row" }, h("th", {}, ""), ...shares.map((share) => h("th", { scope: "col" }, `step \u00d7 ${show(share)}`)));
      return [h("h4", {}, `\u03b3 = ${show(gamma)}`), h("table", { class: "cells", role: "grid", "aria-label": `Settings at gamma ${show(gamma)}` }, h("thead", {}, head), h("tbody", {}, ...rows))];
    });
    fill(this.surface, ...grids.flat(), h("p", { class: "foot" }, METRICS.find(([key]) => key === this.metric)![2]));
  }

  private key(event: KeyboardEvent, g: number, b: number, c: number): void {
    const { gammas, nbetas, shares } = this.meta;
    const step: Record<string, [number, number]> = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = step[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    let row = g * nbetas.length + b;
    // Rows run upwards within a grid of one gamma, and the next gamma's grid stands below.
    if (move[0]) {
      const next = b + move[0];
      if (next < 0) row = g + 1 < gammas.length ? (g + 1) * nbetas.length + nbetas.length - 1 : row;
      else if (next >= nbetas.length) row = g > 0 ? (g - 1) * nbetas.length : row;
      else row = g * nbetas.length + next;
    }
    const column = Math.max(0, Math.min(shares.length - 1, c + move[1]));
    this.select(row * shares.length + column);
  }

  private drawDetail(): void {
    const { meta } = this;
    const cell = meta.cells[this.at];
    const n = (name: string, digits = 3) => (cell[name] === null ? "none" : show(cell[name] as number, false, digits));
    const part = (value: string | number | boolean | null) => (value === null ? "none" : `${show(100 * Number(value), true)} %`);
    const numbers: [string, string][] = [
      ["step size", n("step_size")],
      ["n\u03b2, \u03b3", `${n("nbeta", 4)}, ${n("gamma")}`],
      ["LLC", `${n("llc", 4)} \u00b1 ${n("mcse", 2)}`],
      ["R-hat, ESS", `${n("rhat", 4)}, ${n("ess")}`],
      ["rho_loc", `${n("rho_loc")} \u00b1 ${n("rho_loc_error", 2)}`],
      ["half the step", `${part(cell.halved)} \u00b1 ${part(cell.halved_error).replace("+", "")}`],
      ["virial", n("virial")],
      ["acceptance", n("acceptance")],
    ];
    fill(
      this.detail,
      h("h4", {}, `${cell.trusted ? "\u2713 Trusted" : `\u2715 ${cell.verdict[0].toUpperCase()}${cell.verdict.slice(1)}`}${this.at === meta.chosen ? ", and chosen" : ""}`),
      h("dl", { class: "numbers" }, ...numbers.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      this.traces(cell),
      this.plateau(cell),
    );
  }

  private traces(cell: Cell): SVGSVGElement {
    const { chains, blocks, steps } = this.meta;
    const width = Math.max(260, this.detail.clientWidth || 420);
    const series = Array.from({ length: chains }, (_, c) => this.trace.subarray((this.at * chains + c) * blocks, (this.at * chains + c + 1) * blocks));
    const finite = series.flatMap((values) => Array.from(values)).filter(Number.isFinite);
    let low = Math.min(0, quantile(finite, 0.01));
    let high = Math.max(0, quantile(finite, 0.99));
    if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
    const box = { top: 22, bottom: 142, left: 56, right: width - 10 };
    const x = scale([0, steps], [box.left, box.right]);
    const pad = 0.05 * (high - low);
    const y = scale([low - pad, high + pad], [box.bottom, box.top]);
    const clip = (v: number) => Math.max(low - pad, Math.min(high + pad, v));
    const parts: Node[] = [s("text", { class: "what", x: box.left, y: 13 }, "n\u03b2 (loss \u2212 loss at w*), means of blocks of steps")];
    parts.push(s("rect", { class: "half", x: box.left, y: box.top, width: (box.right - box.left) / 2, height: box.bottom - box.top }));
    for (const value of ticks(low, high, 4)) {
      parts.push(s("line", { class: value === 0 ? "zero" : "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
      parts.push(s("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, show(value)));
    }
    for (const value of ticks(0, steps, Math.max(2, width / 130))) parts.push(s("text", { x: x(value), y: box.bottom + 15, "text-anchor": "middle" }, String(value)));
    if (cell.llc !== null) parts.push(s("line", { class: "level", x1: x(steps / 2), x2: box.right, y1: y(clip(cell.llc as number)), y2: y(clip(cell.llc as number)) }));
    series.forEach((values, c) => {
      const points = Array.from(values, (v, k) => [x(((k + 0.5) * steps) / blocks), clip(v) === v || Number.isFinite(v) ? y(clip(v)) : NaN] as const);
      parts.push(s("g", { class: `k${c % 8}` }, s("path", { class: "trace", d: line(points), "stroke-dasharray": DASHES[c % 8] }, s("title", {}, `chain ${c}`))));
    });
    const label = `Traces of ${chains} chains; the first half is burn-in`;
    return s("svg", { class: "chart", role: "img", "aria-label": label, viewBox: `0 0 ${width} 162`, height: 162 }, ...parts);
  }

  /** The LLC over nbeta at the gamma and share of the cell: does it level off? */
  private plateau(cell: Cell): SVGSVGElement {
    const width = Math.max(260, this.detail.clientWidth || 420);
    const box = { top: 22, bottom: 122, left: 56, right: width - 16 };
    const of = this.meta.cells.map((c, k) => [c, k] as const).filter(([c]) => c.gamma === cell.gamma && c.llc !== null);
    const shown = of.filter(([c]) => c.trusted || c.share === cell.share);
    const values = shown.map(([c]) => c.llc as number);
    const low = Math.min(0, ...values);
    const high = Math.max(1e-9, quantile(values, 0.95), ...shown.filter(([c]) => c.trusted).map(([c]) => c.llc as number)) * 1.12;
    const { nbetas } = this.meta;
    const span: [number, number] = [Math.log10(nbetas[0]) - 0.15, Math.log10(nbetas[nbetas.length - 1]) + 0.15];
    const x = scale(span, [box.left, box.right]);
    const y = scale([low, high], [box.bottom, box.top]);
    const clip = (v: number) => Math.max(low, Math.min(high, v));
    const parts: Node[] = [s("text", { class: "what", x: box.left, y: 13 }, `LLC over n\u03b2 at \u03b3 = ${show(cell.gamma)}, one line per step share`)];
    for (const value of ticks(low, high, 4)) {
      parts.push(s("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
      parts.push(s("text", { x: box.left - 6, y: y(value) + 4, "text-anchor": "end" }, show(value)));
    }
    for (const b of nbetas) parts.push(s("text", { x: x(Math.log10(b)), y: box.bottom + 15, "text-anchor": "middle" }, show(b)));
    this.meta.shares.forEach((share, j) => {
      const group: Node[] = [];
      const mine = shown.filter(([c]) => c.share === share).sort(([a], [b]) => a.nbeta - b.nbeta);
      const place = (c: Cell) => [x(Math.log10(c.nbeta)) + 5 * (j - 1), y(clip(c.llc as number))] as const;
      group.push(s("path", { class: "joined", d: line(mine.map(([c]) => place(c))), "stroke-dasharray": DASHES[j % 8] }));
      for (const [c, k] of mine) {
        const [px, py] = place(c);
        const error = 2 * ((c.mcse as number | null) ?? 0);
        group.push(s("line", { class: "whisker", x1: px, x2: px, y1: y(clip((c.llc as number) - error)), y2: y(clip((c.llc as number) + error)) }));
        group.push(s("circle", { class: c.trusted ? "dot" : "dot no", cx: px, cy: py, r: 3.5 }, s("title", {}, `nbeta ${show(c.nbeta)}, step x ${show(share)}: ${show(c.llc as number)}, ${c.verdict}`)));
        if (k === this.at) group.push(s("circle", { class: "ring", cx: px, cy: py, r: 7 }));
      }
      parts.push(s("g", { class: `k${j % 8}` }, ...group));
    });
    const label = "LLC against nbeta with two standard errors; solid dots are trusted";
    return s("svg", { class: "chart", role: "img", "aria-label": label, viewBox: `0 0 ${width} 142`, height: 142 }, ...parts);
  }

  private rows(): Rows {
    const names = Object.keys(this.meta.cells[0]);
    return [names, ...this.meta.cells.map((cell) => names.map((name) => (typeof cell[name] === "number" ? (cell[name] as number) : String(cell[name] ?? ""))))];
  }

  private showTable(): void {
    const [head, ...body] = this.rows();
    const text = (v: string | number) => (typeof v === "number" ? show(v, false, 4) : v);
    fill(this.shell.twin, table(`All ${body.length} settings`, head.map((name) => `${name}#`), body.map((row) => h("tr", {}, ...row.map((v) => h("td.num", {}, text(v)))))));
  }
}

export default mountData<Meta>((props, meta, data) => {
  new Calibration(props, meta, data.trace as Float32Array);
});
