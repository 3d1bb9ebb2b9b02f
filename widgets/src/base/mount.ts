// A widget's life: it is drawn, drawn again with new data, and fails in plain words.
import type { RenderProps } from "./afm";
import { watch } from "./afm";
import { unpack } from "./codec";
import type { PayloadMeta } from "./codec";
import { fill, h } from "./dom";

/** A widget that draws itself again when its payload changes, and says so when it cannot.
 *  `data-slt-ready` is set on its element once it is drawn. */
export function mount(draw: (props: RenderProps) => void | Promise<void>) {
  return {
    async render(props: RenderProps) {
      const { model, el, signal } = props;
      let one = new AbortController();
      const again = async () => {
        one.abort();
        const mine = (one = new AbortController());
        fill(el);
        const start = performance.now();
        try {
          await draw({ ...props, signal: mine.signal });
          if (!mine.signal.aborted) el.dataset.sltReady = String(Date.now());
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

/** The same for a widget with a payload: `draw` gets its `meta` and the unpacked arrays. */
export const mountData = <Meta extends PayloadMeta>(draw: (props: RenderProps, meta: Meta, data: Record<string, any>) => void | Promise<void>) =>
  mount(async (props) => {
    const meta = props.model.get("meta") as Meta;
    const data = await unpack(meta, props.model.get("payload"));
    if (!props.signal?.aborted) await draw(props, meta, data);
  });
