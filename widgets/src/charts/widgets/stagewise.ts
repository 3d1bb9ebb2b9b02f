// InfluenceOverTraining: curves over steps with bands of stages, one
// tab a method, and beside them the whole matrix at the step under the cursor.
import type { RenderProps } from "../../base/afm";
import type { Rows } from "../../base/chart_shell";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { PayloadMeta } from "../../base/codec";
import { roundUp, stepClass } from "../../base/color";
import { add, fill, h, show, table } from "../../base/dom";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { CHAIN_CSS, DASHES, line, s, scale } from "../../base/svg";
import { ticks } from "../series";
import css from "../styles/stagewise.css";

interface Meta extends PayloadMeta {
  title: string;
  items: string[];
  methods: { name: string; unit: string; error: boolean; note: string; negative: string; positive: string }[];
  stages: { name: string; from: number; to: number }[];
  log: boolean;
  z: number;
  notes: string[];
}

const [LEFT, RIGHT, TOP, HEIGHT] = [64, 92, 26, 330];
const GAP = 10; // pixels between the names of two stages
const NUMBERED = 9; // items up to which cells hold numbers

/** The power of ten in whose units the largest number has two digits: what a narrow cell can hold. */
const wholeUnit = (most: number): number => {
  const power = most > 0 && Number.isFinite(most) ? Math.floor(Math.log10(most)) - 1 : 0;
  return Math.round(most / 10 ** power) > 99 ? power + 1 : power;
};
const whole = (v: number, power: number): string => (Number.isNaN(v) ? "" : String(Math.round(v / 10 ** power) || 0).replace("-", "\u2212"));
const raised = (power: number): string => String(power).replace(/./g, (c) => (c === "-" ? "\u207b" : "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[Number(c)]));

/** Writes `name` into a text of the picture, cut to `width` pixels; the whole is its title. */
const fit = (text: SVGTextElement, name: string, width: number): void => {
  text.textContent = name;
  for (let kept = name.length - 1; kept >= 0 && text.getComputedTextLength() > width; kept--) text.textContent = kept > 1 ? `${name.slice(0, kept)}\u2026` : "";
  text.append(s("title", {}, name));
};

function draw(props: RenderProps, meta: Meta, data: Record<string, any>): void {
  const steps: Int32Array = data.steps;
  const { items, methods, stages } = meta;
  const n = items.length;
  const T = steps.length;
  const twin = h("div.twin", { hidden: true, tabindex: 0, role: "region", "aria-label": "Table of all steps" });
  const shell = chartShell(props, h("div.stagewise"), "stagewise", CHAIN_CSS + css, twin);
  const { root, set } = shell;
  const curves = h("div.curves", { tabindex: 0, role: "slider", "aria-label": "Step", "aria-valuemin": steps[0], "aria-valuemax": steps[T - 1] });
  const matrix = h("div.cells", { role: "group", "aria-label": "Influence at this step: rows are influenced, columns influence" });
  const names = h("div.names", { role: "group", "aria-label": "Curves" });
  const said = h("div.said2", { role: "status", "aria-live": "polite" });
  const foot = h("div.foot");
  const slider = h("input", { type: "range", min: 0, max: T - 1, "aria-label": "Checkpoint", oninput: () => set("at", Number(slider.value)) });
  const where = h("b");
  const clamp = (v: number, most: number) => Math.max(0, Math.min(most, v));
  const method = () => clamp(shell.get<number>("method") ?? 0, methods.length - 1);
  const source = () => clamp(shell.get<number>("source") ?? 0, n - 1);
  const at = () => clamp(shell.get<number>("at") ?? T - 1, T - 1);
  const hidden = () => new Set<number>(shell.get<number[]>("hidden") ?? []);
  const value = (t: number, q: number, p: number): number => data[`v${method()}`][(t * n + q) * n + p];
  const error = (t: number, q: number, p: number): number => (methods[method()].error ? data[`e${method()}`][(t * n + q) * n + p] : NaN);
  const written = (t: number, q: number, p: number): string => {
    const e = error(t, q, p);
    return `${show(value(t, q, p), true)}${Number.isFinite(e) ? ` \u00b1 ${show(e, false, 2)}` : ""}`;
  };
  const place = (step: number) => (meta.log ? Math.log1p(step) : step);
  let x = scale([0, 1], [0, 1]);

  const drawCurves = () => {
    const width = curves.clientWidth || 620;
    const p = source();
    const shut = hidden();
    const shown = items.map((_, q) => q).filter((q) => q !== p && !shut.has(q));
    let [low, high] = [0, 0];
    for (let t = 0; t < T; t++) {
      for (const q of shown) {
        const v = value(t, q, p);
        if (v < low) low = v;
        if (v > high) high = v;
      }
    }
    if (high <= low) [low, high] = [-1, 1];
    const pad = 0.06 * (high - low);
    x = scale([place(steps[0]), place(steps[T - 1])], [LEFT, width - RIGHT]);
    const y = scale([low - pad, high + pad], [HEIGHT - 26, TOP]);
    const parts: Node[] = [];
    const labels: [SVGTextElement, string, number][] = [];
    stages.forEach((stage, i) => {
      const [a, b] = [x(place(Math.max(stage.from, steps[0]))), x(place(Math.min(stage.to, steps[T - 1])))];
      if (!(b > a)) return;
      parts.push(s("rect", { class: `stage ${i % 2 ? "odd" : ""}`, x: a, y: TOP, width: b - a, height: HEIGHT - 26 - TOP }));
      labels.push([s("text", { class: "stagename", x: (a + b) / 2, y: TOP - 8, "text-anchor": "middle" }), stage.name, b - a - GAP]);
    });
    parts.push(...labels.map(([text]) => text));
    for (const v of ticks(low, high, 6)) {
      parts.push(s("line", { class: v === 0 ? "zero" : "grid", x1: LEFT, x2: width - RIGHT, y1: y(v), y2: y(v) }));
      parts.push(s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, show(v)));
    }
    let last = -99;
    for (let t = 0; t < T; t++) {
      const px = x(place(steps[t]));
      if (px - last < 46) continue;
      last = px;
      parts.push(s("text", { x: px, y: HEIGHT - 10, "text-anchor": "middle" }, String(steps[t])));
    }
    const ends: { q: number; y: number }[] = [];
    for (const q of shown) {
      const line_ = Array.from({ length: T }, (_, t) => [x(place(steps[t])), y(value(t, q, p))] as const);
      if (methods[method()].error) {
        const bound = (sign: number) => Array.from({ length: T }, (_, t) => [x(place(steps[t])), y(clampTo(value(t, q, p) + sign * meta.z * error(t, q, p), low - pad, high + pad))] as const);
        parts.push(s("path", { class: `band k${q % 8}`, d: line([...bound(1), ...bound(-1).reverse()]) + "Z" }));
      }
      parts.push(s("path", { class: `trace k${q % 8}`, d: line(line_), "stroke-dasharray": DASHES[q % 8] }, s("title", {}, items[q])));
      ends.push({ q, y: line_[T - 1][1] });
    }
    ends.sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => { if (i && end.y - ends[i - 1].y < 12) end.y = ends[i - 1].y + 12; });
    for (const end of ends) parts.push(s("text", { class: `name k${end.q % 8}`, x: width - RIGHT + 6, y: end.y + 4 }, items[end.q].slice(0, 14)));
    const now = x(place(steps[at()]));
    parts.push(s("line", { class: "cursor", x1: now, x2: now, y1: TOP, y2: HEIGHT - 26 }));
    const unit = methods[method()].unit;
    fill(curves, s("svg", { class: "chart", viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": `Influence of ${items[p]} over ${T} steps` }, ...parts));
    for (const label of labels) fit(...label);
    fill(said, `Influence of ${items[p]} on the others`, h("span.quiet", {}, ` ${methods[method()].name}${unit ? `, ${unit}` : ""}; below 0 ${methods[method()].negative}, above 0 ${methods[method()].positive}`));
    curves.setAttribute("aria-valuenow", String(steps[at()]));
    curves.setAttribute("aria-valuetext", `step ${steps[at()]}`);
  };
  const clampTo = (v: number, a: number, b: number) => Math.max(a, Math.min(b, v));

  const drawMatrix = () => {
    const t = at();
    let most = 0;
    for (let q = 0; q < n; q++) for (let r = 0; r < n; r++) most = Math.max(most, Math.abs(value(t, q, r)) || 0);
    const unit = wholeUnit(most);
    const p = source();
    let limit = 0;
    for (let q = 0; q < n; q++) for (let r = 0; r < n; r++) if (q !== r || !meta.methods[method()].note.includes("diagonal")) limit = Math.max(limit, Math.abs(value(t, q, r)) || 0);
    limit = roundUp(limit) || 1;
    matrix.style.gridTemplateColumns = `minmax(60px, auto) repeat(${n}, minmax(20px, 1fr))`;
    const cells: Node[] = [h("span.quiet", {}, "on \\ of"), ...items.map((name) => h("span.top", { title: name }, name))];
    items.forEach((name, q) => {
      cells.push(h("span", { title: name }, name));
      items.forEach((other, r) => {
        const v = value(t, q, r);
        const e = error(t, q, r);
        const muted = Number.isFinite(e) && Math.abs(v) <= meta.z * e;
        cells.push(h("button", { class: `${stepClass(v, limit, "diverging")}${muted ? " mut" : ""}${r === p ? " on" : ""}`, title: `influence of ${other} on ${name}: ${written(t, q, r)}`, "aria-label": `${other} on ${name}: ${written(t, q, r)}`, onclick: () => set("source", r) }, n <= NUMBERED ? whole(v, unit) : ""));
      });
    });
    fill(matrix, ...cells);
    slider.value = String(t);
    slider.setAttribute("aria-valuetext", `step ${steps[t]}`);
    where.textContent = `step ${steps[t]}`;
    const numbers = n <= NUMBERED && unit ? `numbers in units of 10${raised(unit)}; ` : "";
    scaleSaid.textContent = `${numbers}colour range \u00b1${show(limit)} at this step${methods[method()].error ? "; faded: 95 % interval includes 0" : ""}`;
  };
  const scaleSaid = h("p.quiet");

  const update = () => {
    tabs.forEach((tab, i) => tab.setAttribute("aria-pressed", String(i === method())));
    picker.selectedIndex = source();
    const shut = hidden();
    fill(names, ...items.map((name, q) => q !== source() && h("button", { class: `k${q % 8}`, "aria-pressed": String(!shut.has(q)), onclick: () => set("hidden", shut.has(q) ? [...shut].filter((k) => k !== q) : [...shut, q]) }, name)));
    drawCurves();
    drawMatrix();
    fill(foot);
    add(foot, methods[method()].note && h("p", {}, methods[method()].note), ...meta.notes.map((text) => h("p", {}, text)));
    shell.refreshTable();
  };
  const showTable = () => {
    const p = source();
    fill(twin, table(`Influence of ${items[p]}: ${methods[method()].name}`, ["step#", ...items.map((i) => `${i}#`)], Array.from({ length: T }, (_, t) => h("tr", {}, h("td.num", {}, steps[t]), ...items.map((_, q) => h("td.num", {}, written(t, q, p)))))));
  };
  const csvRows = (): Rows => {
    const rows: Rows = [["method", "step", "on", "of", "influence", "standard_error"]];
    for (let t = 0; t < T; t++) for (let q = 0; q < n; q++) for (let p = 0; p < n; p++) rows.push([methods[method()].name, steps[t], items[q], items[p], value(t, q, p), error(t, q, p)]);
    return rows;
  };
  const tabs = methods.map((m, i) => h("button", { onclick: () => set("method", i) }, m.name));
  const picker = h("select", { "aria-label": "Influence of", onchange: () => set("source", picker.selectedIndex) });
  for (const name of items) picker.append(h("option", {}, name));
  root.append(
    toolbar(
      [h("span.group", { role: "group", "aria-label": "Method" }, ...tabs), h("label.quiet", {}, "of ", picker)],
      [shell.tableButton(showTable, "Table of all steps", () => twin.previousElementSibling!), csvButton("influence_over_training.csv", csvRows, "Download this method's numbers"), pngButton("influence_over_training.png", root)],
      meta.title,
    ),
    said,
    h("div.two", {}, h("div", {}, curves, names), h("div", {}, h("div.when", {}, slider, where), matrix, scaleSaid)),
    twin,
    foot,
  );
  const nearest = (event: PointerEvent) => {
    const px = event.clientX - curves.getBoundingClientRect().left;
    let best = 0;
    for (let t = 1; t < T; t++) if (Math.abs(x(place(steps[t])) - px) < Math.abs(x(place(steps[best])) - px)) best = t;
    if (best !== at()) set("at", best);
  };
  curves.addEventListener("pointerdown", (event) => { curves.setPointerCapture(event.pointerId); nearest(event); curves.focus({ preventScroll: true }); event.preventDefault(); });
  curves.addEventListener("pointermove", (event) => event.buttons & 1 && nearest(event));
  curves.addEventListener("keydown", (event) => {
    const move: Record<string, number> = { ArrowLeft: at() - 1, ArrowRight: at() + 1, Home: 0, End: T - 1, PageUp: at() - 5, PageDown: at() + 5 };
    if (!(event.key in move) || event.ctrlKey || event.metaKey || event.altKey) return;
    set("at", clamp(move[event.key], T - 1));
    event.preventDefault();
    event.stopPropagation();
  });
  shell.onWidth(curves.parentElement!, drawCurves);
  update();
  shell.follow(["method", "source", "hidden"], update);
  shell.follow(["at"], () => { drawCurves(); drawMatrix(); });
}

export default mountData<Meta>(draw);
