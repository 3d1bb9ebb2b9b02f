// Which examples lie together?  A map of points: colour by any coordinate, lasso, look at what is in it.
import type { RenderProps } from "./lib/afm";
import { watch } from "./lib/afm";
import { unpack } from "./lib/codec";
import type { PayloadMeta } from "./lib/codec";
import { visible } from "./lib/corpus";
import { add, csv, download, fill, h, show, table, toggle } from "./lib/dom";
import { FocusLink } from "./lib/focus";
import type { Part } from "./lib/focus";
import { mount } from "./lib/mount";
import { HUES, isDiverging, layers, palette, picture, ramp } from "./lib/paint";
import type { Coordinate, Images } from "./lib/paint";
import { enriched, Finder, fit, inside, zoom } from "./lib/points";
import type { Camera, Cloud } from "./lib/points";
import { isDark, useTheme } from "./lib/theme";
import { Tip } from "./lib/tip";
import chartCss from "./charts/chart.css";
import css from "./embedding.css";

interface Meta extends PayloadMeta {
  title: string;
  count: number;
  layouts: { name: string; note: string }[];
  coordinates: Omit<Coordinate, "values">[];
  images: [number, number, number] | null;
  what: string; // "example" or "token"
  notes: string[];
}

const REACH = 14; // pixels from which the pointer finds a point
const LISTED = 240; // points in the list beside the map
const KEYS = [
  ["drag", "draw a lasso; with Shift: add to the selection; after \u2018Move\u2019: move the map"],
  ["arrows", "go to the next point that way"],
  ["Enter, click", "focus the point, in every linked view"],
  ["Space, Ctrl-click", "add the point to the selection, or take it out"],
  ["c", "select all points of this point's category"],
  ["v", "select all points in view"],
  ["[ ]", "coordinate before, after"],
  ["+ \u2212 0", "closer, farther, everything (Ctrl + wheel)"],
  ["Esc", "clear the selection, then the focus"],
];

/** Text of data on one line; what is nothing but blanks is made visible. */
const tidy = (text: string): string => (text.trim() ? text.replace(/\s*\n\s*/g, "\u23ce").replaceAll("\t", " ") : visible(text));

async function draw(props: RenderProps): Promise<void> {
  const { model, el, signal } = props;
  const meta = model.get("meta") as Meta;
  const data = await unpack(meta, model.get("payload"));
  if (signal?.aborted) return;
  const n = meta.count;
  const clouds: Cloud[] = meta.layouts.map((_, i) => ({ x: data[`x${i}`], y: data[`y${i}`] }));
  const coordinates: Coordinate[] = meta.coordinates.map((c, i) => ({ ...c, categories: c.categories.map(tidy), values: data[`c${i}`] }));
  const examples: string[] = data.examples;
  const of: Int32Array = data.example; // point -> index in examples
  const token: Int32Array = data.token;
  const label: string[] = data.label;
  const context: [string, string, string][] | null = data.context ?? null;
  const images: Images | null = meta.images && { data: data.images, height: meta.images[0], width: meta.images[1], channels: meta.images[2] };
  const index = new Map<string, number>();
  for (let k = 0; k < n; k++) index.set(`${examples[of[k]]}\n${token[k]}`, k);
  const place = (k: number) => ({ example: examples[of[k]], token: token[k] });
  const find = (p: { example: string; token: number } | null) => (p ? (index.get(`${p.example}\n${p.token}`) ?? -1) : -1);
  const where = (k: number) => (meta.what === "token" ? `${examples[of[k]]} \u00b7 ${token[k]}` : examples[of[k]]);

  const root = h("div.mapped");
  el.append(root);
  useTheme(root, "embedding", chartCss + css, signal);
  const under = h("canvas");
  const over = h("canvas");
  const stage = h("div.stage", { tabindex: 0, role: "application" }, under, over);
  const side = h("div.picked", { role: "region", tabindex: 0, "aria-label": "Selected points" });
  const legend = h("div.legend", { role: "group", "aria-label": "Colours" });
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const foot = h("div.foot");
  const twin = h("div.twin", { hidden: true, tabindex: 0, role: "region", "aria-label": "Table of points" });
  const tip = new Tip();
  const near = h("span", { style: "position:absolute;width:1px;height:1px" });
  stage.append(near);

  let layout = 0;
  let camera: Camera = { k: 1, dx: 0, dy: 0 };
  let finder = new Finder(clouds[0], camera);
  let box = { width: 0, height: 0 };
  let cursor = -1; // the keyboard's or the pointer's point
  let lasso: number[] | null = null;
  let moving: { x: number; y: number; camera: Camera } | null = null;
  let hand = false; // drag moves the map
  let pictures = false;
  let only = -1; // one category shown alone
  let chosen: number[] = [];
  let focus: FocusLink | null = null;

  const at = () => Math.min(Math.max(0, model.get("color") ?? 0), coordinates.length - 1);
  const colour = () => coordinates[at()];
  const shown = (k: number) => only < 0 || colour().kind !== "category" || colour().values[k] === only;
  const valueOf = (c: Coordinate, k: number): string => (c.kind === "category" ? (c.values[k] < 0 ? "none" : c.categories[c.values[k]]) : show(c.values[k]));

  // The picture -------------------------------------------------------------------------------------

  const radius = () => Math.max(1.6, Math.min(5, 90 / Math.sqrt(n)) * Math.min(2, Math.sqrt(camera.k / fit(clouds[layout], box).k)));

  const prepare = (canvas: HTMLCanvasElement): CanvasRenderingContext2D => {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const pen = canvas.getContext("2d")!;
    pen.scale(ratio, ratio);
    return pen;
  };

  const paint = () => {
    const pen = prepare(under);
    const c = colour();
    const own = palette(root);
    const quiet = own[HUES];
    const colours = c.kind === "category" ? own.slice(0, HUES) : ramp(c, isDark());
    const r = radius();
    const dot = (k: number) => {
      const [x, y] = finder.at(k);
      if (x < -r || y < -r || x > box.width + r || y > box.height + r) return;
      pen.moveTo(x + r, y);
      pen.arc(x, y, r, 0, 2 * Math.PI);
    };
    const selected = new Set(chosen);
    for (const [fillStyle, list] of layers(c, n, colours, quiet)) {
      for (const bright of [false, true]) {
        pen.beginPath();
        for (const k of list) if ((shown(k) && (!selected.size || selected.has(k))) === bright) dot(k);
        pen.fillStyle = fillStyle;
        pen.globalAlpha = bright ? (n > 5000 ? 0.75 : 0.92) : 0.13;
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (pictures && images) {
      // One image a cell, so that they do not cover one another.
      const size = 22;
      const taken = new Set<number>();
      for (let k = 0; k < n; k++) {
        const [x, y] = finder.at(k);
        if (!shown(k) || !(x > 0 && y > 0 && x < box.width && y < box.height)) continue;
        const cell = Math.floor(x / size) * 4096 + Math.floor(y / size);
        if (taken.has(cell)) continue;
        taken.add(cell);
        pen.imageSmoothingEnabled = false;
        pen.drawImage(picture(images, k, size), x - size / 2, y - size / 2, size, (size * images.height) / images.width);
      }
    }
    overlay();
  };

  const overlay = () => {
    const pen = prepare(over);
    const style = getComputedStyle(root);
    const ink = style.getPropertyValue("--slt-text");
    const ring = (k: number, size: number, dash: number[]) => {
      if (k < 0) return;
      const [x, y] = finder.at(k);
      pen.beginPath();
      pen.arc(x, y, radius() + size, 0, 2 * Math.PI);
      pen.setLineDash(dash);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.stroke();
    };
    ring(find(focus?.focus ?? null), 4, []);
    for (const pin of focus?.pins ?? []) ring(find(pin), 2, [2, 2]);
    ring(cursor, 3, [3, 2]);
    if (lasso && lasso.length > 2) {
      pen.beginPath();
      pen.moveTo(lasso[0], lasso[1]);
      for (let m = 2; m < lasso.length; m += 2) pen.lineTo(lasso[m], lasso[m + 1]);
      pen.closePath();
      pen.setLineDash([5, 4]);
      pen.strokeStyle = ink;
      pen.lineWidth = 1.2;
      pen.stroke();
      pen.globalAlpha = 0.07;
      pen.fillStyle = ink;
      pen.fill();
    }
  };

  let pending = 0;
  const repaint = () => {
    finder = new Finder(clouds[layout], camera);
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(paint);
  };
  const look = (next: Camera) => {
    camera = next;
    repaint();
  };
  const reset = () => look(fit(clouds[layout], box));

  // What a point is ---------------------------------------------------------------------------------

  const words = (k: number): Node[] =>
    context ? [h("i", {}, context[k][0] ? tidy(context[k][0]).slice(-22) : ""), h("b", {}, tidy(context[k][1])), h("i", {}, context[k][2] ? tidy(context[k][2]) : "")] : [h("span", {}, label[k])];

  const card = (k: number): Node[] => [
    ...(images ? [picture(images, k, 64)] : []),
    h("p", {}, ...words(k)),
    h("p.quiet", {}, where(k)),
    ...coordinates.slice(0, 8).map((c) => h("p", {}, `${c.name}: ${valueOf(c, k)}`)),
  ];

  const say = (k: number) => {
    const c = colour();
    live.textContent = `${where(k)} ${context ? context[k][1] : label[k]}, ${c.name} ${valueOf(c, k)}`;
  };

  const hover = (k: number, share = true) => {
    if (k === cursor) return;
    cursor = k;
    overlay();
    if (share) focus?.setHover(k < 0 ? null : place(k));
    if (k < 0) return tip.hide();
    const [x, y] = finder.at(k);
    near.style.left = `${x}px`;
    near.style.top = `${y + 4}px`;
    if (share) tip.show(near, card(k));
    else tip.hide();
  };

  const pick = (k: number) => {
    if (k < 0) return;
    focus?.setFocus(place(k));
    say(k);
  };

  // The selection -----------------------------------------------------------------------------------

  const select = (list: number[]) => {
    model.set("selected", list);
    model.save_changes();
  };

  const drawSide = () => {
    const c = coordinates.find((one, i) => one.kind === "category" && i === at()) ?? coordinates.find((one) => one.kind === "category");
    const some = chosen.length ? chosen : [];
    const said = chosen.length ? `${chosen.length} of ${n} ${meta.what}s selected` : "Nothing selected";
    const rows = c && some.length ? enriched(c.values, some, c.categories.length).slice(0, 12) : [];
    const counts =
      c && rows.length > 0
        ? table(`${c.name} in the selection`, ["", "here#", "of all#", "times as often#"], rows.map((row) => h("tr", {}, h("td", {}, c.categories[row.code]), h("td.num", {}, row.count), h("td.num", {}, row.of), h("td.num", {}, show(row.times, false, 2)))))
        : null;
    const focused = find(focus?.focus ?? null);
    const one = (k: number) =>
      h(
        "button",
        { title: where(k), class: k === focused ? "at" : null, "aria-label": images ? `${where(k)} ${label[k]}` : null, onclick: () => pick(k), onpointerenter: () => hover(k), onpointerleave: () => hover(-1) },
        ...(images ? [picture(images, k, 40)] : [...words(k), h("small", {}, where(k))]),
      );
    fill(
      side,
      h("h4", {}, said),
      !some.length && h("p.quiet", {}, "Drag around points to see what they are."),
      counts,
      some.length > 0 && h(images ? "div.grid" : "div.list", {}, ...some.slice(0, LISTED).map(one)),
      some.length > LISTED && h("p.quiet", {}, `The first ${LISTED} are listed; the table and the CSV hold all.`),
    );
    if (!twin.hidden) showTable(true);
  };

  const drawLegend = () => {
    const c = colour();
    if (c.kind === "category") {
      const counts = new Int32Array(c.categories.length);
      for (let k = 0; k < n; k++) if (c.values[k] >= 0) counts[c.values[k]]++;
      const order = [...counts.keys()].sort((a, b) => a - b).slice(0, 40);
      fill(
        legend,
        h("b", {}, c.name),
        ...order.map((code) =>
          h("button", { class: `k${code % HUES}`, "aria-pressed": String(code === only), title: `show ${c.categories[code]} alone`, onclick: () => { only = only === code ? -1 : code; drawLegend(); paint(); } }, h("i", { "aria-hidden": "true" }), `${c.categories[code]} ${counts[code]}`),
        ),
        c.categories.length > 40 && h("span.quiet", {}, `and ${c.categories.length - 40} more`),
        c.categories.length > HUES && h("span.quiet", {}, `${HUES} colours repeat: press a name to see it alone`),
      );
    } else {
      const colours = ramp(c, isDark()).filter((_, i) => i % 4 === 1);
      const strip = h("span.ramp", { "aria-hidden": "true" }, ...colours.map((value) => h("i", { style: `--sc:${value}` })));
      fill(legend, h("b", {}, c.name), h("span.scale", {}, h("span", {}, show(c.low, isDiverging(c))), strip, h("span", {}, show(c.high, isDiverging(c)))), h("span.quiet", {}, c.note));
    }
  };

  const showTable = (on: boolean) => {
    twin.hidden = !on;
    stage.parentElement!.hidden = on;
    if (!on) return;
    const rows = (chosen.length ? chosen : Array.from({ length: n }, (_, k) => k)).slice(0, 1000);
    const heads = [meta.what, ...coordinates.map((c) => c.name + (c.kind === "number" ? "#" : ""))];
    fill(
      twin,
      table(
        `${chosen.length ? "Selected" : "All"} points${rows.length < (chosen.length || n) ? `, the first ${rows.length}` : ""}`,
        heads,
        rows.map((k) =>
          h("tr", {}, h("td", {}, h("button.plain", { onclick: () => pick(k) }, where(k)), " ", h("span.mono", {}, context ? context[k][1] : label[k])), ...coordinates.map((c) => h(c.kind === "number" ? "td.num" : "td", {}, valueOf(c, k)))),
        ),
      ),
    );
  };

  const saveCsv = () => {
    const rows: (string | number)[][] = [[meta.what === "token" ? "example" : "id", "token", "label", "x", "y", "selected", ...coordinates.map((c) => c.name)]];
    const inIt = new Set(chosen);
    for (let k = 0; k < n; k++) {
      rows.push([examples[of[k]], token[k], context ? context[k][1] : label[k], clouds[layout].x[k], clouds[layout].y[k], inIt.has(k) ? 1 : 0, ...coordinates.map((c) => (c.kind === "category" ? valueOf(c, k) : c.values[k]))]);
    }
    download(`${meta.title.replace(/\W+/g, "_").toLowerCase()}.csv`, csv(rows), "text/csv");
  };

  const update = () => {
    chosen = ((model.get("selected") as number[]) ?? []).filter((k) => k >= 0 && k < n);
    picker.selectedIndex = at();
    drawLegend();
    drawSide();
    paint();
    stage.setAttribute("aria-label", `${meta.title}: map of ${n} ${meta.what}s, coloured by ${colour().name}; ${chosen.length} selected. Arrow keys move between points, ? lists all keys`);
    fill(foot);
    add(foot, h("p", {}, `${meta.layouts[layout].name}: ${meta.layouts[layout].note}`), ...meta.notes.map((text) => h("p", {}, text)));
  };

  const choose = (i: number) => {
    only = -1;
    model.set("color", (i + coordinates.length) % coordinates.length);
    model.save_changes();
  };

  // What the reader does ----------------------------------------------------------------------------

  const pixel = (event: PointerEvent | WheelEvent): [number, number] => {
    const rect = stage.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  const flip = (k: number) => select(chosen.includes(k) ? chosen.filter((one) => one !== k) : [...chosen, k]);
  const on = (target: EventTarget, name: string, run: (event: any) => void, options: object = {}) => target.addEventListener(name, run, { signal, ...options });

  on(stage, "pointerdown", (event: PointerEvent) => {
    if (event.button !== 0 || (event.target as Element).closest("button")) return;
    const [x, y] = pixel(event);
    if (hand) moving = { x, y, camera };
    else lasso = [x, y];
    stage.setPointerCapture(event.pointerId);
    stage.focus({ preventScroll: true });
    event.preventDefault();
  });
  on(stage, "pointermove", (event: PointerEvent) => {
    const [x, y] = pixel(event);
    if (moving) look({ ...moving.camera, dx: moving.camera.dx + x - moving.x, dy: moving.camera.dy + y - moving.y });
    else if (lasso) {
      if (Math.hypot(x - lasso[lasso.length - 2], y - lasso[lasso.length - 1]) > 3) lasso.push(x, y);
      if (lasso.length > 4) hover(-1);
      overlay();
    } else hover(finder.nearest(x, y, REACH));
  });
  on(stage, "pointerup", (event: PointerEvent) => {
    const [x, y] = pixel(event);
    const drawn = lasso;
    const still = moving && Math.hypot(x - moving.x, y - moving.y) < 3;
    lasso = moving = null;
    if (drawn && drawn.length > 6) {
      const found = inside(finder, n, drawn, shown);
      select(event.shiftKey ? [...new Set([...chosen, ...found])] : found);
      live.textContent = `${found.length} points in the lasso`;
    } else if (drawn || still) {
      const k = finder.nearest(x, y, REACH);
      if (k >= 0 && (event.ctrlKey || event.metaKey)) flip(k);
      else if (k >= 0) pick(k);
      else if (!hand) select([]);
    }
    overlay();
  });
  on(stage, "pointerleave", () => !lasso && hover(-1));
  on(stage, "wheel", (event: WheelEvent) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    look(zoom(camera, Math.exp(-event.deltaY / 300), ...pixel(event)));
  }, { passive: false });

  const go = (right: number, down: number) => {
    const k = cursor >= 0 ? finder.step(cursor, right, down) : Math.max(0, find(focus?.focus ?? null));
    cursor = -1;
    hover(k);
    say(k);
  };
  const middle = (factor: number) => look(zoom(camera, factor, box.width / 2, box.height / 2));
  const keyed: Record<string, () => void> = {
    ArrowLeft: () => go(-1, 0),
    ArrowRight: () => go(1, 0),
    ArrowUp: () => go(0, -1),
    ArrowDown: () => go(0, 1),
    Enter: () => pick(cursor),
    " ": () => cursor >= 0 && flip(cursor),
    c: () => {
      const c = colour();
      if (cursor >= 0 && c.kind === "category") select([...Array(n).keys()].filter((k) => c.values[k] === c.values[cursor]));
    },
    v: () => select(inside(finder, n, [0, 0, box.width, 0, box.width, box.height, 0, box.height], shown)),
    "[": () => choose(at() - 1),
    "]": () => choose(at() + 1),
    "+": () => middle(1.4),
    "=": () => middle(1.4),
    "-": () => middle(1 / 1.4),
    "0": reset,
    "?": () => keys.click(),
    Escape: () => {
      if (chosen.length) select([]);
      else focus?.setFocus(null);
      hover(-1);
    },
  };
  on(root, "keydown", (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const typing = (event.target as Element).matches("input, select, textarea");
    const inStage = event.target === stage;
    const run = typing || (!inStage && !["?", "Escape", "[", "]"].includes(event.key)) ? null : keyed[event.key];
    if (run) {
      run();
      event.preventDefault();
    }
    if (run || typing || inStage) event.stopPropagation();
  });
  on(stage, "blur", () => hover(-1));
  on(window, "scroll", () => tip.hide(), { capture: true });

  // The tools ---------------------------------------------------------------------------------------

  const picker = h("select", { "aria-label": "Colour by", onchange: () => choose(picker.selectedIndex) });
  for (const c of coordinates) picker.append(h("option", {}, c.name));
  const layouts = h("select", { "aria-label": "Layout", onchange: () => { layout = layouts.selectedIndex; reset(); update(); } });
  for (const one of meta.layouts) layouts.append(h("option", {}, one.name));
  const helpBox = h("div.help", { hidden: true }, h("dl", {}, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])));
  const keys = toggle("?", "Keys", (shownNow) => (helpBox.hidden = !shownNow));
  stage.append(
    h(
      "div.zoom",
      {},
      h("button", { title: "Closer (+)", "aria-label": "Closer", tabindex: -1, onclick: () => middle(1.4) }, "+"),
      h("button", { title: "Farther (\u2212)", "aria-label": "Farther", tabindex: -1, onclick: () => middle(1 / 1.4) }, "\u2212"),
      h("button", { title: "Everything (0)", "aria-label": "Everything", tabindex: -1, onclick: reset }, "\u2922"),
    ),
  );
  root.append(
    h(
      "div.bar",
      { role: "toolbar", "aria-label": `${meta.title}: tools` },
      h("span.title", {}, meta.title),
      meta.layouts.length > 1 && layouts,
      h("label.quiet", {}, "colour ", picker),
      h("span.grow"),
      images && toggle("Images", "Show images on the map", (yes) => { pictures = yes; paint(); }),
      toggle("Move", "Drag moves the map instead of drawing a lasso", (yes) => { hand = yes; stage.classList.toggle("pan", yes); }),
      toggle("Table", "Table of points", showTable),
      h("button", { onclick: saveCsv, title: "Download the points" }, "CSV"),
      keys,
    ),
    helpBox,
    legend,
    h("div.map", {}, stage, side),
    twin,
    foot,
    live,
    tip.element,
  );

  const measure = () => {
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!width || (width === box.width && height === box.height)) return;
    const first = !box.width;
    const old = box;
    box = { width, height };
    if (first) camera = fit(clouds[layout], box);
    else camera = { ...camera, dx: camera.dx + (width - old.width) / 2, dy: camera.dy + (height - old.height) / 2 };
    repaint();
  };
  const observer = new ResizeObserver(measure);
  observer.observe(stage);
  const themes = new MutationObserver(() => { drawLegend(); paint(); });
  themes.observe(root, { attributes: true, attributeFilter: ["data-slt-theme"] });
  signal?.addEventListener("abort", () => {
    observer.disconnect();
    themes.disconnect();
    cancelAnimationFrame(pending);
  });
  measure();
  finder = new Finder(clouds[layout], camera);
  update();
  watch(model, ["color", "selected"], update, signal);
  focus = await FocusLink.connect(props, (part: Part, by: unknown) => {
    if (part === "hover") {
      if (by !== focus) hover(find(focus?.hover ?? null), false);
      return;
    }
    if (part === "component") {
      const i = coordinates.findIndex((c) => c.name === focus?.component);
      if (i >= 0 && i !== at()) {
        model.set("color", i);
        model.save_changes();
      }
      return;
    }
    overlay();
    if (part === "focus") {
      drawSide();
      const k = find(focus?.focus ?? null);
      const [x, y] = k >= 0 ? finder.at(k) : [0, 0];
      // A point chosen elsewhere is brought into view.
      if (k >= 0 && (x < 0 || y < 0 || x > box.width || y > box.height)) look({ ...camera, dx: camera.dx + box.width / 2 - x, dy: camera.dy + box.height / 2 - y });
    }
  });
  overlay();
  el.dataset.sltReady = String(Date.now());
}

export default mount(draw);
