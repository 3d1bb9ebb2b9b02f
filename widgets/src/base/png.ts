// A picture of a widget as a PNG file: its SVGs and canvases where they stand on the page.
import { downloadBlob, h } from "./dom";

const SCALE = 2; // pixels per CSS pixel: sharp in a paper
const MARGIN = 16;
const AROUND = 24; // what an SVG shows outside of its box where it may: ends of long labels
const LEAST = 40; // smaller pictures are icons
const STYLES = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linejoin",
  "opacity", "visibility", "display", "font-family", "font-size", "font-weight", "font-style",
  "text-anchor", "dominant-baseline", "paint-order", "color",
];

const picturesOf = (root: Element): (SVGSVGElement | HTMLCanvasElement)[] =>
  [...root.querySelectorAll<SVGSVGElement | HTMLCanvasElement>("svg, canvas")].filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width >= LEAST && box.height >= LEAST && !one.parentElement?.closest("svg");
  });

/** The first background that is not transparent, from `element` upwards. */
function ground(element: Element | null): string {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (color && color !== "transparent" && !/, 0\)$/.test(color)) return color;
  }
  return "#fff";
}

/** A copy of an SVG that needs no stylesheet: computed values stand on every element. */
function standalone(svg: SVGSVGElement): SVGSVGElement {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const from = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const computed = getComputedStyle(from[i]);
    const style = STYLES.map((name) => `${name}:${computed.getPropertyValue(name)}`).join(";");
    element.setAttribute("style", style);
  });
  const { width, height } = svg.getBoundingClientRect();
  const around = aroundOf(svg);
  const view = svg.viewBox.baseVal;
  const given = view && view.width > 0;
  const [x, y, w, tall] = given ? [view.x, view.y, view.width, view.height] : [0, 0, width, height];
  const [left, top] = [(around * w) / width, (around * tall) / height];
  copy.setAttribute("viewBox", `${x - left} ${y - top} ${w + 2 * left} ${tall + 2 * top}`);
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width + 2 * around));
  copy.setAttribute("height", String(height + 2 * around));
  return copy;
}

/** Pixels that a picture may reach beyond its box. */
const aroundOf = (picture: Element): number =>
  picture instanceof SVGSVGElement && getComputedStyle(picture).overflow === "visible" ? AROUND : 0;

async function drawn(picture: SVGSVGElement | HTMLCanvasElement): Promise<CanvasImageSource> {
  if (picture instanceof HTMLCanvasElement) return picture;
  const image = new Image();
  const text = new XMLSerializer().serializeToString(standalone(picture));
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  return image;
}

/** All pictures of `root`, at their places, on its background; null where there is none. */
export async function pngOf(root: Element): Promise<Blob | null> {
  const pictures = picturesOf(root);
  if (!pictures.length) return null;
  const boxes = pictures.map((one) => one.getBoundingClientRect());
  const left = Math.min(...boxes.map((b) => b.left)) - MARGIN;
  const top = Math.min(...boxes.map((b) => b.top)) - MARGIN;
  const width = Math.max(...boxes.map((b) => b.right)) + MARGIN - left;
  const height = Math.max(...boxes.map((b) => b.bottom)) + MARGIN - top;
  const sheet = h("canvas", { width: Math.ceil(width * SCALE), height: Math.ceil(height * SCALE) });
  const pen = sheet.getContext("2d")!;
  pen.scale(SCALE, SCALE);
  pen.fillStyle = ground(root);
  pen.fillRect(0, 0, width, height);
  for (const [i, picture] of pictures.entries()) {
    const { left: x, top: y, width: w, height: tall } = boxes[i];
    pen.imageSmoothingEnabled = getComputedStyle(picture).imageRendering !== "pixelated"; // cells stay cells
    const around = aroundOf(picture);
    pen.drawImage(await drawn(picture), x - left - around, y - top - around, w + 2 * around, tall + 2 * around);
  }
  return new Promise((done) => sheet.toBlob(done, "image/png"));
}

/** A button that saves the pictures of `root` as a file. */
export const pngButton = (file: string, root: Element): HTMLButtonElement =>
  h("button", {
    title: "Download the picture",
    onclick: async () => {
      const blob = await pngOf(root);
      if (blob) downloadBlob(file, blob);
    },
  }, "PNG");
