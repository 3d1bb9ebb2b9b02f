// A floating box: in the top layer, beside what it describes, inside the window.
// (An output cell clips what hangs over its edge; the top layer is clipped by nothing.)
import { h } from "./dom";

/** Show `box` (an element with popover="manual") below `near`, or above where there is no room. */
export function place(box: HTMLElement, near: Element): void {
  if (typeof box.showPopover === "function" && !box.matches(":popover-open")) box.showPopover();
  const rects = near.getClientRects();
  const at = rects[rects.length - 1] ?? near.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  const below = at.bottom + 8;
  const top = below + height < innerHeight - 6 ? below : Math.max(6, rects[0] ? rects[0].top - height - 8 : 6);
  box.style.left = `${Math.round(Math.max(6, Math.min(at.left, innerWidth - width - 6)))}px`;
  box.style.top = `${Math.round(top)}px`;
}

export class Tip {
  readonly element = h("div.tip", { role: "tooltip", popover: "manual", hidden: true });

  show(near: Element, children: Node[]): void {
    this.element.replaceChildren(...children);
    this.element.hidden = false;
    place(this.element, near);
  }

  hide(): void {
    if (this.element.hidden) return;
    if (typeof this.element.hidePopover === "function" && this.element.matches(":popover-open")) {
      this.element.hidePopover();
    }
    this.element.hidden = true;
  }
}
