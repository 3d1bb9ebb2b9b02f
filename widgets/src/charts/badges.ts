// Verdicts of checks: a mark, a word and a colour; a click shows what to do.
import { fill, h } from "../base/dom";
import css from "./styles/badges.css";

export interface Badge {
  name: string;
  value: string;
  verdict: string;
  meaning?: string;
  do: string;
}

const MARKS: Record<string, string> = { ok: "\u2713", warn: "!", fail: "\u2715" };

export const BADGE_CSS = css;

export function badgeRow(row: HTMLElement, badges: Badge[]): void {
  fill(
    row,
    ...badges.map(({ name, value, verdict, meaning, do: advice }) =>
      h(
        "details",
        { class: `${verdict in MARKS ? verdict : "unknown"}${advice || meaning ? " has-advice" : ""}`, role: "listitem" },
        h("summary", {}, h("b", { "aria-label": verdict }, MARKS[verdict] ?? "?"), `${name} ${value}`),
        meaning ? h("p", {}, meaning) : null,
        advice ? h("p", {}, h("strong", {}, "What to do: "), advice) : null,
      ),
    ),
  );
}
