// The strip along a volume: how much lung and lesion each slice shows, which slices have arrived, and where one is.

import { h } from "./dom.js";
import { T } from "./texts.js";

const HEIGHT = 56;
const LINE = 2;
const LUNG = "rgba(128, 140, 160, 0.3)";
const ARRIVED = "rgba(128, 140, 160, 0.9)";

export const lesionArea = slice => slice.lesions_px.right + slice.lesions_px.left;
export const lungArea = slice => slice.lungs_px.right + slice.lungs_px.left;

export class Strip {
  /** `go` is called with the number, from 0, of the slice that was clicked on. */
  constructor(found, colour, go) {
    Object.assign(this, { slices: found.slices, colour });
    const along = event => {
      const box = this.node.getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * this.slices.length));
    };
    this.node = h("canvas", {
      class: "strip",
      role: "img",
      "aria-label": T.viewer.strip,
      title: T.viewer.strip,
      onpointerdown: event => (this.node.setPointerCapture(event.pointerId), along(event)),
      onpointermove: event => event.buttons && along(event),
    });
  }

  draw(number, arrived) {
    const { node, slices } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(node.clientWidth * ratio), Math.round(HEIGHT * ratio)];
    if (!width) return;
    Object.assign(node, { width, height });
    const context = node.getContext("2d");
    const line = LINE * ratio;
    const edge = place => Math.floor((place * width) / slices.length);
    const bar = (place, tall, colour) => {
      context.fillStyle = colour;
      context.fillRect(edge(place), height - line - tall, edge(place + 1) - edge(place), tall);
    };
    const most = area => Math.max(1, ...slices.map(area));
    const [lungs, lesions] = [most(lungArea), most(lesionArea)];
    slices.forEach((slice, place) => {
      bar(place, (lungArea(slice) / lungs) * (height - 2 * line), LUNG);
      const share = lesionArea(slice) / lesions;
      bar(place, share && Math.max(line, share * (height - 2 * line)), this.colour);
      context.fillStyle = ARRIVED;
      if (arrived(place)) context.fillRect(edge(place), height - line, edge(place + 1) - edge(place), line);
    });
    context.fillStyle = getComputedStyle(node).color;
    context.fillRect(Math.round(((number + 0.5) * width) / slices.length - line / 2), 0, line, height);
  }
}
