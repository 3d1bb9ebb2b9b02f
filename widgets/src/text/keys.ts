// The keys of a strip of tokens.

export interface Actions {
  help(): void;
  find(): void;
  metric(step: 1 | -1): void;
  clear(): void;
  move(to: number, extend: boolean): void;
  line(from: number, step: 1 | -1): number; // the token above or below
  strongest(step: 1 | -1): void;
  note(): void;
  pick(): void;
  pin(): void;
}

/** Where the keyboard is: its token (-1: none yet), its example's bounds, the number of tokens. */
export interface At {
  cursor: number;
  start: number;
  stop: number;
  count: number;
}

/** What a key does, or nothing; `inside`: whether the strip itself has the keyboard's focus. */
export function actionOf(event: KeyboardEvent, inside: boolean, at: () => At, act: Actions): (() => void) | undefined {
  const { key, shiftKey, ctrlKey, metaKey, altKey } = event;
  const edge = key === "Home" || key === "End";
  if (altKey || ((ctrlKey || metaKey) && !edge)) return undefined;
  const { cursor, start, stop, count } = at();
  const k = Math.max(0, cursor);
  const go = (to: number) => () => act.move(to, shiftKey);
  const anywhere: Record<string, () => void> = {
    "?": act.help,
    "/": act.find,
    "[": () => act.metric(-1),
    "]": () => act.metric(1),
    Escape: act.clear,
  };
  const inStrip: Record<string, () => void> = {
    ArrowLeft: go(k - 1),
    ArrowRight: go(cursor + 1),
    ArrowUp: () => act.move(act.line(k, -1), shiftKey),
    ArrowDown: () => act.move(act.line(k, 1), shiftKey),
    Home: go(ctrlKey ? 0 : start),
    End: go(ctrlKey ? count - 1 : stop - 1),
    PageUp: go(k - 250),
    PageDown: go(k + 250),
    n: () => act.strongest(1),
    p: () => act.strongest(-1),
    a: act.note,
    Enter: act.pick,
    " ": act.pin,
  };
  return anywhere[key] ?? (inside ? inStrip[key] : undefined);
}
