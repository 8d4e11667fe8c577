// From stored values, labels and evidence to colours. Pixels are 32-bit words: alpha, blue, green, red.

export const RIGHT = 1;
export const LEFT = 2;
export const LESION = 4;
export const CONSOLIDATION = 8;
const SIDES = RIGHT | LEFT;
const OFFSET = 32768;

const word = ([red, green, blue], alpha = 255) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** The grey of each stored value: all that 16 bits can say. `level` and `width` are in HU, or in grey from 0 to 1. */
export function greys(level, width, scale, table = new Uint32Array(2 * OFFSET)) {
  const low = (level - width / 2) * scale;
  const step = 255 / (width * scale);
  for (let value = 0; value < table.length; value++) {
    const grey = Math.max(0, Math.min(255, Math.round((value - OFFSET - low) * step)));
    table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

export function paintSlice(pixels, table, out) {
  for (let at = 0; at < pixels.length; at++) out[at] = table[pixels[at] + OFFSET];
}

const alpha = opacity => Math.round(255 * Math.min(1, opacity));

/** Lungs as outlines, lesions as areas; `shown` says which of lungs, ground_glass and consolidation to paint. */
export function paintMasks(labels, width, shown, colours, opacity, out) {
  const words = {
    [RIGHT]: word(colours.right, alpha(2 * opacity)),
    [LEFT]: word(colours.left, alpha(2 * opacity)),
    ground_glass: word(colours.ground_glass, alpha(opacity)),
    consolidation: word(colours.consolidation, alpha(opacity)),
  };
  out.fill(0);
  const last = labels.length - width;
  for (let at = 0; at < labels.length; at++) {
    const label = labels[at];
    if (!label) continue;
    if (label & CONSOLIDATION) {
      if (shown.consolidation) out[at] = words.consolidation;
    } else if (label & LESION && shown.ground_glass) out[at] = words.ground_glass;
    if (!shown.lungs) continue;
    const side = label & SIDES;
    const border =
      at < width ||
      at >= last ||
      (labels[at - 1] & SIDES) !== side ||
      (labels[at + 1] & SIDES) !== side ||
      (labels[at - width] & SIDES) !== side ||
      (labels[at + width] & SIDES) !== side;
    if (border) out[at] = words[side];
  }
}

/** The colours of 256 strengths of evidence, which fade below half of the scale. */
export function heatColours(colours, opacity) {
  const table = new Uint32Array(256);
  for (let value = 0; value < 256; value++) {
    const place = (value / 255) * (colours.length - 1);
    const from = Math.min(colours.length - 2, Math.floor(place));
    const mixed = colours[from].map((one, channel) => Math.round(one + (colours[from + 1][channel] - one) * (place - from)));
    table[value] = word(mixed, alpha(Math.min(1, opacity) * Math.min(1, (2 * value) / 255)));
  }
  return table;
}

export function paintHeat(values, table, out) {
  for (let at = 0; at < values.length; at++) out[at] = table[values[at]];
}

/** A canvas of its own size that is not shown, with its pixels as words. */
export class Layer {
  constructor(width, height) {
    this.canvas = document.createElement("canvas");
    Object.assign(this.canvas, { width, height });
    this.context = this.canvas.getContext("2d", { willReadFrequently: false });
    this.image = this.context.createImageData(width, height);
    this.words = new Uint32Array(this.image.data.buffer);
    this.key = null;
  }

  /** Paint again if anything that it depends on has changed. */
  update(key, paint) {
    if (this.key === key) return;
    this.key = key;
    paint(this.words);
    this.context.putImageData(this.image, 0, 0);
  }
}
