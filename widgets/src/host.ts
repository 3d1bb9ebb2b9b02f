// Runs widgets in a page that has no kernel.
// A host for anywidget front-end modules: it gives each its model (state, change events, binary
// buffers) and `host.getModel` for the models it is linked with.  What a widget sets stays in the
// page; `save_changes` and `send` go nowhere.  Used by exported pages and by the test harness.
import type { Host, Model } from "./base/afm";

interface Stored {
  /** Keys of the module and of the stylesheet in the page's tables; "" = none. */
  esm: string;
  css: string;
  state: Record<string, any>;
  buffers: { path: (string | number)[]; data: string }[];
}

export interface Page {
  modules: Record<string, string>;
  styles: Record<string, string>;
  models: Record<string, Stored>;
}

type Callback = (...args: any[]) => void;

function bytes(base64: string): DataView {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return new DataView(out.buffer);
}

/** Put each buffer back where it was taken from: a trait, or deep inside one. */
export function restore({ state, buffers }: Pick<Stored, "state" | "buffers">): Record<string, any> {
  for (const { path, data } of buffers) {
    let at: any = state;
    for (const key of path.slice(0, -1)) at = at[key] ??= {};
    at[path[path.length - 1]] = bytes(data);
  }
  return state;
}

export class StoredModel implements Model {
  private listeners: { event: string; callback: Callback; owner: unknown }[] = [];
  widget_manager: { get_model(id: string): Promise<StoredModel> };

  constructor(
    private readonly state: Record<string, any>,
    find: (id: string) => StoredModel,
  ) {
    this.widget_manager = { get_model: async (id) => find(id) };
  }

  get(name: string): any {
    return this.state[name];
  }

  set(name: string | Record<string, unknown>, value?: unknown): void {
    const changes = typeof name === "string" ? { [name]: value } : name;
    const changed = Object.keys(changes).filter((key) => this.state[key] !== changes[key]);
    for (const key of changed) this.state[key] = changes[key];
    for (const key of changed) this.emit(`change:${key}`, this, this.state[key]);
    if (changed.length) this.emit("change", this);
  }

  on(event: string, callback: Callback, owner: unknown = this): void {
    for (const name of event.split(/\s+/)) this.listeners.push({ event: name, callback, owner });
  }

  off(event?: string | null, callback?: Callback | null, owner?: unknown): void {
    const names = event?.split(/\s+/);
    this.listeners = this.listeners.filter(
      (one) =>
        (names && !names.includes(one.event)) ||
        (callback && one.callback !== callback) ||
        (owner && one.owner !== owner),
    );
  }

  emit(event: string, ...args: unknown[]): void {
    for (const one of [...this.listeners]) if (one.event === event) one.callback(...args);
  }

  save_changes(): void {}
  send(): void {}
}

/** The same model for one user of it: its `off()` removes only its own listeners. */
function ownView(model: StoredModel, signal: AbortSignal): Model {
  const owner = Symbol("user");
  signal.addEventListener("abort", () => model.off(null, null, owner));
  const view: any = {
    get: (name: string) => model.get(name),
    set: (name: string, value: unknown) => model.set(name, value),
    save_changes: () => {},
    send: () => {},
    on: (event: string, callback: Callback) => model.on(event, callback, owner),
    off: (event?: string | null, callback?: Callback | null) => model.off(event, callback, owner),
    widget_manager: model.widget_manager,
  };
  return view;
}

const idOf = (ref: string): string => ref.replace(/^(anywidget:|IPY_MODEL_)/, "");

export class PageHost {
  private readonly models = new Map<string, StoredModel>();
  private readonly modules = new Map<string, Promise<any>>();
  private readonly ready = new Map<string, Promise<any>>();

  constructor(private readonly page: Page) {}

  model(id: string): StoredModel {
    let model = this.models.get(id);
    if (!model) {
      const stored = this.page.models[id];
      if (!stored) throw new Error(`this page does not hold the model ${id}`);
      model = new StoredModel(restore(stored), (ref) => this.model(idOf(ref)));
      this.models.set(id, model);
    }
    return model;
  }

  /** Run a model's module once (`initialize`); the definition that renders it. */
  private async definition(id: string): Promise<any> {
    const { esm, css } = this.page.models[id];
    if (css) this.installStyle(css);
    let loading = this.modules.get(esm);
    if (!loading) {
      const url = URL.createObjectURL(new Blob([this.page.modules[esm]], { type: "text/javascript" }));
      loading = import(/* @vite-ignore */ url).finally(() => URL.revokeObjectURL(url));
      this.modules.set(esm, loading);
    }
    const module = await loading;
    const given = module.default ?? module;
    return typeof given === "function" ? given() : given;
  }

  private start(id: string): Promise<any> {
    let starting = this.ready.get(id);
    if (!starting) {
      starting = (async () => {
        const definition = await this.definition(id);
        const { signal } = new AbortController();
        const exports = await definition.initialize?.({
          model: ownView(this.model(id), signal),
          signal,
          experimental,
        });
        return { definition, exports };
      })();
      this.ready.set(id, starting);
    }
    return starting;
  }

  private hostFor(signal: AbortSignal): Host & Record<string, unknown> {
    return {
      getModel: async (ref: string) => ownView(this.model(idOf(ref)), signal),
      getWidget: async (ref: string) => ({
        exports: (await this.start(idOf(ref))).exports,
        render: ({ el, signal: own }: { el: HTMLElement; signal?: AbortSignal }) =>
          this.render(idOf(ref), el, own ?? signal),
      }),
    };
  }

  async render(id: string, el: HTMLElement, signal = new AbortController().signal): Promise<void> {
    const { definition } = await this.start(id);
    const cleanup = await definition.render?.({
      model: ownView(this.model(id), signal),
      el,
      signal,
      host: this.hostFor(signal),
      experimental,
    });
    if (typeof cleanup === "function") signal.addEventListener("abort", () => void cleanup());
  }

  private installStyle(key: string): void {
    const id = `slt-css-${key}`;
    if (document.getElementById(id)) return;
    const style = document.createElement("style");
    style.id = id;
    style.textContent = this.page.styles[key];
    document.head.append(style);
  }
}

const experimental = {
  invoke: async (name: string) => {
    throw new Error(`${name} needs a kernel; this page has none`);
  },
};

/** Bring every `[data-slt-model]` of the document to life; where one fails its fallback stays. */
export async function mountAll(page: Page): Promise<PageHost> {
  const host = new PageHost(page);
  const places = document.querySelectorAll<HTMLElement>("[data-slt-model]");
  await Promise.all(
    [...places].map(async (place) => {
      const live = document.createElement("div");
      live.className = "slt-live";
      try {
        // In the document from the start: a widget measures itself and looks up its theme.
        place.append(live);
        await host.render(place.dataset.sltModel!, live);
        place.querySelector(":scope > .slt-still")?.remove();
        place.dataset.sltState = "live";
      } catch (error) {
        live.remove();
        place.dataset.sltState = "failed";
        console.error("a widget could not start:", error);
      }
    }),
  );
  document.documentElement.dataset.sltPage = "ready";
  return host;
}

const THEMES = ["auto", "light", "dark"] as const;

/** `html[data-theme]` always says what is shown, so that widgets need to look nowhere else. */
function followTheme(): void {
  const html = document.documentElement;
  const media = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector<HTMLButtonElement>("[data-slt-theme-toggle]");
  let choice: (typeof THEMES)[number] = "auto";
  const show = () => {
    html.dataset.theme = choice === "auto" ? (media.matches ? "dark" : "light") : choice;
    if (button) button.textContent = `Theme: ${choice}`;
  };
  media.addEventListener("change", show);
  button?.addEventListener("click", () => {
    choice = THEMES[(THEMES.indexOf(choice) + 1) % THEMES.length];
    show();
  });
  show();
}

function codeToggle(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-slt-code-toggle]");
  button?.addEventListener("click", () => {
    const hidden = document.body.classList.toggle("hide-code");
    button.setAttribute("aria-pressed", String(hidden));
    button.textContent = hidden ? "Show code" : "Hide code";
  });
}

/** Start the page that this module stands in, if it is one of ours. */
export async function start(): Promise<void> {
  const data = document.getElementById("slt-page-data");
  if (!data) return;
  followTheme();
  codeToggle();
  await mountAll(JSON.parse(data.textContent!));
}

if (typeof document !== "undefined") void start();
