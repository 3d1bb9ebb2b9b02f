// Painting the map: points below, marks above them, both on canvases of the stage's size.
import { HUES, layers, palette, picture, ramp } from "../paint";
import type { Coordinate } from "../paint";
import { Finder, fit } from "../points";
import type { Box, Camera } from "../points";
import { isDark } from "../../base/theme";
import { h } from "../../base/dom";
import type { Points } from "./data";

/** What is on show: by which coordinate, which points are not faded, which are selected. */
export interface Look {
  colour: Coordinate;
  shown: (k: number) => boolean;
  chosen: number[];
}

/** What is marked: -1 or null where nothing is. */
export interface Marks {
  focus: number;
  pins: number[];
  cursor: number;
  lasso: number[] | null;
}

const IMAGE = 22; // pixels of a picture on the map

export class Scene {
  readonly under = h("canvas");
  readonly over = h("canvas");
  layout = 0;
  camera: Camera = { k: 1, dx: 0, dy: 0 };
  box: Box = { width: 0, height: 0 };
  finder: Finder;
  pictures = false;
  #pending = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly points: Points,
    private readonly look: () => Look,
    private readonly marks: () => Marks,
  ) {
    this.finder = new Finder(points.clouds[0], this.camera);
  }

  private get radius(): number {
    const base = Math.max(1.6, Math.min(5, 90 / Math.sqrt(this.points.n)));
    return base * Math.min(2, Math.sqrt(this.camera.k / fit(this.points.clouds[this.layout], this.box).k));
  }

  /** Show through another camera; painted with the next frame. */
  through(camera: Camera): void {
    this.camera = camera;
    this.finder = new Finder(this.points.clouds[this.layout], camera);
    cancelAnimationFrame(this.#pending);
    this.#pending = requestAnimationFrame(() => this.paint());
  }

  everything(): void {
    this.through(fit(this.points.clouds[this.layout], this.box));
  }

  /** The stage has another size; its middle stays where it is. */
  resize(box: Box): void {
    if (!box.width || (box.width === this.box.width && box.height === this.box.height)) return;
    const old = this.box;
    this.box = box;
    if (!old.width) return this.everything();
    const { k, dx, dy } = this.camera;
    this.through({ k, dx: dx + (box.width - old.width) / 2, dy: dy + (box.height - old.height) / 2 });
  }

  stop(): void {
    cancelAnimationFrame(this.#pending);
  }

  private prepare(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(this.box.width * ratio);
    canvas.height = Math.round(this.box.height * ratio);
    const pen = canvas.getContext("2d")!;
    pen.scale(ratio, ratio);
    return pen;
  }

  paint(): void {
    const { points, box, finder } = this;
    const { colour: c, shown, chosen } = this.look();
    const pen = this.prepare(this.under);
    const own = palette(this.root);
    const colours = c.kind === "category" ? own.slice(0, HUES) : ramp(c, isDark());
    const r = this.radius;
    const dot = (k: number) => {
      const [x, y] = finder.at(k);
      if (x < -r || y < -r || x > box.width + r || y > box.height + r) return;
      pen.moveTo(x + r, y);
      pen.arc(x, y, r, 0, 2 * Math.PI);
    };
    const selected = new Set(chosen);
    for (const [fillStyle, list] of layers(c, points.n, colours, own[HUES])) {
      for (const bright of [false, true]) {
        pen.beginPath();
        for (const k of list) if ((shown(k) && (!selected.size || selected.has(k))) === bright) dot(k);
        pen.fillStyle = fillStyle;
        pen.globalAlpha = bright ? (points.n > 5000 ? 0.75 : 0.92) : 0.13;
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    if (this.pictures) this.paintImages(pen, shown);
    this.overlay();
  }

  /** One image a cell, so that they do not cover one another. */
  private paintImages(pen: CanvasRenderingContext2D, shown: (k: number) => boolean): void {
    const { images, n } = this.points;
    if (!images) return;
    const taken = new Set<number>();
    for (let k = 0; k < n; k++) {
      const [x, y] = this.finder.at(k);
      if (!shown(k) || !(x > 0 && y > 0 && x < this.box.width && y < this.box.height)) continue;
      const cell = Math.floor(x / IMAGE) * 4096 + Math.floor(y / IMAGE);
      if (taken.has(cell)) continue;
      taken.add(cell);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(picture(images, k, IMAGE), x - IMAGE / 2, y - IMAGE / 2, IMAGE, (IMAGE * images.height) / images.width);
    }
  }

  overlay(): void {
    const pen = this.prepare(this.over);
    const ink = getComputedStyle(this.root).getPropertyValue("--slt-text");
    const { focus, pins, cursor, lasso } = this.marks();
    const ring = (k: number, size: number, dash: number[]) => {
      if (k < 0) return;
      const [x, y] = this.finder.at(k);
      pen.beginPath();
      pen.arc(x, y, this.radius + size, 0, 2 * Math.PI);
      pen.setLineDash(dash);
      pen.strokeStyle = ink;
      pen.lineWidth = 2;
      pen.stroke();
    };
    ring(focus, 4, []);
    for (const pin of pins) ring(pin, 2, [2, 2]);
    ring(cursor, 3, [3, 2]);
    if (!lasso || lasso.length <= 2) return;
    pen.beginPath();
    pen.moveTo(lasso[0], lasso[1]);
    for (let m = 2; m < lasso.length; m += 2) pen.lineTo(lasso[m], lasso[m + 1]);
    pen.closePath();
    pen.setLineDash([5, 4]);
    pen.strokeStyle = ink;
    pen.lineWidth = 1.2;
    pen.stroke();
    pen.globalAlpha = 0.07;
    pen.fillStyle = ink;
    pen.fill();
  }
}
