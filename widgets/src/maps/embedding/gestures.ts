// Gestures on the map: lasso, move, zoom, and steps by keyboard.
import { inside, zoom } from "../points";
import type { Camera } from "../points";
import type { Scene } from "./scene";

const REACH = 14; // pixels from which the pointer finds a point

export const KEYS = [
  ["drag", "draw a lasso; with Shift: add to the selection; after \u2018Move\u2019: move the map"],
  ["arrows", "go to the next point that way"],
  ["Enter, click", "focus the point, in every linked view"],
  ["Space, Ctrl-click", "add the point to the selection, or take it out"],
  ["c", "select all points of this point's category"],
  ["v", "select all points in view"],
  ["[ ]", "previous / next coordinate"],
  ["+ \u2212 0", "closer, farther, everything (Ctrl + wheel)"],
  ["Esc", "clear the selection, then the focus"],
];

/** What gestures act on. */
export interface Target {
  count: number;
  shown: (k: number) => boolean;
  chosen: () => number[];
  cursor: () => number;
  focused: () => number;
  hover: (k: number) => void;
  pick: (k: number) => void;
  say: (k: number) => void;
  tell: (text: string) => void;
  select: (list: number[]) => void;
  alike: (k: number) => number[] | null; // points of k's category
  choose: (by: number) => void; // the coordinate before or after
  unfocus: () => void;
  keys: () => void;
}

export class Gestures {
  hand = false; // drag moves the map
  lasso: number[] | null = null;
  #moving: { x: number; y: number; camera: Camera } | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly stage: HTMLElement,
    private readonly scene: Scene,
    private readonly to: Target,
    private readonly signal?: AbortSignal,
  ) {
    this.listen();
  }

  /** Zoom around the middle. */
  middle(factor: number): void {
    const { scene } = this;
    scene.through(zoom(scene.camera, factor, scene.box.width / 2, scene.box.height / 2));
  }

  private on(target: EventTarget, name: string, run: (event: any) => void, options: object = {}): void {
    target.addEventListener(name, run, { signal: this.signal, ...options });
  }

  private pixel(event: PointerEvent | WheelEvent): [number, number] {
    const rect = this.stage.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  }

  private listen(): void {
    const { stage, scene, to } = this;
    this.on(stage, "pointerdown", (event: PointerEvent) => this.press(event));
    this.on(stage, "pointermove", (event: PointerEvent) => this.move(event));
    this.on(stage, "pointerup", (event: PointerEvent) => this.release(event));
    this.on(stage, "pointerleave", () => !this.lasso && to.hover(-1));
    this.on(stage, "blur", () => to.hover(-1));
    this.on(stage, "wheel", (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
      event.preventDefault();
      scene.through(zoom(scene.camera, Math.exp(-event.deltaY / 300), ...this.pixel(event)));
    }, { passive: false });
    const keyed = this.keyed();
    this.on(this.root, "keydown", (event: KeyboardEvent) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const typing = (event.target as Element).matches("input, select, textarea");
      const inStage = event.target === stage;
      const run = typing || (!inStage && !["?", "Escape", "[", "]"].includes(event.key)) ? null : keyed[event.key];
      if (run) {
        run();
        event.preventDefault();
      }
      if (run || typing || inStage) event.stopPropagation();
    });
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0 || (event.target as Element).closest("button")) return;
    const [x, y] = this.pixel(event);
    if (this.hand) this.#moving = { x, y, camera: this.scene.camera };
    else this.lasso = [x, y];
    this.stage.setPointerCapture(event.pointerId);
    this.stage.focus({ preventScroll: true });
    event.preventDefault();
  }

  private move(event: PointerEvent): void {
    const [x, y] = this.pixel(event);
    const { scene, lasso } = this;
    const moving = this.#moving;
    if (moving) scene.through({ ...moving.camera, dx: moving.camera.dx + x - moving.x, dy: moving.camera.dy + y - moving.y });
    else if (lasso) {
      if (Math.hypot(x - lasso[lasso.length - 2], y - lasso[lasso.length - 1]) > 3) lasso.push(x, y);
      if (lasso.length > 4) this.to.hover(-1);
      scene.overlay();
    } else this.to.hover(scene.finder.nearest(x, y, REACH));
  }

  private release(event: PointerEvent): void {
    const { scene, to, lasso: drawn } = this;
    const [x, y] = this.pixel(event);
    const still = this.#moving && Math.hypot(x - this.#moving.x, y - this.#moving.y) < 3;
    this.lasso = this.#moving = null;
    if (drawn && drawn.length > 6) {
      const found = inside(scene.finder, to.count, drawn, to.shown);
      to.select(event.shiftKey ? [...new Set([...to.chosen(), ...found])] : found);
      to.tell(`${found.length} points in the lasso`);
    } else if (drawn || still) {
      const k = scene.finder.nearest(x, y, REACH);
      if (k >= 0 && (event.ctrlKey || event.metaKey)) this.flip(k);
      else if (k >= 0) to.pick(k);
      else if (!this.hand) to.select([]);
    }
    scene.overlay();
  }

  private flip(k: number): void {
    const chosen = this.to.chosen();
    this.to.select(chosen.includes(k) ? chosen.filter((one) => one !== k) : [...chosen, k]);
  }

  private go(right: number, down: number): void {
    const { to, scene } = this;
    const cursor = to.cursor();
    const k = cursor >= 0 ? scene.finder.step(cursor, right, down) : Math.max(0, to.focused());
    to.hover(-1); // a step that stays is shown again, too
    to.hover(k);
    to.say(k);
  }

  private keyed(): Record<string, () => void> {
    const { to, scene } = this;
    return {
      ArrowLeft: () => this.go(-1, 0),
      ArrowRight: () => this.go(1, 0),
      ArrowUp: () => this.go(0, -1),
      ArrowDown: () => this.go(0, 1),
      Enter: () => to.pick(to.cursor()),
      " ": () => to.cursor() >= 0 && this.flip(to.cursor()),
      c: () => {
        const list = to.cursor() >= 0 ? to.alike(to.cursor()) : null;
        if (list) to.select(list);
      },
      v: () => {
        const { width, height } = scene.box;
        to.select(inside(scene.finder, to.count, [0, 0, width, 0, width, height, 0, height], to.shown));
      },
      "[": () => to.choose(-1),
      "]": () => to.choose(1),
      "+": () => this.middle(1.4),
      "=": () => this.middle(1.4),
      "-": () => this.middle(1 / 1.4),
      "0": () => scene.everything(),
      "?": () => to.keys(),
      Escape: () => {
        if (to.chosen().length) to.select([]);
        else to.unfocus();
        to.hover(-1);
      },
    };
  }
}
