// Reading a strip: pointer, keyboard, search, pins, notes, tooltip and table,
// the same in every view of tokens.  A widget says which numbers are on show (`show`) and what
// happens when the focus moves (`changed`).  A closure rather than a class: it minifies to less.
import type { RenderProps } from "../base/afm";
import { watch } from "../base/afm";
import { card } from "./card";
import { visible } from "./corpus";
import { download, fill, h, toggle } from "../base/dom";
import { FocusLink } from "../base/focus";
import type { Part } from "../base/focus";
import type { NotesLink, Placed } from "../notes/notes";
import { csvOf, help, legend, classOf, panelCss, ranks, twin, written } from "./panel";
import type { Source } from "./panel";
import { actionOf } from "./keys";
import type { Actions } from "./keys";
import { hits } from "./search";
import { Strip, stripCss } from "./strip";
import { markThreads } from "./threads";
import type { Options, Viewer } from "./viewer_options";
import { Tip } from "../base/tip";
import { useTheme } from "../base/theme";

const SAVED: Part[] = ["focus", "pins", "range"];
let views = 0;

export function viewer(props: RenderProps, options: Options): Viewer {
  const { corpus, title, lockTip } = options;
  const { model, host, signal } = props;
  const root = h("div.view");
  props.el.append(root);
  useTheme(root, "view", stripCss + panelCss, signal);
  const strip = new Strip(corpus, title, `slt${++views}`, signal);
  const box = strip.element;
  const tip = new Tip();
  const live = h("div.said", { role: "status", "aria-live": "polite" });
  const head = h("div");
  const legendBox = h("div.legend");
  const side = h("div.beside");
  const pinned = h("div.pinned");
  const noteList = h("details.notes", { hidden: true, open: lockTip });
  const foot = h("div.foot");
  const table = h("div.twin", { tabindex: 0, role: "region", "aria-label": "Table of all tokens", hidden: true });
  const helpBox = help(options.enter);
  helpBox.hidden = true;
  const find = h("input.find", { type: "search", placeholder: "Search", "aria-label": "Search the text" });
  const counter = h("span.count");

  let focus: FocusLink | null = null;
  let notes: NotesLink | null = null;
  let source: Source;
  let order: Int32Array | null = null; // ranks, when they are needed
  let threads: Placed[] = [];
  let found: number[] = []; // where the search hits begin
  let cursor = -1; // the keyboard's token
  let locked = -1; // the token at which a click in this view keeps the tooltip
  let start = -1; // where a range began

  const say = (k: number) => {
    live.textContent = `token ${corpus.token[k]} \u2018${visible(corpus.text[k])}\u2019, ${source.label} ${written(source, k)} ${source.unit}, rank ${rank(k)} of ${corpus.count}`;
  };
  const rank = (k: number) => (order ??= ranks(source))[k];
  const back = () => box.focus({ preventScroll: true });

  // What is on show --------------------------------------------------------------------------------

  const show = (now: Source) => {
    source = now;
    order = null;
    strip.paint((k) => classOf(now, k));
    legend(legendBox, now);
    if (!table.hidden) showTable(true);
    drawPins();
    drawTip();
  };

  const showTable = (on: boolean) => {
    table.hidden = !on;
    box.hidden = on;
    if (on) twin(table, corpus, source, pick);
  };

  const drawTip = (k = -1) => {
    const at = k >= 0 ? k : locked;
    const span = at >= 0 && root.isConnected ? strip.span(at) : null;
    // Nothing is measured unless a box is shown: measuring forces a layout of its own.
    if (!span || root.querySelector(".writer")) return tip.hide();
    const place = span.getClientRects()[0];
    // Scrolled away, in the strip or in whatever the page scrolls: no box for what is not in sight.
    const seen = place && document.elementFromPoint(place.left + 1, place.top + place.height / 2);
    if (seen && box.contains(seen)) tip.show(span, card(corpus, source, at, rank(at), options.more(at), threads));
    else tip.hide();
  };

  const drawPins = () => {
    const pins = strip.marked("pin");
    fill(pinned, pins.length > 0 && h("span.quiet", {}, "Pinned"));
    for (const k of pins) {
      const number = k === source.skip ? "" : ` ${written(source, k)}`;
      const text = h("span.mono", {}, visible(corpus.text[k]));
      pinned.append(h("button", { title: corpus.where(k), onclick: () => pick(k) }, text, number));
    }
    if (pins.length) pinned.append(h("button.plain.quiet", { onclick: () => focus?.setPins([]) }, "Unpin all"));
  };

  const drawNotes = () => {
    threads = notes?.placed(corpus) ?? [];
    markThreads(strip, threads);
    notes?.list(noteList, root, threads, ({ anchor }) => anchor && go(anchor.from), back);
  };

  // What the reader does ---------------------------------------------------------------------------

  const moved = (part: Part, by: unknown) => {
    if (!focus) return;
    if (part === "hover") {
      const k = corpus.find(focus.hover);
      strip.setMark("hover", [k]);
      return drawTip(by === focus ? k : -1);
    }
    if (part === "focus") {
      const k = corpus.find(focus.focus);
      strip.setMark("at", [k]);
      if (k !== locked) locked = -1;
      if (k >= 0) strip.reveal(k);
    } else if (part === "component") {
      return options.changed(part);
    } else if (part === "pins") {
      strip.setMark("pin", focus.pins.map((pin) => corpus.find(pin)));
      drawPins();
    } else {
      const [from, to] = range();
      strip.setMark("range", Array.from({ length: to - from }, (_, i) => from + i));
    }
    options.changed(part);
    drawTip();
  };

  /** The chosen range as flat tokens [from, to); empty where there is none. */
  const range = (): [number, number] => corpus.span(focus?.range ?? null);

  /** Focus token k; where a click keeps the tooltip, a second one lets it go. */
  const pick = (k: number) => {
    const again = lockTip && strip.marked("at")[0] === k;
    locked = lockTip && !again ? k : -1;
    focus?.setFocus(again ? null : corpus.place(k));
  };

  /** Move the keyboard's cursor to token k; `extend`: the range from where it began. */
  const go = (k: number, extend = false) => {
    k = Math.max(0, Math.min(corpus.count - 1, k));
    if (extend) {
      if (start < 0) start = Math.max(0, cursor);
      const e = corpus.exampleOf(start);
      k = Math.max(corpus.start[e], Math.min(corpus.start[e + 1] - 1, k));
      const tokens: [number, number] = [corpus.token[Math.min(k, start)], corpus.token[Math.max(k, start)] + 1];
      focus?.setRange({ example: corpus.examples[e], tokens });
    } else start = -1;
    cursor = k;
    strip.reveal(k);
    strip.activate(k);
    strip.setMark("cursor", [k]);
    focus?.setHover(corpus.place(k));
    say(k);
  };

  const writeNote = () => {
    const k = cursor >= 0 ? cursor : (strip.marked("at")[0] ?? -1);
    const [a, b] = range();
    const [from, to] = a >= 0 && (k < 0 || (k >= a && k < b)) ? [a, b] : [k, k + 1];
    if (!notes) live.textContent = "No notes here: pass notes=slt.notes(run) to the view";
    if (!notes || from < 0) return;
    const near = strip.span(to - 1, true)!;
    notes.write(root, near, { corpus, from, to }, back);
    tip.hide();
  };

  const search = (step: number) => {
    const { starts, touched } = hits(corpus, find.value);
    found = starts;
    strip.setMark("hit", touched);
    counter.textContent = find.value ? `${found.length} found` : "";
    if (!step || !found.length) return;
    const next = step > 0 ? found.find((k) => k > cursor) : found.filter((k) => k < cursor).pop();
    go(next ?? found[step > 0 ? 0 : found.length - 1]);
  };

  /** The next token among the strongest 5 %. */
  const strongest = (step: 1 | -1) => {
    const { count } = corpus;
    for (let i = 1; i <= count; i++) {
      const k = (cursor + step * i + 2 * count) % count;
      if (k !== source.skip && rank(k) <= Math.max(1, count * 0.05)) return k;
    }
    return cursor;
  };

  const saveCsv = () =>
    download(`${title.replace(/\W+/g, "_").toLowerCase()}.csv`, csvOf(corpus, source), "text/csv");

  const actions: Actions = {
    help: () => keys.click(),
    find: () => find.focus(),
    metric: options.metric,
    clear: () => {
      if (focus!.focus || focus!.range) {
        focus!.setFocus(null);
        focus!.setRange(null);
      } else focus!.setPins([]);
      focus!.setHover(null);
    },
    move: go,
    line: (from, step) => strip.line(from, step),
    strongest: (step) => go(strongest(step)),
    note: writeNote,
    pick: () => pick(Math.max(0, cursor)),
    pin: () => focus!.togglePin(corpus.place(Math.max(0, cursor))),
  };
  const at = () => {
    const e = corpus.exampleOf(Math.max(0, cursor));
    return { cursor, start: corpus.start[e], stop: corpus.start[e + 1], count: corpus.count };
  };

  // What stands where ------------------------------------------------------------------------------

  const keys = toggle("?", "Keys", (on) => (helpBox.hidden = !on));
  root.append(
    h(
      "div.bar",
      { role: "toolbar", "aria-label": `${title}: tools` },
      h("span.title", {}, title),
      ...options.tools,
      h("span.grow"),
      counter,
      find,
      toggle("\u2423", "Show whitespace", (on) => box.classList.toggle("glyphs", on), true),
      toggle("Table", "Table of all tokens", showTable),
      h("button", { onclick: saveCsv, title: "Download the numbers on show" }, "CSV"),
      keys,
    ),
    helpBox,
    head,
    legendBox,
    h("div.main", {}, h("div.reading", {}, box, table), side),
    pinned,
    noteList,
    foot,
    live,
    tip.element,
  );

  const on = (target: EventTarget, name: string, run: (event: any) => void, capture = false) =>
    target.addEventListener(name, run, { signal, capture });
  on(box, "pointerover", (event) => {
    const k = strip.at(event);
    focus?.setHover(k >= 0 ? corpus.place(k) : null);
  });
  on(box, "pointerleave", () => focus?.setHover(null));
  on(box, "blur", () => focus?.setHover(null));
  on(box, "focus", () => {
    if (cursor < 0 && box.matches(":focus-visible")) go(strip.marked("at")[0] ?? 0);
  });
  on(box, "click", (event: MouseEvent) => {
    const k = strip.at(event);
    if (k < 0 || !focus || String(getSelection() ?? "").length > 1) return;
    if (event.shiftKey) return go(k, true);
    cursor = k;
    if (event.ctrlKey || event.metaKey) focus.togglePin(corpus.place(k));
    else pick(k);
    say(k);
  });
  const replace = () => drawTip(focus && box.matches(":focus-visible") ? corpus.find(focus.hover) : -1);
  on(window, "scroll", replace, true);
  on(window, "resize", replace);
  on(find, "input", () => search(0));
  on(find, "keydown", ({ key, shiftKey }: KeyboardEvent) => {
    if (key === "Enter") search(shiftKey ? -1 : 1);
    if (key === "Escape") {
      find.value = "";
      search(0);
      back();
    }
  });
  on(root, "keydown", (event: KeyboardEvent) => {
    // Notebook hosts have shortcuts of one letter: none of ours, and no typing, may reach them.
    const typing = (event.target as Element).matches("input, textarea, select");
    const meant = typing || !focus ? undefined : actionOf(event, event.target === box, at, actions);
    meant?.();
    if (meant) event.preventDefault();
    if (meant || typing) event.stopPropagation();
  });

  return {
    root,
    strip,
    side,
    foot,
    head,
    show,
    pick,
    source: () => source,
    focus: () => focus!,
    async connect() {
      focus = await FocusLink.connect(props, moved);
      const open = async () => {
        const ref = model.get("notes");
        const widget = typeof ref === "string" ? await host?.getWidget?.(ref) : null;
        notes = widget?.exports?.open?.(drawNotes, signal) ?? null;
        drawNotes();
      };
      watch(model, ["notes"], open, signal);
      await open();
      for (const part of SAVED) moved(part, null);
    },
  };
}
