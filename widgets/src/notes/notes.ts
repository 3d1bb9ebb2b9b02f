// Reading and writing notes in a view: the shared `Notes` model (its trait `items`), a list
// under the view, and a small form.  Text of notes is shown as text.  This code stands once a page,
// in the module of the Notes model; views reach it through `host.getWidget(notes).exports.open`.
import type { Model } from "../base/afm";
import { watch } from "../base/afm";
import type { Anchor, Note } from "./annotation";
import { anchor, compose, parentOf, pointsAt, reply, selectorOf, tagsOf, textOf, union, withStatus } from "./annotation";
import type { Corpus } from "../text/corpus";
import { download, fill, h } from "../base/dom";
import { place as placeNear } from "../base/tip";
import { install } from "../base/theme";
import css from "./notes.css";

export interface Placed {
  note: Note;
  text: string;
  number: number;
  anchor: Anchor | null;
  replies: Note[];
}

export class NotesLink {
  #author = "";

  constructor(
    readonly model: Model,
    tell: () => void,
    signal?: AbortSignal,
  ) {
    watch(model, ["items"], tell, signal);
  }

  get items(): Note[] {
    return this.model.get("items") ?? [];
  }

  /** Add notes or newer versions of them. */
  put(...notes: Note[]): void {
    this.model.set("items", union(this.items, notes));
    this.model.save_changes();
  }

  /** Threads in reading order: anchored ones by token, then components, then orphans. */
  placed(corpus: Corpus | null): Placed[] {
    const alive = this.items.filter((note) => note["slt:status"] !== "deleted");
    const ids = new Set(alive.map((note) => note.id));
    const threads = alive
      .filter((note) => !ids.has(parentOf(note) ?? ""))
      .map((note) => ({ note, text: textOf(note), number: 0, anchor: corpus && anchor(note, corpus), replies: [] as Note[] }));
    threads.sort((a, b) => (a.anchor?.from ?? 1e9) - (b.anchor?.from ?? 1e9));
    threads.forEach((thread, i) => {
      thread.number = i + 1;
      const inside = new Set([thread.note.id]);
      for (const note of alive) {
        if (inside.has(parentOf(note) ?? "")) {
          inside.add(note.id);
          thread.replies.push(note);
        }
      }
    });
    return threads;
  }

  /** Every version that is kept, as JSON lines: what `slt.notes(...).merge` reads. */
  save(): void {
    const lines = this.items.map((note) => JSON.stringify(note)).join("\n");
    download("notes.jsonl", lines + "\n", "application/x-ndjson");
  }

  /** The form: at `near`, on the flat tokens [from, to) or in answer to a note. */
  write(root: HTMLElement, near: Element, about: { corpus: Corpus; from: number; to: number } | Note, done: () => void): void {
    root.querySelector(".writer")?.remove();
    install("slt-notes", css, root.getRootNode());
    const onTokens = "corpus" in about;
    const title = onTokens ? "Note on " : "Reply to ";
    const what = onTokens ? about.corpus.text.slice(about.from, about.to).join("") : textOf(about);
    const text = h("textarea", { "aria-label": "Note", placeholder: "What do you see here?" });
    const who = h("input", { "aria-label": "Author", placeholder: "Author" });
    who.value = this.#author || this.model.get("author") || "";
    const tags = h("input", { "aria-label": "Tags, with commas", placeholder: "Tags, with commas" });
    const close = () => {
      form.remove();
      done();
    };
    const save = () => {
      const value = text.value.trim();
      if (!value) return text.focus();
      this.#author = who.value.trim();
      const list = tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
      const note = onTokens
        ? compose(about.corpus, about.from, about.to, this.model.get("source") || "slt:run/unknown", value, this.#author, list)
        : reply(about, value, this.#author);
      close();
      this.put(note);
    };
    const form = h(
      "div.writer", { role: "dialog", "aria-label": title + what, popover: "manual" },
      h("div.quiet", {}, title, h("span.mono", {}, what.length > 60 ? what.slice(0, 59) + "\u2026" : what)),
      text,
      h("div.row", {}, who, onTokens && tags),
      h(
        "div.row", {},
        h("button.main", { onclick: save }, "Save note"),
        h("button", { onclick: close }, "Cancel"),
        h("span.quiet.grow"),
      ),
    );
    form.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
      if (event.key === "Tab") {
        const stops = [...form.querySelectorAll<HTMLElement>("textarea, input, button")];
        const next = stops.indexOf(document.activeElement as HTMLElement) + (event.shiftKey ? -1 : 1);
        stops[(next + stops.length) % stops.length].focus();
        event.preventDefault();
      }
    });
    root.append(form);
    placeNear(form, near);
    text.focus();
  }

  /** The list of threads into `into`; `go` shows a thread's tokens. */
  list(into: HTMLElement, root: HTMLElement, threads: Placed[], go: ((thread: Placed) => void) | null, done: () => void): void {
    const act = (label: string, run: (event: Event) => void, about: Note) =>
      h("button.plain", { "aria-label": `${label}: ${textOf(about).slice(0, 40)}`, onclick: run }, label);
    const one = (note: Note, thread: Placed | null): HTMLLIElement => {
      const quote = selectorOf(note, "TextQuoteSelector")?.exact;
      const open = note["slt:status"] === "open";
      const orphan = thread && go && !thread.anchor && selectorOf(note, "slt:DimsSelector")?.dims?.token;
      return h(
        "li",
        { class: open ? "" : "done" },
        h(
          "div.bar", {},
          thread && h("span.no", {}, thread.number),
          thread && (go && thread.anchor
            ? h("button.plain", { onclick: () => go(thread) }, pointsAt(note))
            : h("span.quiet", {}, pointsAt(note))),
          thread && quote && h("span.quote", {}, quote.length > 48 ? quote.slice(0, 47) + "\u2026" : quote),
          orphan ? h("span.tag", {}, "its text is not in this view") : null,
          thread?.anchor?.how === "quote" ? h("span.tag", {}, "found again by its text") : null,
          ...tagsOf(note).map((tag) => h("span.tag", {}, tag)),
          !open && h("span.tag", {}, "resolved"),
        ),
        h("p.body", {}, textOf(note)),
        h(
          "div.acts.quiet", {},
          [note.creator?.name, note.created.slice(0, 10)].filter(Boolean).join(", "),
          " ",
          act("Reply", (event) => this.write(root, event.target as Element, note, done), note),
          thread && act(open ? "Resolve" : "Open again", () => this.put(withStatus(note, open ? "resolved" : "open")), note),
          act("Delete", () => this.put(withStatus(note, "deleted")), note),
        ),
        thread?.replies.length ? h("ol", {}, ...thread.replies.map((r) => one(r, null))) : null,
      );
    };
    install("slt-notes", css, root.getRootNode());
    fill(
      into,
      h(go ? "summary" : "div", {}, h("b", {}, `Notes (${threads.length})`)),
      h("button.plain.quiet", { onclick: () => this.save() }, "Download notes"),
      h("ol", {}, ...threads.map((thread) => one(thread.note, thread))),
    );
    into.hidden = threads.length === 0 && go !== null;
  }
}
