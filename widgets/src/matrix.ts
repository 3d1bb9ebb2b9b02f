// Whom does the model treat alike?  The loss kernel in the order of a tree: open and close its
// branches, go into a block, and look at a pair: its two losses over the draws.
import type { RenderProps } from "./lib/afm";
import { watch } from "./lib/afm";
import { Blocks, segments } from "./lib/blocks";
import type { Segment, TreeNode } from "./lib/blocks";
import { unpack } from "./lib/codec";
import type { PayloadMeta } from "./lib/codec";
import { diverging, robustLimit, roundUp, STEPS } from "./lib/color";
import { add, csv, download, fill, h, show, table, toggle } from "./lib/dom";
import { FocusLink } from "./lib/focus";
import type { Part } from "./lib/focus";
import { mount } from "./lib/mount";
import { isDark, useTheme } from "./lib/theme";
import { Tip } from "./lib/tip";
import chartCss from "./charts/chart.css";
import css from "./matrix.css";

interface Meta extends PayloadMeta {
  title: string;
  draws: number;
  z: number;
  chains: number;
  notes: string[];
  order: string;
}

const MOST = 240; // cells a side
const KEYS = [
  ["click, Enter", "go into the block; of two single examples: their losses over the draws"],
  ["arrows", "move from cell to cell"],
  ["Backspace, Esc", "one step out"],
  ["names at the side", "close or open a branch of the tree: a closed one is one row of means"],
  ["m", "correlation or covariance"],
  ["?", "this list"],
];

async function draw(props: RenderProps): Promise<void> {
  const { model, el, signal } = props;
  const meta = model.get("meta") as Meta;
  const data = await unpack(meta, model.get("payload"));
  if (signal?.aborted) return;
  const blocks = new Blocks({ q: data.q, draws: meta.draws, batches: data.batches, sd: data.sd });
  const names: string[] = data.names;
  const ids: string[] = data.examples;
  const of: Int32Array = data.example;
  const token: Int32Array = data.token;
  const nodes = data.tree as TreeNode[];
  const roots = nodes.map((_, k) => k).filter((k) => nodes[k].depth === 0);
  const n = names.length;
  const chain: Uint8Array = data.chain; // of each draw
  const unit: Float32Array = data.unit; // nats of one step of the 8 bits
  const place = (i: number) => ({ example: ids[of[i]], token: token[i] });
  const index = new Map<string, number>();
  for (let i = 0; i < n; i++) index.set(`${ids[of[i]]}\n${token[i]}`, i);

  const root = h("div.matrix");
  el.append(root);
  useTheme(root, "matrix", chartCss + css, signal);
  const under = h("canvas");
  const over = h("canvas");
  const heat = h("div.heat", { tabindex: 0, role: "application" }, under, over);
  const near = h("span", { style: "position:absolute;width:1px;height:1px" });
  heat.append(near);
  const branches = h("div.tree", { role: "group", "aria-label": "Branches" });
  const pair = h("div.pair", { role: "region", "aria-label": "The pair", tabindex: 0 });
  const legend = h("div.legend");
  const trail = h("span.quiet");
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const twin = h("div.twin", { hidden: true, tabindex: 0, role: "region", "aria-label": "Table of cells" });
  const foot = h("div.foot");
  const tip = new Tip();

  let stack: [number, number, number, number][] = [[0, n, 0, n]]; // rows from, to, columns from, to
  let rows: Segment[] = [];
  let columns: Segment[] = [];
  let values = new Float32Array(0);
  let limit = 1;
  let at: [number, number] = [-1, -1];
  let shownPair: [number, number] | null = null;
  let focus: FocusLink | null = null;

  const closed = () => new Set<number>(model.get("closed") ?? []);
  const covariance = () => !model.get("normalize");
  const set = (name: string, value: unknown) => {
    model.set(name, value);
    model.save_changes();
  };
  const single = (s: Segment) => s.to - s.from === 1;

  // The picture -------------------------------------------------------------------------------------

  const compute = () => {
    const [r0, r1, c0, c1] = stack[stack.length - 1];
    const shut = closed();
    const cut = (a: number, b: number) => segments(nodes, roots, shut, a, b, MOST, (i) => names[i]);
    rows = cut(r0, r1);
    columns = r0 === c0 && r1 === c1 ? rows : cut(c0, c1);
    values = blocks.matrix(rows, columns, covariance());
    const off: number[] = [];
    rows.forEach((a, i) => columns.forEach((b, j) => { if (!(single(a) && single(b) && a.from === b.from)) off.push(values[i * columns.length + j]); }));
    limit = roundUp(robustLimit(Float32Array.from(off), 0.995)) || 1;
  };

  const paint = () => {
    const [w, hgt] = [columns.length, rows.length];
    under.width = w;
    under.height = hgt;
    const pen = under.getContext("2d")!;
    const image = pen.createImageData(w, hgt);
    const dark = isDark();
    const steps = Array.from({ length: 2 * STEPS + 1 }, (_, i) => diverging((i - STEPS) / STEPS, dark));
    for (let k = 0; k < values.length; k++) {
      const v = values[k];
      const t = Number.isFinite(v) ? Math.max(-1, Math.min(1, v / limit)) : 0;
      // The kernel is positive where alike: orange, as everywhere in the kit for positive numbers.
      const [r, g, b] = steps[Math.round(t * STEPS) + STEPS];
      image.data.set([r, g, b, Number.isFinite(v) ? 255 : 0], 4 * k);
    }
    pen.putImageData(image, 0, 0);
    drawTree();
    overlay();
  };

  const overlay = () => {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [heat.clientWidth, heat.clientHeight];
    over.width = width * ratio;
    over.height = height * ratio;
    const pen = over.getContext("2d")!;
    pen.scale(ratio, ratio);
    const ink = getComputedStyle(root).getPropertyValue("--slt-text");
    pen.strokeStyle = ink;
    const [cw, ch] = [width / columns.length, height / rows.length];
    pen.globalAlpha = 0.35;
    pen.lineWidth = 1;
    pen.beginPath();
    rows.forEach((s, i) => { if (i && edge(s.from)) { pen.moveTo(0, i * ch); pen.lineTo(width, i * ch); } });
    columns.forEach((s, j) => { if (j && edge(s.from)) { pen.moveTo(j * cw, 0); pen.lineTo(j * cw, height); } });
    pen.stroke();
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    if (at[0] >= 0) pen.strokeRect(at[1] * cw, at[0] * ch, Math.max(cw, 3), Math.max(ch, 3));
    const own = focus?.focus ? index.get(`${focus.focus.example}\n${focus.focus.token}`) : undefined;
    const row = own === undefined ? -1 : rows.findIndex((s) => own >= s.from && own < s.to);
    if (row >= 0) {
      pen.setLineDash([3, 3]);
      pen.lineWidth = 1;
      pen.strokeRect(0, row * ch, width, Math.max(ch, 2));
    }
  };
  const edges = new Set(nodes.filter((node) => node.depth === 0).map((node) => node.from));
  const edge = (from: number) => edges.has(from);

  const drawTree = () => {
    const [r0, r1] = stack[stack.length - 1];
    const height = heat.clientHeight;
    branches.style.setProperty("--size", `${height}px`);
    const shut = closed();
    const place = new Map<number, number>();
    rows.forEach((s, i) => { for (let k = s.from; k < s.to; k++) place.set(k, i); });
    const made: Node[] = [];
    const ch = height / rows.length;
    const deepest = Math.max(0, ...nodes.map((node) => node.depth));
    const visit = (k: number) => {
      const node = nodes[k];
      const [a, b] = [Math.max(r0, node.from), Math.min(r1, node.to)];
      if (a >= b) return;
      const [top, bottom] = [(place.get(a) ?? 0) * ch, ((place.get(b - 1) ?? 0) + 1) * ch];
      const open = !shut.has(k);
      const leaf = !node.children.length || !open;
      if (bottom - top >= 9) {
        const button = h(
          "button",
          { "aria-expanded": String(open), title: `${node.name}: ${node.to - node.from} examples`, onclick: () => set("closed", open ? [...shut, k] : [...shut].filter((one) => one !== k)) },
          `${open ? "\u25be" : "\u25b8"} ${node.name}`,
        );
        button.style.top = `${top}px`;
        button.style.height = `${bottom - top - 1}px`;
        button.style.insetInlineStart = `${(100 * node.depth) / (deepest + 1)}%`;
        if (!leaf) button.style.insetInlineEnd = `${100 - (100 * (node.depth + 1)) / (deepest + 1)}%`;
        made.push(button);
      }
      if (open) node.children.forEach(visit);
    };
    roots.forEach(visit);
    fill(branches, ...made);
  };

  const drawLegend = () => {
    const ramp: Node[] = [];
    for (let i = STEPS; i > 0; i -= 2) ramp.push(h("i", { class: `vn${i}` }));
    ramp.push(h("i", { class: "v0" }));
    for (let i = 2; i <= STEPS; i += 2) ramp.push(h("i", { class: `vp${i}` }));
    const many = rows.some((s) => !single(s)) || columns.some((s) => !single(s));
    fill(
      legend,
      h("span.scale", {}, h("span", {}, "opposite"), h("b", {}, show(-limit)), h("span.ramp", { "aria-hidden": "true" }, ...ramp), h("b", {}, show(limit, true)), h("span", {}, "alike")),
      h("span", {}, covariance() ? "covariance, nats\u00b2" : "correlation"),
      h("span.quiet", {}, "scale ends at 99.5 % of |values|"),
      many && h("span.quiet", {}, `cells are means over blocks of pairs (${rows.length} rows for ${stack[stack.length - 1][1] - stack[stack.length - 1][0]} examples)`),
    );
  };

  // A cell ------------------------------------------------------------------------------------------

  const written = (a: Segment, b: Segment): string => {
    const { value, error } = blocks.cell(a, b, covariance());
    return `${show(value, true)}${Number.isFinite(error) ? ` \u00b1 ${show(error, false, 2)}` : ""}`;
  };
  const size = (s: Segment) => (single(s) ? "" : ` (${s.to - s.from})`);

  const hover = (i: number, j: number, box = true) => {
    if (i === at[0] && j === at[1]) return;
    at = [i, j];
    overlay();
    if (i < 0 || !rows[i] || !columns[j]) return tip.hide();
    const [a, b] = [rows[i], columns[j]];
    live.textContent = `${a.name}${size(a)} and ${b.name}${size(b)}: ${written(a, b)}`;
    if (single(a)) focus?.setHover(place(a.from));
    if (!box) return;
    near.style.left = `${((j + 0.5) * heat.clientWidth) / columns.length}px`;
    near.style.top = `${((i + 1) * heat.clientHeight) / rows.length}px`;
    const { value, error, pairs } = blocks.cell(a, b, covariance());
    const known = Number.isFinite(error) ? (Math.abs(value) > meta.z * error ? "95 % interval leaves 0 out" : "95 % interval holds 0") : "no standard error";
    tip.show(near, [
      h("div.big", {}, `${show(value, true)} \u00b1 ${show(error, false, 2)}`),
      h("p", {}, `${a.name}${size(a)}`),
      h("p", {}, `${b.name}${size(b)}`),
      h("p.quiet", {}, pairs > 1 ? `mean of ${pairs} pairs; ${known}` : known),
    ]);
  };

  const enter = (i: number, j: number) => {
    const [a, b] = [rows[i], columns[j]];
    if (!a || !b) return;
    if (single(a) && single(b)) {
      shownPair = [a.from, b.from];
      focus?.setFocus(place(a.from));
      drawPair();
      return;
    }
    // A closed branch that is entered opens.
    const shut = [...closed()].filter((k) => !((nodes[k].from === a.from && nodes[k].to === a.to) || (nodes[k].from === b.from && nodes[k].to === b.to)));
    const own = a.from === b.from && a.to === b.to;
    const wide = (s: Segment): [number, number] => (single(s) ? [Math.max(0, s.from - 10), Math.min(n, s.to + 10)] : [s.from, s.to]);
    stack.push(own ? [a.from, a.to, a.from, a.to] : [...wide(a), ...wide(b)]);
    at = [-1, -1];
    tip.hide();
    if (shut.length !== closed().size) set("closed", shut);
    else update();
  };
  const out = () => {
    if (stack.length > 1) stack.pop();
    at = [-1, -1];
    update();
  };

  const drawPair = () => {
    if (!shownPair) return fill(pair, h("h4", {}, "No pair chosen"), h("p.quiet", {}, "Click a cell of two single examples to see their losses over the draws; a block opens."));
    const [i, j] = shownPair;
    const seg = (k: number): Segment => ({ from: k, to: k + 1, name: names[k] });
    const r = blocks.cell(seg(i), seg(j), false);
    const c = blocks.cell(seg(i), seg(j), true);
    const plot = h("canvas.plot", { role: "img", "aria-label": `Loss of ${names[i]} against loss of ${names[j]} over ${meta.draws} draws, correlation ${show(r.value, true)}` });
    fill(
      pair,
      h("h4", {}, i === j ? "One example with itself" : "Two losses over the draws"),
      plot,
      h("p", {}, h("b", {}, "across "), names[j], h("span.quiet", {}, ` sd ${show(data.sd[j])} nats`)),
      h("p", {}, h("b", {}, "up "), names[i], h("span.quiet", {}, ` sd ${show(data.sd[i])} nats`)),
      h("p", {}, `correlation ${show(r.value, true)} \u00b1 ${show(r.error, false, 2)}`),
      h("p", {}, `covariance ${show(c.value, true)} \u00b1 ${show(c.error, false, 2)} nats\u00b2`),
      h("p.legend", {}, ...Array.from({ length: Math.min(8, meta.chains) }, (_, k) => h("span.chain", { class: `chain k${k}` }, h("i", { "aria-hidden": "true" }), `chain ${k}`))),
    );
    const ratio = devicePixelRatio || 1;
    const side = Math.min(300, plot.clientWidth || 260);
    plot.width = plot.height = side * ratio;
    const pen = plot.getContext("2d")!;
    pen.scale(ratio, ratio);
    const [x, y] = [data.q.subarray(j * meta.draws, (j + 1) * meta.draws), data.q.subarray(i * meta.draws, (i + 1) * meta.draws)];
    const style = getComputedStyle(root);
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
  };

  // The rest ----------------------------------------------------------------------------------------

  const cells = (): [Segment, Segment, number][] => {
    const list: [Segment, Segment, number][] = [];
    rows.forEach((a, i) => columns.forEach((b, j) => {
      const v = values[i * columns.length + j];
      if (Number.isFinite(v) && (rows !== columns || j >= i) && !(single(a) && a.from === b.from && single(b))) list.push([a, b, v]);
    }));
    return list.sort((p, q) => Math.abs(q[2]) - Math.abs(p[2]));
  };
  const showTable = (yes: boolean) => {
    twin.hidden = !yes;
    heat.parentElement!.hidden = yes;
    if (!yes) return;
    const what = covariance() ? "covariance" : "correlation";
    fill(twin, table(`Cells on show, largest first (at most 300): mean ${what}`, ["row", "column", `${what} \u00b1 s.e.#`], cells().slice(0, 300).map(([a, b]) => h("tr", {}, h("td", {}, a.name + size(a)), h("td", {}, b.name + size(b)), h("td.num", {}, written(a, b))))));
  };
  const saveCsv = () => {
    const lines: (string | number)[][] = [["row", "column", covariance() ? "covariance" : "correlation", "standard_error", "pairs"]];
    for (const [a, b] of cells().slice(0, 20000)) {
      const c = blocks.cell(a, b, covariance());
      lines.push([a.name, b.name, c.value, c.error, c.pairs]);
    }
    download("kernel.csv", csv(lines), "text/csv");
  };

  const update = () => {
    compute();
    paint();
    drawLegend();
    drawPair();
    correlation.setAttribute("aria-pressed", String(!covariance()));
    cov.setAttribute("aria-pressed", String(covariance()));
    const [r0, r1, c0, c1] = stack[stack.length - 1];
    trail.textContent = stack.length > 1 ? `${names[r0]} \u2026 ${names[r1 - 1]} by ${names[c0]} \u2026 ${names[c1 - 1]}` : `all ${n}`;
    back.hidden = stack.length < 2;
    heat.setAttribute("aria-label", `${meta.title}: kernel of ${r1 - r0} by ${c1 - c0} examples in ${rows.length} by ${columns.length} cells. Arrow keys move, Enter goes in, ? lists all keys`);
    if (!twin.hidden) showTable(true);
  };

  const cellAt = (event: PointerEvent | MouseEvent): [number, number] => {
    const box = heat.getBoundingClientRect();
    const clamp = (v: number, most: number) => Math.max(0, Math.min(most - 1, Math.floor(v)));
    return [clamp(((event.clientY - box.top) / box.height) * rows.length, rows.length), clamp(((event.clientX - box.left) / box.width) * columns.length, columns.length)];
  };
  const on = (target: EventTarget, name: string, run: (event: any) => void, capture = false) => target.addEventListener(name, run, { signal, capture });
  on(heat, "pointermove", (event: PointerEvent) => hover(...cellAt(event)));
  on(heat, "pointerleave", () => hover(-1, -1));
  on(heat, "blur", () => hover(-1, -1));
  on(heat, "click", (event: MouseEvent) => enter(...cellAt(event)));
  on(window, "scroll", () => tip.hide(), true);
  const step = (di: number, dj: number) => hover(Math.max(0, Math.min(rows.length - 1, Math.max(0, at[0]) + di)), Math.max(0, Math.min(columns.length - 1, Math.max(0, at[1]) + dj)));
  const keyed: Record<string, () => void> = {
    ArrowUp: () => step(-1, 0),
    ArrowDown: () => step(1, 0),
    ArrowLeft: () => step(0, -1),
    ArrowRight: () => step(0, 1),
    Enter: () => enter(...at),
    Backspace: out,
    Escape: out,
    m: () => set("normalize", covariance()),
    "?": () => keys.click(),
  };
  on(root, "keydown", (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const run = event.target === heat || event.key === "?" ? keyed[event.key] : null;
    if (run) {
      run();
      event.preventDefault();
    }
    if (run || event.target === heat) event.stopPropagation();
  });

  const correlation = h("button", { onclick: () => set("normalize", true) }, "correlation");
  const cov = h("button", { onclick: () => set("normalize", false) }, "covariance");
  const back = h("button", { onclick: out, title: "One step out (Backspace)" }, "\u2190 out");
  const helpBox = h("div.help", { hidden: true }, h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
  const keys = toggle("?", "Keys", (yes) => (helpBox.hidden = !yes));
  const depth = Math.max(0, ...nodes.map((node) => node.depth));
  const levels = Array.from({ length: depth + 1 }, (_, d) =>
    h("button", { title: `one row for every branch at depth ${d + 1}`, onclick: () => set("closed", nodes.map((_, k) => k).filter((k) => nodes[k].depth === d && nodes[k].to - nodes[k].from > 1)) }, `level ${d + 1}`),
  );
  root.append(
    h(
      "div.bar",
      { role: "toolbar", "aria-label": `${meta.title}: tools` },
      h("span.title", {}, meta.title),
      h("span.group", { role: "group", "aria-label": "Measure" }, correlation, cov),
      h("span.group", { role: "group", "aria-label": "Close branches" }, ...levels, h("button", { onclick: () => set("closed", []) }, "examples")),
      back,
      trail,
      h("span.grow"),
      toggle("Table", "Table of the cells on show", showTable),
      h("button", { onclick: saveCsv, title: "Download the cells on show" }, "CSV"),
      keys,
    ),
    helpBox,
    legend,
    h("div.view2", {}, branches, heat, pair),
    twin,
    foot,
    live,
    tip.element,
  );
  add(foot, h("p", {}, `Order: ${meta.order}.`), ...meta.notes.map((text) => h("p", {}, text)));
  const observer = new ResizeObserver(() => { drawTree(); overlay(); });
  observer.observe(heat);
  const themes = new MutationObserver(() => { paint(); drawPair(); });
  themes.observe(root, { attributes: true, attributeFilter: ["data-slt-theme"] });
  signal?.addEventListener("abort", () => {
    observer.disconnect();
    themes.disconnect();
  });
  const first = model.get("pair") as number[];
  if (first?.length === 2) shownPair = [first[0], first[1]];
  update();
  watch(model, ["closed", "normalize"], update, signal);
  focus = await FocusLink.connect(props, (part: Part) => part === "focus" && overlay());
  overlay();
  el.dataset.sltReady = String(Date.now());
}

export default mount(draw);
