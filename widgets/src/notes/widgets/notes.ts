// The Notes model: what its module gives to other views, and its own view, the list of all notes.
import type { Model, RenderProps } from "../../base/afm";
import { h } from "../../base/dom";
import { NotesLink } from "../notes";
import { useTheme } from "../../base/theme";

export default {
  /** `exports.open(tell, signal)`: a NotesLink of this model; `tell` runs when notes change. */
  initialize({ model }: { model: Model }) {
    return { open: (tell: () => void, signal?: AbortSignal) => new NotesLink(model, tell, signal) };
  },
  render({ model, el, signal }: RenderProps) {
    const list = h("div.notes", {});
    const root = h("div.view", {}, list);
    el.append(root);
    useTheme(root, "", "", signal);
    const link = new NotesLink(model, () => draw(), signal);
    const draw = () => link.list(list, root, link.placed(null), null, () => {});
    draw();
    el.dataset.sltReady = String(Date.now());
  },
};
