// EmbeddingMap: points to colour by any coordinate, to lasso and to inspect.
//   embedding/data      what a point is          embedding/scene     how the map is painted
//   embedding/gestures  what a reader does       embedding/panels    what stands around the map
import type { RenderProps } from "../../base/afm";
import { chartShell, csvButton, toolbar } from "../../base/chart_shell";
import { add, fill, h, toggle } from "../../base/dom";
import { FocusLink } from "../../base/focus";
import type { Part } from "../../base/focus";
import { mountData } from "../../base/mount";
import { pngButton } from "../../base/png";
import { Tip } from "../../base/tip";
import chartCss from "../../base/chart.css";
import { Points } from "../embedding/data";
import type { Meta } from "../embedding/data";
import { Gestures, KEYS } from "../embedding/gestures";
import { card, drawLegend, drawSide, drawTable, fileName, rowsOf } from "../embedding/panels";
import { Scene } from "../embedding/scene";
import css from "./embedding.css";

async function draw(props: RenderProps, meta: Meta, data: Record<string, any>): Promise<void> {
  const points = new Points(meta, data);
  const { n, coordinates } = points;
  const twin = h("div.twin", { hidden: true, tabindex: 0, role: "region", "aria-label": "Table of points" });
  const shell = chartShell(props, h("div.mapped"), "embedding", chartCss + css, twin);
  const { root, set } = shell;
  const { signal } = props;
  const side = h("div.picked", { role: "region", tabindex: 0, "aria-label": "Selected points" });
  const legend = h("div.legend", { role: "group", "aria-label": "Colours" });
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const foot = h("div.foot");
  const tip = new Tip();
  const near = h("span", { style: "position:absolute;width:1px;height:1px" });
  let cursor = -1; // the keyboard's or the pointer's point
  let only = -1; // one category shown alone
  let chosen: number[] = [];
  let focus: FocusLink | null = null;

  const at = () => Math.min(Math.max(0, shell.get<number>("color") ?? 0), coordinates.length - 1);
  const colour = () => coordinates[at()];
  const shown = (k: number) => only < 0 || colour().kind !== "category" || colour().values[k] === only;
  const focused = () => points.find(focus?.focus ?? null);
  const select = (list: number[]) => set("selected", list);
  const choose = (i: number) => {
    only = -1;
    set("color", (i + coordinates.length) % coordinates.length);
  };
  const scene = new Scene(
    root, points, () => ({ colour: colour(), shown, chosen }),
    () => ({ focus: focused(), pins: (focus?.pins ?? []).map((pin) => points.find(pin)), cursor, lasso: gestures?.lasso ?? null }),
  );
  const stage = h("div.stage", { tabindex: 0, role: "application" }, scene.under, scene.over, near);

  const say = (k: number) => {
    const c = colour();
    live.textContent = `${points.where(k)} ${points.name(k)}, ${c.name} ${points.value(c, k)}`;
  };
  const hover = (k: number, share = true) => {
    if (k === cursor) return;
    cursor = k;
    scene.overlay();
    if (share) focus?.setHover(k < 0 ? null : points.place(k));
    if (k < 0) return tip.hide();
    const [x, y] = scene.finder.at(k);
    near.style.left = `${x}px`;
    near.style.top = `${y + 4}px`;
    if (share) tip.show(near, card(points, k));
    else tip.hide();
  };
  const pick = (k: number) => {
    if (k < 0) return;
    focus?.setFocus(points.place(k));
    say(k);
  };
  let gestures: Gestures | null = null;
  gestures = new Gestures(root, stage, scene, {
    count: n, shown, chosen: () => chosen, cursor: () => cursor, focused, hover, pick, say, select,
    tell: (text) => (live.textContent = text),
    alike: (k) => (colour().kind === "category" ? [...Array(n).keys()].filter((i) => colour().values[i] === colour().values[k]) : null),
    choose: (by) => choose(at() + by),
    unfocus: () => focus?.setFocus(null),
    keys: () => keys.click(),
  }, signal);

  const aside = () => {
    drawSide(side, meta, points, chosen, colour(), focused(), { pick, hover });
    shell.refreshTable();
  };
  const colours = () =>
    drawLegend(legend, points, colour(), only, (code) => {
      only = only === code ? -1 : code;
      colours();
      scene.paint();
    });
  const update = () => {
    chosen = (shell.get<number[]>("selected") ?? []).filter((k) => k >= 0 && k < n);
    picker.selectedIndex = at();
    colours();
    aside();
    scene.paint();
    stage.setAttribute("aria-label", `${meta.title}: map of ${n} ${meta.what}s, coloured by ${colour().name}; ${chosen.length} selected. Arrow keys move between points, ? lists all keys`);
    fill(foot);
    const layout = meta.layouts[scene.layout];
    add(foot, h("p", {}, `${layout.name}: ${layout.note}`), ...meta.notes.map((text) => h("p", {}, text)));
  };

  const picker = h("select", { "aria-label": "Colour by", onchange: () => choose(picker.selectedIndex) });
  for (const c of coordinates) picker.append(h("option", {}, c.name));
  const layouts = h("select", { "aria-label": "Layout", onchange: () => { scene.layout = layouts.selectedIndex; scene.everything(); update(); } });
  for (const one of meta.layouts) layouts.append(h("option", {}, one.name));
  const helpBox = h("div.help", { hidden: true }, h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
  const keys = toggle("?", "Keys", (open) => (helpBox.hidden = !open));
  const closer = (factor: number) => () => gestures!.middle(factor);
  stage.append(
    h(
      "div.zoom", {},
      h("button", { title: "Closer (+)", "aria-label": "Closer", tabindex: -1, onclick: closer(1.4) }, "+"),
      h("button", { title: "Farther (\u2212)", "aria-label": "Farther", tabindex: -1, onclick: closer(1 / 1.4) }, "\u2212"),
      h("button", { title: "Everything (0)", "aria-label": "Everything", tabindex: -1, onclick: () => scene.everything() }, "\u2922"),
    ),
  );
  root.append(
    toolbar([meta.layouts.length > 1 && layouts, h("label.quiet", {}, "colour ", picker)], [
      points.images && toggle("Images", "Show images on the map", (yes) => { scene.pictures = yes; scene.paint(); }),
      toggle("Move", "Drag moves the map instead of drawing a lasso", (yes) => { gestures!.hand = yes; stage.classList.toggle("pan", yes); }),
      shell.tableButton(() => drawTable(twin, meta, points, chosen, pick), "Table of points", () => stage.parentElement!),
      csvButton(fileName(meta), () => rowsOf(meta, points, chosen, scene.layout), "Download the points"),
      pngButton(fileName(meta).replace(/\.csv$/, ".png"), stage),
      keys,
    ], meta.title),
    helpBox, legend, h("div.map", {}, stage, side), twin, foot, live, tip.element,
  );

  const measure = () => scene.resize({ width: stage.clientWidth, height: stage.clientHeight });
  shell.onSize(stage, measure);
  shell.onTheme(() => { colours(); scene.paint(); });
  window.addEventListener("scroll", () => tip.hide(), { capture: true, signal });
  signal?.addEventListener("abort", () => scene.stop());
  measure();
  update();
  shell.follow(["color", "selected"], update);
  focus = await FocusLink.connect(props, (part: Part, by: unknown) => {
    if (part === "hover") {
      if (by !== focus) hover(points.find(focus?.hover ?? null), false);
      return;
    }
    if (part === "component") {
      const i = coordinates.findIndex((c) => c.name === focus?.component);
      if (i >= 0 && i !== at()) set("color", i);
      return;
    }
    scene.overlay();
    if (part !== "focus") return;
    aside();
    const k = focused();
    if (k < 0) return;
    const [x, y] = scene.finder.at(k);
    const { width, height } = scene.box;
    // A point chosen elsewhere is brought into view.
    if (x < 0 || y < 0 || x > width || y > height) scene.through({ ...scene.camera, dx: scene.camera.dx + width / 2 - x, dy: scene.camera.dy + height / 2 - y });
  });
  scene.overlay();
}

export default mountData<Meta>(draw);
