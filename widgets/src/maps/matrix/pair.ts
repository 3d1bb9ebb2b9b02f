// What one entry of the kernel summarizes: two losses at every draw.
import type { Segment } from "../blocks";
import { fill, h, show } from "../../base/dom";
import type { Kernel } from "./data";

export function drawPair(into: HTMLElement, kernel: Kernel, shown: [number, number] | null): void {
  if (!shown) return fill(into, h("h4", {}, "No pair chosen"), h("p.quiet", {}, "Click a cell of two single examples to see their losses over the draws; a block opens."));
  const [i, j] = shown;
  const { meta, names, sd } = kernel;
  const seg = (k: number): Segment => ({ from: k, to: k + 1, name: names[k] });
  const r = kernel.blocks.cell(seg(i), seg(j), false);
  const c = kernel.blocks.cell(seg(i), seg(j), true);
  const plot = h("canvas.plot", { role: "img", "aria-label": `Loss of ${names[i]} against loss of ${names[j]} over ${meta.draws} draws, correlation ${show(r.value, true)}` });
  fill(
    into,
    h("h4", {}, i === j ? "One example with itself" : "Two losses over the draws"),
    plot,
    h("p", {}, h("b", {}, "across "), names[j], h("span.quiet", {}, ` sd ${show(sd[j])} nats`)),
    h("p", {}, h("b", {}, "up "), names[i], h("span.quiet", {}, ` sd ${show(sd[i])} nats`)),
    h("p", {}, `correlation ${show(r.value, true)} \u00b1 ${show(r.error, false, 2)}`),
    h("p", {}, `covariance ${show(c.value, true)} \u00b1 ${show(c.error, false, 2)} nats\u00b2`),
    h("p.legend", {}, ...Array.from({ length: Math.min(8, meta.chains) }, (_, k) => h("span.chain", { class: `chain k${k}` }, h("i", { "aria-hidden": "true" }), `chain ${k}`))),
  );
  scatter(plot, kernel, i, j);
}

function scatter(plot: HTMLCanvasElement, { meta, q, unit, chain }: Kernel, i: number, j: number): void {
  const ratio = devicePixelRatio || 1;
  const side = Math.min(300, plot.clientWidth || 260);
  plot.width = plot.height = side * ratio;
  const pen = plot.getContext("2d")!;
  pen.scale(ratio, ratio);
  const losses = (k: number) => q.subarray(k * meta.draws, (k + 1) * meta.draws);
  const [x, y] = [losses(j), losses(i)];
  const style = getComputedStyle(plot);
  const [l, b] = [44, side - 26];
  const span = (values: Int8Array) => [Math.min(...values), Math.max(...values)];
  const [[x0, x1], [y0, y1]] = [span(x), span(y)];
  const px = (v: number) => l + ((v - x0) / (x1 - x0 || 1)) * (side - l - 8);
  const py = (v: number) => b - ((v - y0) / (y1 - y0 || 1)) * (b - 8);
  pen.strokeStyle = style.getPropertyValue("--slt-line");
  pen.strokeRect(l, 8, side - l - 8, b - 8);
  pen.fillStyle = style.getPropertyValue("--slt-quiet");
  pen.font = "10px sans-serif";
  pen.fillText(show(x0 * unit[j], true, 2), l, side - 12);
  pen.textAlign = "right";
  pen.fillText(show(x1 * unit[j], true, 2), side - 6, side - 12);
  pen.fillText(show(y1 * unit[i], true, 2), l - 4, 16);
  pen.fillText(show(y0 * unit[i], true, 2), l - 4, b);
  pen.textAlign = "center";
  pen.fillText("loss less its chain's mean, nats", (l + side) / 2, side - 2);
  pen.globalAlpha = meta.draws > 600 ? 0.45 : 0.75;
  for (let m = 0; m < meta.draws; m++) {
    pen.fillStyle = style.getPropertyValue(`--k${chain[m] % 8}`);
    pen.beginPath();
    pen.arc(px(x[m]), py(y[m]), 2, 0, 7);
    pen.fill();
  }
}
