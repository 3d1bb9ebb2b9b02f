// KernelMatrix: the loss kernel in the order of a tree: open and close its
// branches, go into a block, and look at a pair: its two losses over the draws.
import type { RenderProps } from "../../base/afm";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import type { Segment } from "../blocks";
import { add, h, toggle } from "../../base/dom";
import { FocusLink } from "../../base/focus";
import type { Part } from "../../base/focus";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { Tip } from "../../base/tip";
import chartCss from "../../base/chart.css";
import { drawBranches, levelButtons } from "../matrix/branches";
import { drawLegend, drawTable, rowsOf, tipOf, written } from "../matrix/cells";
import { Kernel, single, size } from "../matrix/data";
import type { Meta, Range, Sight } from "../matrix/data";
import { drawPair } from "../matrix/pair";
import { Picture } from "../matrix/picture";
import css from "./matrix.css";

const KEYS = [
  ["click, Enter", "zoom into the block; for two single examples: their losses over the draws"],
  ["arrows", "move from cell to cell"],
  ["Backspace, Esc", "zoom out"],
  ["names at the side", "close or open a branch of the tree: a closed one is one row of means"],
  ["m", "correlation or covariance"],
  ["?", "this list"],
];

async function draw(props: RenderProps, meta: Meta, data: Record<string, any>): Promise<void> {
  const kernel = new Kernel(meta, data);
  const { n, names, nodes } = kernel;

  const twin = h("div.twin", { hidden: true, tabindex: 0, role: "region", "aria-label": "Table of cells" });
  const shell = chartShell(props, h("div.matrix"), "matrix", chartCss + css, twin);
  const { root, set } = shell;
  const { signal } = props;
  const picture = new Picture(kernel);
  const heat = picture.element;
  const branches = h("div.tree", { role: "group", "aria-label": "Branches" });
  const pair = h("div.pair", { role: "region", "aria-label": "The pair", tabindex: 0 });
  const legend = h("div.legend");
  const trail = h("span.quiet");
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const foot = h("div.foot");
  const tip = new Tip();

  const stack: Range[] = [[0, n, 0, n]];
  const here = (): Range => stack[stack.length - 1];
  const closed = () => new Set<number>(shell.get<number[]>("closed") ?? []);
  const covariance = () => !shell.get<boolean>("normalize");
  const close = (list: number[]) => set("closed", list);
  let sight: Sight = kernel.look(here(), closed(), covariance());
  let at: [number, number] = [-1, -1];
  let shownPair: [number, number] | null = null;
  let focus: FocusLink | null = null;

  // What is seen ------------------------------------------------------------------------------------

  const overlay = () => picture.overlay(sight, at, focus?.focus ? kernel.find(focus.focus) : undefined);
  const drawTree = () => drawBranches(branches, heat.clientHeight, kernel, sight, closed(), close);
  const paint = () => {
    picture.paint(sight);
    drawTree();
    overlay();
  };
  const showPair = () => drawPair(pair, kernel, shownPair);
  const update = () => {
    sight = kernel.look(here(), closed(), covariance());
    paint();
    drawLegend(legend, sight);
    showPair();
    correlation.setAttribute("aria-pressed", String(!covariance()));
    cov.setAttribute("aria-pressed", String(covariance()));
    const [r0, r1, c0, c1] = here();
    trail.textContent = stack.length > 1 ? `${names[r0]} \u2026 ${names[r1 - 1]} by ${names[c0]} \u2026 ${names[c1 - 1]}` : `all ${n}`;
    back.hidden = stack.length < 2;
    heat.setAttribute("aria-label", `${meta.title}: kernel of ${r1 - r0} by ${c1 - c0} examples in ${sight.rows.length} by ${sight.columns.length} cells. Arrow keys move, Enter goes in, ? lists all keys`);
    shell.refreshTable();
  };

  // What a reader does ------------------------------------------------------------------------------

  const hover = (i: number, j: number) => {
    if (i === at[0] && j === at[1]) return;
    at = [i, j];
    overlay();
    const [a, b] = [sight.rows[i], sight.columns[j]];
    if (!a || !b) return tip.hide();
    live.textContent = `${a.name}${size(a)} and ${b.name}${size(b)}: ${written(kernel, a, b, covariance())}`;
    if (single(a)) focus?.setHover(kernel.place(a.from));
    picture.point(sight, i, j);
    tip.show(picture.near, tipOf(kernel, a, b, covariance()));
  };

  const enter = (i: number, j: number) => {
    const [a, b] = [sight.rows[i], sight.columns[j]];
    if (!a || !b) return;
    if (single(a) && single(b)) {
      shownPair = [a.from, b.from];
      focus?.setFocus(kernel.place(a.from));
      showPair();
      return;
    }
    // A closed branch that is entered opens.
    const is = (k: number, s: Segment) => nodes[k].from === s.from && nodes[k].to === s.to;
    const shut = [...closed()].filter((k) => !is(k, a) && !is(k, b));
    const own = a.from === b.from && a.to === b.to;
    const wide = (s: Segment): [number, number] => (single(s) ? [Math.max(0, s.from - 10), Math.min(n, s.to + 10)] : [s.from, s.to]);
    stack.push(own ? [a.from, a.to, a.from, a.to] : [...wide(a), ...wide(b)]);
    at = [-1, -1];
    tip.hide();
    if (shut.length !== closed().size) close(shut);
    else update();
  };
  const out = () => {
    if (stack.length > 1) stack.pop();
    at = [-1, -1];
    update();
  };

  const on = (target: EventTarget, name: string, run: (event: any) => void, capture = false) => target.addEventListener(name, run, { signal, capture });
  on(heat, "pointermove", (event: PointerEvent) => hover(...picture.cellAt(sight, event)));
  on(heat, "pointerleave", () => hover(-1, -1));
  on(heat, "blur", () => hover(-1, -1));
  on(heat, "click", (event: MouseEvent) => enter(...picture.cellAt(sight, event)));
  on(window, "scroll", () => tip.hide(), true);
  const within = (v: number, most: number) => Math.max(0, Math.min(most - 1, v));
  const step = (di: number, dj: number) => hover(within(Math.max(0, at[0]) + di, sight.rows.length), within(Math.max(0, at[1]) + dj, sight.columns.length));
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

  // How it is laid out ------------------------------------------------------------------------------

  const correlation = h("button", { onclick: () => set("normalize", true) }, "correlation");
  const cov = h("button", { onclick: () => set("normalize", false) }, "covariance");
  const back = h("button", { onclick: out, title: "One step out (Backspace)" }, "\u2190 out");
  const helpBox = h("div.help", { hidden: true }, h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
  const keys = toggle("?", "Keys", (yes) => (helpBox.hidden = !yes));
  root.append(
    toolbar(
      [
        h("span.group", { role: "group", "aria-label": "Measure" }, correlation, cov),
        h("span.group", { role: "group", "aria-label": "Close branches" }, ...levelButtons(kernel, close), h("button", { onclick: () => close([]) }, "examples")),
        back,
        trail,
      ],
      [
        shell.tableButton(() => drawTable(twin, kernel, sight), "Table of the cells on show", () => heat.parentElement!),
        csvButton("kernel.csv", () => rowsOf(kernel, sight), "Download the cells on show"),
        pngButton("kernel.png", root),
        keys,
      ],
      meta.title,
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
  shell.onSize(heat, () => { drawTree(); overlay(); });
  shell.onTheme(() => { paint(); showPair(); });
  const first = shell.get<number[]>("pair");
  if (first?.length === 2) shownPair = [first[0], first[1]];
  update();
  shell.follow(["closed", "normalize"], update);
  focus = await FocusLink.connect(props, (part: Part) => part === "focus" && overlay());
  overlay();
}

export default mountData<Meta>(draw);
