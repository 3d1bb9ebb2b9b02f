// What does a Focus show on its own?  The place it looks at, in one line.
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
