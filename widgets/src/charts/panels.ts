// The picture of a run's traces: losses of every chain above, the running LLC
// below, and the handle of the burn-in.
import { show } from "../base/dom";
import { blockCount, quantile, ticks } from "./series";
import type { Blocks, Running } from "./series";
import { DASHES, line, s, scale } from "../base/svg";
import type { Scale } from "../base/svg";
import type { Chain } from "./tables";

export const LEFT = 62;
export const RIGHT = 14;
export const TOP = { y: 20, height: 150 };
export const LOW = { y: 206, height: 110 };
export const HEIGHT = 336;

/** Where steps lie, and up to which the burn-in goes. */
export interface Frame {
  x: Scale;
  width: number;
  steps: number;
  burnin: number;
}

function axis(frame: Frame, y: Scale, low: number, high: number, box: typeof TOP, title: string): Node[] {
  const right = frame.width - RIGHT;
  const parts: Node[] = [s("text", { class: "what", x: LEFT, y: box.y - 7 }, title)];
  for (const value of ticks(low, high, Math.max(2, box.height / 36))) {
    const at = Math.round(y(value)) + 0.5;
    parts.push(s("line", { class: value === 0 ? "zero" : "grid", x1: LEFT, x2: right, y1: at, y2: at }));
    parts.push(s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, show(value)));
  }
  return parts;
}

function shade(frame: Frame, box: typeof TOP): Node {
  return s("rect", { class: "shade", x: LEFT, y: box.y, width: Math.max(0, frame.x(frame.burnin) - LEFT), height: box.height });
}

/** The loss of every chain, as the least and the greatest of each block. */
export function tracePanel(frame: Frame, blocks: Blocks, chains: Chain[], shown: boolean[]): Node[] {
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
  const parts = axis(frame, y, low, high, TOP, "Loss of each batch minus its loss at w*");
  parts.push(shade(frame, TOP));
  for (const step of ticks(0, frame.steps, Math.max(2, frame.width / 130))) {
    if (step <= frame.steps) parts.push(s("text", { x: frame.x(step), y: LOW.y + LOW.height + 17, "text-anchor": "middle" }, String(step)));
  }
  parts.push(s("text", { x: LEFT - 8, y: LOW.y + LOW.height + 17, "text-anchor": "end" }, "step"));
  chains.forEach((chain, c) => {
    if (!shown[c]) return;
    const points: [number, number][] = [];
    for (let k = 0; k < size; k++) {
      const at = c * size + k;
      const step = (blocks.edges[k] + blocks.edges[k + 1]) / 2;
      points.push([frame.x(step), y(clip(blocks.low[at]))]);
      if (blocks.high[at] !== blocks.low[at]) points.push([frame.x(step), y(clip(blocks.high[at]))]);
    }
    const alpha = chain.excluded ? 0.45 : 0.9;
    parts.push(s("path", { class: `trace k${c % 8}`, d: line(points), "stroke-opacity": alpha, "stroke-dasharray": DASHES[c % 8] }, s("title", {}, chain.label)));
  });
  return parts;
}

/** The LLC of the steps from the burn-in on, `error` its standard error at `steps` of them. */
export function runningPanel(frame: Frame, points: Running[], error: number, steps: number, truth: number | null): Node[] {
  const band = points.map((p) => 2 * error * Math.sqrt(steps / p.steps));
  const late = points.slice(Math.floor(points.length / 20));
  const spread = late.map((p, i) => band[i + points.length - late.length] || 0);
  let low = quantile(late.map((p, i) => p.mean - spread[i]), 0.01);
  let high = quantile(late.map((p, i) => p.mean + spread[i]), 0.99);
  if (truth !== null) [low, high] = [Math.min(low, truth), Math.max(high, truth)];
  if (low > 0 && low < high * 0.5) low = 0;
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const pad = 0.08 * (high - low);
  const y = scale([low - pad, high + pad], [LOW.y + LOW.height, LOW.y]);
  const clip = (v: number) => Math.max(low - pad, Math.min(high + pad, v));
  const parts = axis(frame, y, low, high, LOW, "LLC from the burn-in up to each step, with 2 standard errors");
  parts.push(shade(frame, LOW));
  if (Number.isFinite(error)) {
    const up = points.map((p, i) => [frame.x(p.step), y(clip(p.mean + band[i]))] as const);
    const down = points.map((p, i) => [frame.x(p.step), y(clip(p.mean - band[i]))] as const).reverse();
    if (points.length > 1) parts.push(s("path", { class: "band", d: line([...up, ...down]) + "Z" }));
  }
  parts.push(s("path", { class: "mean", d: line(points.map((p) => [frame.x(p.step), y(clip(p.mean))] as const)) }));
  if (truth !== null) {
    parts.push(s("line", { class: "truth", x1: LEFT, x2: frame.width - RIGHT, y1: y(truth), y2: y(truth) }, s("title", {}, `known: ${show(truth, false, 4)}`)));
    parts.push(s("text", { class: "truth", x: frame.width - RIGHT, y: y(truth) - 5, "text-anchor": "end" }, `known answer ${show(truth, false, 4)}`));
  }
  return parts;
}

/** The slider at the end of the burn-in. */
export function burninHandle(frame: Frame): SVGGElement {
  const at = frame.x(frame.burnin);
  const bottom = LOW.y + LOW.height;
  const text = `burn-in ${frame.burnin} steps`;
  return s(
    "g",
    { class: "handle", role: "slider", tabindex: 0, "aria-label": "Burn-in", "aria-valuemin": 0, "aria-valuemax": frame.steps - 1, "aria-valuenow": frame.burnin, "aria-valuetext": text },
    s("title", {}, `${text}: drag, or use the arrow keys`),
    s("rect", { class: "hit", x: at - 9, y: TOP.y - 4, width: 18, height: bottom - TOP.y + 8 }),
    s("line", { x1: at, x2: at, y1: TOP.y - 2, y2: bottom }),
    s("rect", { class: "grip", x: at - 5, y: TOP.y + TOP.height / 2 - 12, width: 10, height: 24, rx: 3 }),
  );
}
