// The token that linked views share: the browser side of the `Focus` model of
// slt_notebook/views/base/linking.py.  Keys are ids: (example id, token index), never row numbers.
//   hover   follows the pointer; it lives in the page alone and is never saved nor sent
//   focus   what was clicked;  pins   what was kept;  range   a span of one example
//   component   the part of the model that is looked at, by its name ("l0.h3")
// Linking happens here, so that it works in an exported page without a kernel.
import type { Model, RenderProps } from "./afm";

export interface Place {
  example: string;
  token: number;
}

export interface Span {
  example: string;
  tokens: [number, number];
}

export type Part = "hover" | "focus" | "pins" | "range" | "component";
const SAVED: Part[] = ["focus", "pins", "range", "component"];
const HOVER = "slt:hover";

export const same = (a: Place | null, b: Place | null): boolean =>
  a === b || (!!a && !!b && a.example === b.example && a.token === b.token);

export class FocusLink {
  hover: Place | null = null;
  #model: Model | null = null;
  #ref: unknown = null;
  #local: Record<string, any> = { focus: null, pins: [], range: null, component: null };
  #handlers: [string, () => void][] = [];

  readonly #tell: (part: Part, by: unknown) => void;

  private constructor(tell: (part: Part, by: unknown) => void) {
    this.#tell = tell;
  }

  /** Connect a view to its Focus (its trait `focus`), or to a private one where it has none.
   *  `tell(part, by)` runs after each change; `by` is this link when the view made it itself. */
  static async connect(
    { model, host, signal }: RenderProps,
    tell: (part: Part, by: unknown) => void,
  ): Promise<FocusLink> {
    const link = new FocusLink(tell);
    const onHover = (event: Event) => {
      const { ref, place, by } = (event as CustomEvent).detail;
      if (ref !== link.#ref || same(place, link.hover)) return;
      link.hover = place;
      tell("hover", by);
    };
    const attach = async () => {
      link.#detach();
      link.#ref = model.get("focus") ?? Symbol("private focus");
      const ref = link.#ref;
      if (typeof ref === "string" && host) {
        const found = await host.getModel(ref);
        if (link.#ref !== ref || signal?.aborted) return;
        link.#model = found;
        for (const part of SAVED) {
          const handler = () => tell(part, null);
          found.on(`change:${part}`, handler);
          link.#handlers.push([`change:${part}`, handler]);
        }
      }
    };
    const again = async () => {
      await attach();
      for (const part of SAVED) tell(part, null);
    };
    document.addEventListener(HOVER, onHover);
    model.on("change:focus", again);
    signal?.addEventListener("abort", () => {
      document.removeEventListener(HOVER, onHover);
      model.off("change:focus", again);
      link.#detach();
    });
    await attach();
    return link;
  }

  get focus(): Place | null {
    return this.#read("focus") ?? null;
  }
  get pins(): Place[] {
    return this.#read("pins") ?? [];
  }
  get range(): Span | null {
    return this.#read("range") ?? null;
  }

  get component(): string | null {
    return this.#read("component") ?? null;
  }

  setHover(place: Place | null): void {
    if (same(place, this.hover)) return;
    document.dispatchEvent(new CustomEvent(HOVER, { detail: { ref: this.#ref, place, by: this } }));
  }
  setFocus(place: Place | null): void {
    if (!same(place, this.focus)) this.#write("focus", place);
  }
  togglePin(place: Place): void {
    const rest = this.pins.filter((pin) => !same(pin, place));
    this.#write("pins", rest.length === this.pins.length ? [...rest, place] : rest);
  }
  setPins(pins: Place[]): void {
    this.#write("pins", pins);
  }
  setRange(range: Span | null): void {
    if (JSON.stringify(range) !== JSON.stringify(this.range)) this.#write("range", range);
  }

  setComponent(name: string | null): void {
    if (name !== this.component) this.#write("component", name);
  }

  #read(part: Part): any {
    return this.#model ? this.#model.get(part) : this.#local[part];
  }

  #write(part: Part, value: unknown): void {
    if (this.#model) {
      this.#model.set(part, value); // fires change:<part> for every linked view, this one included
      this.#model.save_changes();
    } else {
      this.#local[part] = value;
      this.#tell(part, this);
    }
  }

  #detach(): void {
    for (const [event, handler] of this.#handlers) this.#model?.off(event, handler);
    this.#handlers = [];
    this.#model = null;
  }
}
