// RunMonitor: live progress of a run.  Follows the trait `progress`; sends "pause", "resume" and
// "stop" to Python.  Without a kernel it shows what was seen last.
import type { RenderProps } from "../../base/afm";
import { watch } from "../../base/afm";
import { fill, h, show } from "../../base/dom";
import { useTheme } from "../../base/theme";
import { quantile, ticks } from "../series";
import { CHAIN_CSS, DASHES, line, s, scale } from "../../base/svg";
import css from "../styles/monitor.css";

interface Progress {
  stage?: string;
  step?: number;
  steps?: number;
  draw?: number;
  draws?: number;
  tokens_per_s?: number | null;
  seconds_left?: number | null;
  elapsed?: number | null;
  chains?: { chain: number; draw: number; status: string }[];
  loss?: (number | null)[][];
  loss_step?: number[];
  message?: string;
}

const BUSY =
  "No answer yet. While a cell is running, the kernel hears no buttons: interrupt it (\u25a0 in the toolbar) to stop the run " +
  "and keep what is done. A run made with blocking=False can be paused and stopped here.";
const ENDED = ["finished", "stopped", "failed"];
const MARK: Record<string, string> = { finished: "\u2713", failed: "\u2715", stopped: "\u25a0", paused: "\u2016" };

const CSS = CHAIN_CSS + css;

/** 75.4 -> "1 min 15 s" */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "unknown";
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

function chart(p: Progress, width: number): SVGSVGElement | null {
  const losses = p.loss ?? [];
  const longest = Math.max(0, ...losses.map((y) => y.length));
  if (longest < 2) return null;
  const at = p.loss_step && p.loss_step.length >= longest ? p.loss_step : losses[0].map((_, i) => i);
  const finite = losses.flat().filter((y): y is number => y !== null);
  let low = quantile(finite, 0.005);
  let high = quantile(finite, 0.995);
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const pad = 0.06 * (high - low);
  const end = Math.max(at[longest - 1] ?? longest, p.stage && ENDED.includes(p.stage) ? 0 : (p.steps ?? 0));
  const x = scale([0, end], [56, width - 8]);
  const y = scale([low - pad, high + pad], [126, 20]);
  const clip = (v: number) => Math.max(low - pad, Math.min(high + pad, v));
  const parts: Node[] = [s("text", { class: "what", x: 56, y: 12 }, "Loss of each batch")];
  for (const value of ticks(low, high, 3)) {
    parts.push(s("line", { class: "grid", x1: 56, x2: width - 8, y1: y(value), y2: y(value) }));
    parts.push(s("text", { x: 50, y: y(value) + 4, "text-anchor": "end" }, show(value)));
  }
  for (const step of ticks(0, end, Math.max(2, width / 130))) {
    parts.push(s("text", { x: x(step), y: 143, "text-anchor": "middle" }, String(step)));
  }
  losses.forEach((values, k) => {
    const points = values.map((v, i) => [x(at[i]), v === null ? NaN : y(clip(v))] as const);
    parts.push(s("path", { class: `trace k${k % 8}`, d: line(points), "stroke-dasharray": DASHES[k % 8] }));
  });
  const label = `Loss of each batch of ${losses.length} chains over steps`;
  return s("svg", { class: "chart", role: "img", "aria-label": label, viewBox: `0 0 ${width} 148`, height: 148 }, ...parts);
}

function render(props: RenderProps): void {
  const { model, el, signal } = props;
  const stage = h("span", { class: "stage", role: "status" });
  const pause = h("button", { onclick: () => tell(pause.dataset.do!) });
  const stop = h("button", { title: "Stops after the current step; what is done is kept", onclick: () => tell("stop") }, "Stop");
  const bar = h("div");
  const track = h("div", { class: "track", role: "progressbar", "aria-label": "Steps done", "aria-valuemin": 0, "aria-valuemax": 100 }, bar);
  const numbers = h("dl");
  const picture = h("div");
  const message = h("p", { class: "message" });
  const body = h("tbody");
  const head = h("tr", {}, ...["chain", "draws", "status"].map((text) => h("th", { scope: "col" }, text)));
  const table = h("table", {}, h("thead", {}, head), body);
  const summary = h("summary");
  const root = h(
    "div",
    { class: "monitor", role: "group", "aria-label": "Run" },
    h("div", { class: "bar" }, stage, h("span", { class: "grow" }), pause, stop),
    track,
    numbers,
    message,
    picture,
    h("details", {}, summary, table),
  );
  fill(el, root);
  useTheme(root, "monitor", CSS, signal);
  // A page without a kernel has nobody to tell.
  const offline = document.documentElement.hasAttribute("data-slt-page");
  let told = "";
  let waited = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  signal?.addEventListener("abort", () => clearTimeout(timer));

  function tell(verb: string): void {
    told = verb;
    waited = false;
    model.send?.({ do: verb });
    clearTimeout(timer);
    // Jupyter delivers nothing to a kernel that is running a cell.
    timer = setTimeout(() => {
      waited = told !== "";
      update();
    }, 2500);
    update();
  }

  function update(): void {
    const p = (model.get("progress") ?? {}) as Progress;
    const now = p.stage ?? "unknown";
    const ended = ENDED.includes(now);
    if (ended || (told === "pause" && now === "paused") || (told === "resume" && now !== "paused")) told = "";
    stage.dataset.stage = now;
    fill(stage, `${MARK[now] ? MARK[now] + " " : ""}${now[0].toUpperCase()}${now.slice(1)}`);
    const next = now === "paused" ? "resume" : "pause";
    pause.dataset.do = next;
    pause.textContent = told === "pause" ? "Pausing\u2026" : told === "resume" ? "Resuming\u2026" : next === "pause" ? "Pause" : "Resume";
    stop.textContent = told === "stop" ? "Stopping\u2026" : "Stop";
    pause.disabled = told !== "";
    stop.disabled = told === "stop";
    pause.hidden = stop.hidden = ended || offline;
    const share = p.steps ? Math.round((1000 * (p.step ?? 0)) / p.steps) / 10 : 0;
    bar.style.width = `${share}%`;
    track.setAttribute("aria-valuenow", String(share));
    const rate = p.tokens_per_s;
    const entries: [string, string][] = [
      ["step", `${p.step ?? 0} of ${p.steps ?? 0}`],
      ["draw", `${p.draw ?? 0} of ${p.draws ?? 0}`],
      ["tokens/s", rate ? Math.round(rate).toLocaleString("en") : "unknown"],
      ended ? ["took", duration(p.elapsed)] : ["left", duration(p.seconds_left)],
    ];
    fill(numbers, ...entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    if (!told) waited = false;
    const hint = waited ? BUSY : "";
    message.hidden = !p.message && !hint;
    message.textContent = [p.message, hint].filter(Boolean).join("\n");
    const chains = p.chains ?? [];
    const bad = chains.filter((chain) => chain.status !== "ok").length;
    summary.textContent = `${chains.length} chains, ${bad ? `${bad} not ok` : "all ok"}`;
    fill(body, ...chains.map((c, k) => h("tr", { class: `k${k % 8}` }, h("td", {}, c.chain), h("td", { class: "num" }, c.draw), h("td", {}, c.status))));
    const drawn = chart(p, Math.max(260, picture.clientWidth || 640));
    fill(picture, drawn);
    el.dataset.sltReady = String(Date.now());
  }

  watch(model, ["progress"], update, signal);
  let width = root.clientWidth;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth === width) return; // the picture itself changes the height
    width = root.clientWidth;
    update();
  });
  observer.observe(root);
  signal?.addEventListener("abort", () => observer.disconnect());
  update();
}

export default { render };
