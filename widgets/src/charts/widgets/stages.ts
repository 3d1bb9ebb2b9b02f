// StageCurves: refined LLCs over log time, their slopes
// below them, and lines to drag: a table shows what changes between two lines.
import type { RenderProps } from "../../base/afm";
import type { Rows } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { fill, h, show, table } from "../../base/dom";
import { FocusLink } from "../../base/focus";
import type { Part } from "../../base/focus";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { axis, extent, frame } from "../plane";
import type { Axis } from "../plane";
import { change, slopes } from "../stages";
import type { Curves } from "../stages";
import { CHAIN_CSS, DASHES, line, s } from "../../base/svg";
import css from "../styles/stages.css";

interface Meta extends PayloadMeta {
  title: string;
  components: string[];
  given: number[];
  z: number;
  notes: string[];
}

const [LEFT, RIGHT, TOP, MIDDLE, LOW, BOTTOM, HEIGHT] = [64, 84, 26, 236, 286, 426, 466];

async function draw(props: RenderProps, meta: Meta, data: Record<string, any>): Promise<void> {
  const { components, z } = meta;
  const all: Curves = { step: data.step, value: data.value, error: data.error, curves: components.length };
  const [first, last] = [all.step[0], all.step[all.step.length - 1]];
  const steepness = components.map((_, c) => slopes(all, c));
  const shell = chartShell(props, h("div.stages"), "stages", CHAIN_CSS + css);
  const { root } = shell;
  const plot = h("div.plot");
  const legend = h("div.bar.names", { role: "group", "aria-label": "Components" });
  const readout = h("div.readout", { role: "region", tabindex: 0, "aria-label": "Change between the lines" });
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  let x: Axis = axis([first, last], [LEFT, 600], true);
  let width = 0;
  let held = -1; // the line under the pointer or with the focus
  let focus: FocusLink | null = null;

  const lines = (): number[] => [...(shell.get<number[]>("lines") ?? [])].sort((a, b) => a - b);
  const put = (list: number[]) => shell.set("lines", [...list].sort((a, b) => a - b));
  const chosen = () => components.indexOf(focus?.component ?? "");
  const faint = (c: number) => chosen() >= 0 && chosen() !== c;
  const step = (value: number) => String(Math.round(value));
  const rises = () => `slope ${chosen() >= 0 ? `of ${components[chosen()]} ` : ""}per unit of log step`;

  const panel = (top: number, bottom: number, what: string, points: (c: number) => { at: number; value: number; error: number }[], bars: boolean): Node[] => {
    const ends: number[] = bars ? [] : [0];
    components.forEach((_, c) => points(c).forEach((p) => {
      const arm = bars || chosen() === c ? z * p.error : 0;
      ends.push(p.value - arm, p.value + arm);
    }));
    const y = axis(extent(ends), [bottom, top]);
    const parts = frame({ left: LEFT, right: width - RIGHT, top, bottom }, x, y, { x: bars ? "" : "training step", y: what });
    if (!bars) parts.push(s("line", { class: "zero", x1: LEFT, x2: width - RIGHT, y1: y(0), y2: y(0) }));
    const names: { c: number; y: number }[] = [];
    components.forEach((name, c) => {
      const list = points(c);
      const opacity = faint(c) ? 0.15 : 1;
      const group = s("g", { class: `k${c % 8}`, opacity }, s("title", {}, name));
      group.append(s("path", { class: "trace", d: line(list.map((p) => [x(p.at), y(p.value)] as const)), "stroke-dasharray": DASHES[c % 8] }));
      for (const p of list) {
        if (bars || chosen() === c) group.append(s("line", { class: "bar", x1: x(p.at), x2: x(p.at), y1: y(p.value - z * p.error), y2: y(p.value + z * p.error) }));
        group.append(s("circle", { cx: x(p.at), cy: y(p.value), r: 2.4 }));
      }
      parts.push(group);
      names.push({ c, y: y(list[list.length - 1].value) });
    });
    if (!bars) return parts;
    names.sort((a, b) => a.y - b.y);
    names.forEach((one, i) => { if (i && one.y - names[i - 1].y < 12) one.y = names[i - 1].y + 12; });
    for (const { c, y: at } of names) parts.push(s("text", { class: `name k${c % 8}`, opacity: faint(c) ? 0.35 : 1, x: width - RIGHT + 8, y: at + 4 }, components[c]));
    return parts;
  };

  const handle = (value: number, i: number): SVGGElement => {
    const at = x(value);
    return s(
      "g", { class: "handle", role: "slider", tabindex: 0, "data-line": i, "aria-label": `Line ${i + 1}`, "aria-valuemin": step(first), "aria-valuemax": step(last), "aria-valuenow": step(value), "aria-valuetext": `step ${step(value)}` },
      s("title", {}, `step ${step(value)}: drag, or arrow keys; Delete takes it away`),
      s("rect", { class: "hit", x: at - 9, y: TOP - 6, width: 18, height: BOTTOM - TOP + 12 }),
      s("line", { x1: at, x2: at, y1: TOP - 4, y2: BOTTOM }),
      s("rect", { class: "grip", x: at - 5, y: (MIDDLE + LOW) / 2 - 22, width: 10, height: 24, rx: 3 }),
      s("text", { class: "at", x: at, y: TOP - 8, "text-anchor": "middle" }, step(value)),
    );
  };

  const drawPlot = () => {
    width = plot.clientWidth || 640;
    x = axis([first, last], [LEFT, width - RIGHT], true);
    const keep = plot.contains(document.activeElement) ? held : -1;
    const points = (c: number) => Array.from(all.step, (at, k) => ({ at, value: all.value[k * all.curves + c], error: all.error[k * all.curves + c] }));
    fill(
      plot,
      s(
        "svg", { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "group", "aria-label": `${meta.title}: ${components.length} components, ${all.step.length} checkpoints` },
        ...panel(TOP, MIDDLE, "", points, true),
        ...panel(LOW, BOTTOM, rises(), (c) => steepness[c], false),
        ...lines().map(handle),
      ),
    );
    if (keep >= 0) plot.querySelector<SVGElement>(`[data-line="${keep}"]`)?.focus({ preventScroll: true });
  };

  const spans = (): [number, number][] => {
    const bounds = [first, ...lines(), last];
    return bounds.slice(1).map((b, i) => [bounds[i], b]);
  };
  const drawReadout = () => {
    const rows = spans().map(([a, b]) =>
      h(
        "tr", {}, h("th", { scope: "row" }, `${step(a)} to ${step(b)}`),
        ...components.map((_, c) => {
          const found = change(all, c, a, b);
          const sure = Math.abs(found.value) > z * found.error;
          return h("td.num", { class: sure ? "num" : "num mut", title: sure ? null : "its 95 % interval includes 0" }, `${show(found.value, true, 2)} \u00b1 ${show(found.error, false, 1)}`);
        }),
      ),
    );
    fill(readout, table("Change between the lines (faded: 95 % interval includes 0)", ["steps", ...components.map((c) => `${c}#`)], rows));
  };

  const drawLegend = () => fill(legend, ...components.map((name, c) => h("button", { class: `k${c % 8}`, "aria-pressed": String(chosen() === c), onclick: () => focus?.setComponent(chosen() === c ? null : name) }, h("i", { "aria-hidden": "true" }), name)));

  const update = () => {
    drawPlot();
    drawReadout();
  };

  const clamp = (value: number) => Math.min(last / 1.0001, Math.max(first * 1.0001, value));
  const move = (i: number, to: number) => {
    const list = lines();
    const value = clamp(to);
    list[i] = value;
    list.sort((a, b) => a - b);
    held = list.indexOf(value); // lines may pass each other
    put(list);
    live.textContent = `line at step ${step(value)}`;
  };
  const atPointer = (event: PointerEvent) => {
    const box = plot.getBoundingClientRect();
    return x.invert(((event.clientX - box.left) * width) / box.width);
  };
  let dragging = false;
  plot.addEventListener("pointerdown", (event) => {
    const grip = (event.target as Element).closest?.("[data-line]");
    if (event.button !== 0 || !grip) return;
    dragging = true;
    held = Number(grip.getAttribute("data-line"));
    plot.setPointerCapture(event.pointerId);
    (grip as SVGElement).focus({ preventScroll: true });
    event.preventDefault();
  });
  plot.addEventListener("pointermove", (event) => dragging && move(held, atPointer(event)));
  for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, () => (dragging = false));
  plot.addEventListener("dblclick", (event) => put([...lines(), clamp(atPointer(event as unknown as PointerEvent))]));
  plot.addEventListener("keydown", (event) => {
    const i = Number((event.target as Element).getAttribute("data-line") ?? -1);
    const list = lines();
    if (!(i in list) || event.ctrlKey || event.metaKey || event.altKey) return;
    const by = ((event.shiftKey ? 0.1 : 0.01) * Math.log(last / first));
    const to: Record<string, number> = { ArrowLeft: list[i] * Math.exp(-by), ArrowRight: list[i] * Math.exp(by), ArrowDown: list[i] * Math.exp(-by), ArrowUp: list[i] * Math.exp(by), Home: first, End: last };
    held = i;
    if (event.key in to) move(i, to[event.key]);
    else if (event.key === "Delete" || event.key === "Backspace") put(list.filter((_, k) => k !== i));
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const rows = (): Rows => {
    const rows: Rows = [["from", "to", "component", "change", "standard_error"]];
    for (const [a, b] of spans()) components.forEach((name, c) => { const f = change(all, c, a, b); rows.push([a, b, name, f.value, f.error]); });
    return rows;
  };
  root.append(
    toolbar([], [
      h("button", { title: "A new line in the middle (or double-click the picture)", onclick: () => put([...lines(), Math.sqrt(first * last)]) }, "Add a line"),
      h("button", { title: "The lines as they were given", onclick: () => put(meta.given) }, "Reset"),
      csvButton("stages.csv", rows, "The table as a file"),
      pngButton("stages.png", plot),
    ], meta.title),
    legend, plot, readout,
    h("div.foot", {}, ...meta.notes.map((text) => h("p", {}, text))), live,
  );
  shell.onWidth(plot, drawPlot);
  drawLegend();
  update();
  shell.follow(["lines"], update);
  focus = await FocusLink.connect(props, (part: Part) => {
    if (part !== "component") return;
    drawLegend();
    drawPlot();
  });
  drawLegend();
  drawPlot();
}

export default mountData<Meta>(draw);
