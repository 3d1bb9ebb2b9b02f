// What a widget of tokens gives to its viewer, and gets from it.
import type { FocusLink, Part } from "../base/focus";
import type { Corpus } from "./corpus";
import type { Source } from "./panel";
import type { Strip } from "./strip";

export interface Options {
  corpus: Corpus;
  title: string;
  enter: string; // what a click does, for the list of keys
  lockTip: boolean; // a click keeps the tooltip at its token
  tools: HTMLElement[]; // the widget's own controls
  changed(part: Part): void; // focus, pins or range changed
  metric(step: 1 | -1): void;
  more(k: number): Node[]; // further lines of the tooltip
}

export interface Viewer {
  root: HTMLElement;
  strip: Strip;
  side: HTMLElement; // beside the strip
  foot: HTMLElement; // under everything
  head: HTMLElement; // above the legend
  source(): Source;
  focus(): FocusLink;
  show(source: Source): void; // put other numbers on show
  pick(k: number): void; // focus token k
  connect(): Promise<void>;
}
