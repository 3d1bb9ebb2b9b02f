// Painting the kernel: one pixel a cell below, lines and frames above.
import { diverging, STEPS } from "../../base/color";
import { h } from "../../base/dom";
import { isDark } from "../../base/theme";
import type { Kernel, Sight } from "./data";

export class Picture {
  readonly element: HTMLElement;
  readonly near = h("span", { style: "position:absolute;width:1px;height:1px" }); // where the tip points
  readonly #under = h("canvas");
  readonly #over = h("canvas");
  readonly #edges: Set<number>; // where the top branches begin

  constructor(kernel: Kernel) {
    this.element = h("div.heat", { tabindex: 0, role: "application" }, this.#under, this.#over);
    this.element.append(this.near);
    this.#edges = new Set(kernel.roots.map((k) => kernel.nodes[k].from));
  }

  paint({ rows, columns, values, limit }: Sight): void {
    const [w, hgt] = [columns.length, rows.length];
    this.#under.width = w;
    this.#under.height = hgt;
    const pen = this.#under.getContext("2d")!;
    const image = pen.createImageData(w, hgt);
    const dark = isDark();
    const steps = Array.from({ length: 2 * STEPS + 1 }, (_, i) => diverging((i - STEPS) / STEPS, dark));
    for (let k = 0; k < values.length; k++) {
      const v = values[k];
      const t = Number.isFinite(v) ? Math.max(-1, Math.min(1, v / limit)) : 0;
      // The kernel is positive where alike: orange, as everywhere in the kit for positive numbers.
      const [r, g, b] = steps[Math.round(t * STEPS) + STEPS];
      image.data.set([r, g, b, Number.isFinite(v) ? 255 : 0], 4 * k);
    }
    pen.putImageData(image, 0, 0);
  }

  /** Edges of the top branches, the cell `at`, and the row that holds `own`. */
  overlay({ rows, columns }: Sight, at: [number, number], own: number | undefined): void {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [this.element.clientWidth, this.element.clientHeight];
    this.#over.width = width * ratio;
    this.#over.height = height * ratio;
    const pen = this.#over.getContext("2d")!;
    pen.scale(ratio, ratio);
    pen.strokeStyle = getComputedStyle(this.element).getPropertyValue("--slt-text");
    const [cw, ch] = [width / columns.length, height / rows.length];
    pen.globalAlpha = 0.35;
    pen.lineWidth = 1;
    pen.beginPath();
    rows.forEach((s, i) => { if (i && this.#edges.has(s.from)) { pen.moveTo(0, i * ch); pen.lineTo(width, i * ch); } });
    columns.forEach((s, j) => { if (j && this.#edges.has(s.from)) { pen.moveTo(j * cw, 0); pen.lineTo(j * cw, height); } });
    pen.stroke();
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    if (at[0] >= 0) pen.strokeRect(at[1] * cw, at[0] * ch, Math.max(cw, 3), Math.max(ch, 3));
    const row = own === undefined ? -1 : rows.findIndex((s) => own >= s.from && own < s.to);
    if (row < 0) return;
    pen.setLineDash([3, 3]);
    pen.lineWidth = 1;
    pen.strokeRect(0, row * ch, width, Math.max(ch, 2));
  }

  /** The cell under the pointer. */
  cellAt({ rows, columns }: Sight, event: MouseEvent): [number, number] {
    const box = this.element.getBoundingClientRect();
    const clamp = (v: number, most: number) => Math.max(0, Math.min(most - 1, Math.floor(v)));
    return [clamp(((event.clientY - box.top) / box.height) * rows.length, rows.length), clamp(((event.clientX - box.left) / box.width) * columns.length, columns.length)];
  }

  /** Puts `near` under the cell. */
  point({ rows, columns }: Sight, i: number, j: number): void {
    this.near.style.left = `${((j + 0.5) * this.element.clientWidth) / columns.length}px`;
    this.near.style.top = `${((i + 1) * this.element.clientHeight) / rows.length}px`;
  }
}
