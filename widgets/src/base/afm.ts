// What a host gives a widget: the parts of the anywidget front-end module interface that the
// widgets use: https://anywidget.dev/en/afm/.  JupyterLab (anywidget 0.11) and src/host.ts give it.

export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  on(event: string, callback: (...args: any[]) => void): void;
  off(event?: string | null, callback?: ((...args: any[]) => void) | null): void;
  send?(content: unknown, callbacks?: unknown, buffers?: unknown[]): void;
}

export interface Host {
  /** The model behind a `WidgetTrait` value ("anywidget:<id>"). */
  getModel(ref: string): Promise<Model>;
  /** What that model's module returned from `initialize`. */
  getWidget?(ref: string): Promise<{ exports: any }>;
}

export interface RenderProps {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
  host?: Host;
}

/** Run `callback` on every change of `names`, until `signal` aborts. */
export function watch(
  model: Model,
  names: string[],
  callback: () => void,
  signal?: AbortSignal,
): void {
  for (const name of names) model.on(`change:${name}`, callback);
  signal?.addEventListener("abort", () => {
    for (const name of names) model.off(`change:${name}`, callback);
  });
}
