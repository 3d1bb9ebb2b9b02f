// A Focus shown on its own: its place, in one line.
import type { RenderProps } from "../afm";
import { watch } from "../afm";

export default {
  render({ model, el, signal }: RenderProps) {
    const draw = () => {
      const at = model.get("focus");
      el.textContent = at ? `Focus: ${at.example}, token ${at.token}` : "Focus: nothing yet";
    };
    watch(model, ["focus"], draw, signal);
    draw();
  },
};
