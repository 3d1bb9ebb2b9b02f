// How does a widget come to life, come back with new data, and fail in plain words?
import type { RenderProps } from "./afm";
import { watch } from "./afm";
import { fill, h } from "./dom";

/** A widget that draws itself again when its payload changes, and says so when it cannot. */
export function mount(draw: (props: RenderProps) => Promise<void>) {
  return {
    async render(props: RenderProps) {
      const { model, el, signal } = props;
      let one = new AbortController();
      const again = async () => {
        one.abort();
        one = new AbortController();
        fill(el);
        const start = performance.now();
        try {
          await draw({ ...props, signal: one.signal });
          // Until the first frame with the view in it is through: tests/bench/bench_views.py reads it.
          requestAnimationFrame(() => setTimeout(() => performance.measure("slt:first-layout", { start })));
        } catch (error) {
          fill(el, h("pre.slt.problem", {}, `This view could not be drawn: ${(error as Error).message}`));
          console.error(error);
        }
      };
      signal?.addEventListener("abort", () => one.abort());
      watch(model, ["payload"], again, signal);
      await again();
    },
  };
}
