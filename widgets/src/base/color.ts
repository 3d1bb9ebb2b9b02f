// The colour of a number: diverging (blue, page, orange) and sequential scales in OKLCH,
// in STEPS steps a side, with a text colour of contrast 4.5:1 or more on every step.  Steps are CSS
// classes, so that recolouring a token sets one class name and a change of theme costs nothing:
//   v0 = zero, vn1..vn20 = negative, vp1..vp20 = positive, vs0..vs20 = sequential.

export type RGB = [number, number, number];
export const STEPS = 20;

const NEGATIVE_HUE = 254;
const POSITIVE_HUE = 52;

function linear(L: number, C: number, hue: number): RGB {
  const angle = (hue * Math.PI) / 180;
  const a = C * Math.cos(angle);
  const b = C * Math.sin(angle);
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
}

/** OKLCH to sRGB (0..255); chroma is reduced until the colour exists in sRGB. */
export function oklch(L: number, C: number, hue: number): RGB {
  let rgb = linear(L, C, hue);
  for (let i = 0; i < 40 && rgb.some((x) => x < -1e-4 || x > 1.0001); i++) {
    C *= 0.95;
    rgb = linear(L, C, hue);
  }
  return rgb.map((x) => {
    const c = Math.min(1, Math.max(0, x));
    return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
  }) as RGB;
}

export function luminance(rgb: RGB): number {
  const [r, g, b] = rgb.map((x) => {
    const c = x / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** WCAG contrast ratio, 1 to 21. */
export function contrast(a: RGB, b: RGB): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

export const hex = (rgb: RGB): string =>
  "#" + rgb.map((x) => x.toString(16).padStart(2, "0")).join("");

/** Background of step `t` in [-1, 1] (diverging). */
export function diverging(t: number, dark: boolean): RGB {
  const size = Math.min(1, Math.abs(t));
  const hue = t < 0 ? NEGATIVE_HUE : POSITIVE_HUE;
  const top = t < 0 ? 0.55 : 0.62;
  return dark
    ? oklch(0.2 + (t < 0 ? 0.46 : 0.5) * size, 0.135 * size ** 0.8, hue)
    : oklch(1 - (1 - top) * size, 0.16 * size ** 0.85, hue);
}

/** Background of step `t` in [0, 1] (sequential, page colour to teal). */
export function sequential(t: number, dark: boolean): RGB {
  const size = Math.min(1, Math.max(0, t));
  return dark
    ? oklch(0.2 + 0.5 * size, 0.1 * size ** 0.8, 180)
    : oklch(1 - 0.42 * size, 0.11 * size ** 0.85, 195);
}

const INK: Record<string, RGB> = { light: [27, 27, 31], dark: [232, 232, 236] };

/** The text colour for a background: the theme's own where it reads, else black or white. */
export function ink(background: RGB, dark: boolean): RGB {
  const own = INK[dark ? "dark" : "light"];
  if (contrast(own, background) >= 4.5) return own;
  const other: RGB = dark ? [0, 0, 0] : [255, 255, 255];
  return contrast(other, background) >= 4.5 ? other : dark ? [255, 255, 255] : [0, 0, 0];
}

/** The class of `value` on a scale that ends at `limit`. */
export function stepClass(value: number, limit: number, scale: "diverging" | "sequential"): string {
  if (!Number.isFinite(value)) return "vx";
  const share = limit > 0 ? Math.min(1, Math.abs(value) / limit) : value ? 1 : 0;
  const step = Math.round(share * STEPS);
  if (scale === "sequential") return `vs${value < 0 ? 0 : step}`;
  return step === 0 ? "v0" : `${value < 0 ? "vn" : "vp"}${step}`;
}

/** The smallest of `q` of the finite |values|: the robust end of a scale (q = 0.995). */
export function robustLimit(values: ArrayLike<number>, q = 0.995, skip = -1): number {
  const finite = new Float64Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) {
    if (i !== skip && Number.isFinite(values[i])) finite[count++] = Math.abs(values[i]);
  }
  if (!count) return 0;
  const sorted = finite.subarray(0, count).sort();
  return sorted[Math.min(count - 1, Math.ceil(q * count) - 1)];
}

/** `x` rounded up to two significant digits: the number that a legend can show exactly. */
export function roundUp(x: number): number {
  if (!(x > 0)) return 0;
  const unit = 10 ** (Math.floor(Math.log10(x)) - 1);
  return Number((Math.ceil(x / unit - 1e-9) * unit).toPrecision(2));
}

/** The stylesheet of all steps in both themes, under `.slt`. */
export function paletteCss(): string {
  const rules: string[] = [];
  for (const dark of [false, true]) {
    const root = dark ? '.slt[data-slt-theme="dark"] ' : ".slt ";
    const rule = (name: string, rgb: RGB) =>
      rules.push(`${root}.${name}{--sc:${hex(rgb)};--si:${hex(ink(rgb, dark))}}`);
    for (let step = 1; step <= STEPS; step++) {
      rule(`vn${step}`, diverging(-step / STEPS, dark));
      rule(`vp${step}`, diverging(step / STEPS, dark));
      rule(`vs${step}`, sequential(step / STEPS, dark));
    }
  }
  return rules.join("\n");
}
