// The viewer of a volume: a plain 2-D canvas. Slices count from 0, from the feet to the head.

import { controls, help } from "./controls.js";
import { fill, h, problem } from "./dom.js";
import { Layer, greys, heatColours, paintHeat, paintMasks, paintSlice } from "./draw.js";
import { Gestures } from "./gestures.js";
import { Strip, lesionArea } from "./strip.js";
import { T } from "./texts.js";

/** Level and width in HU. */
const WINDOWS = { lung: [-600, 1500], mediastinum: [40, 400], bone: [500, 2000] };
const GREY_WINDOW = [0.5, 1];
const [LEAST_ZOOM, MOST_ZOOM] = [0.5, 20];
const SHARP = 4;
const TELLING = 5;
const APART = 0.08;
const V = T.viewer;

/** The slices with the most lesion, each at least a little apart from the others. */
export function tellingSlices(found) {
  const apart = Math.max(1, Math.round(APART * found.slices.length));
  const ranked = found.slices
    .map((slice, number) => ({ slice, number, area: lesionArea(slice) }))
    .filter(one => one.slice.counted && one.area > 0)
    .sort((a, b) => b.area - a.area || b.slice.probability - a.slice.probability);
  const chosen = [];
  for (const one of ranked)
    if (chosen.length < TELLING && chosen.every(other => Math.abs(other.number - one.number) >= apart)) chosen.push(one);
  return chosen.map(one => one.number);
}

export class Viewer {
  /** `title` names the viewer if there are two. */
  constructor(slices, found, title = V.stage) {
    Object.assign(this, { slices, found, title, view: slices.view, count: slices.count });
    const { geometry, is_hu, typed } = this.view;
    this.geometry = geometry;
    this.rowMm = geometry ? Math.hypot(...geometry.row_step) : 1;
    this.columnMm = geometry ? Math.hypot(...geometry.column_step) : 1;
    this.windows = is_hu ? WINDOWS : { grey: GREY_WINDOW };
    [this.level, this.width] = this.view.window;
    this.shown = { lungs: true, ground_glass: true, consolidation: true, heat: false };
    this.kinds = typed ? ["lungs", "ground_glass", "consolidation", "heat"] : ["lungs", "ground_glass", "heat"];
    this.opacity = this.view.colours.opacity;
    this.zoom = 1;
    this.pan = [0, 0];
    this.cross = null;
    this.ends = [];
    this.telling = tellingSlices(found);
    this.base = new Layer(slices.width, slices.height);
    this.masks = new Layer(slices.width, slices.height);
    this.heat = new Layer(this.view.heat.shape[1] || 1, this.view.heat.shape[0] || 1);
    this.moved = () => {};
    this.node = this.build();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.stage);
    for (const name of ["slice", "masks"]) slices.addEventListener(name, () => this.draw());
    slices.addEventListener("failed", event => fill(this.trouble, problem(`${V.failed} ${event.detail}`)));
    this.show(this.telling[0] ?? Math.floor(this.count / 2));
  }

  close() {
    this.observer.disconnect();
    this.slices.close();
  }

  build() {
    this.tool = matchMedia("(pointer: coarse)").matches ? "scroll" : "window";
    this.canvas = h("canvas", {});
    this.caption = h("p", { class: "caption", role: "status" });
    this.reading = h("output", { class: "reading" }, V.pointer);
    this.loading = h("p", { class: "note" });
    this.trouble = h("div", {});
    const [atLeft, atRight] = this.sides();
    const sure = this.view.oriented ? "" : "?";
    this.stage = h(
      "div",
      { class: "stage", tabindex: "0", role: "application", "aria-label": this.title, "data-tool": this.tool },
      this.canvas,
      h("span", { class: "side at-left" }, atLeft + sure),
      h("span", { class: "side at-right" }, atRight + sure),
    );
    new Gestures(this);
    this.strip = new Strip(this.found, `rgb(${this.view.colours.ground_glass})`, number => this.show(number));
    this.slider = h("input", {
      type: "range",
      min: "1",
      max: `${this.count}`,
      "aria-label": V.goTo,
      oninput: () => this.show(this.slider.value - 1),
    });
    const along = h("div", { class: "along" }, this.strip.node, this.slider, this.loading);
    const screen = h("div", { class: "screen" }, this.trouble, this.stage, this.caption, this.reading, along, help(this));
    return h("div", { class: "viewer" }, screen, controls(this));
  }

  /** The sides shown at the left and right edges of a slice, from the voxels' positions if these are known. */
  sides() {
    const toLeft = this.geometry ? this.geometry.column_step[0] >= 0 : true;
    return toLeft ? [V.right, V.left] : [V.left, V.right];
  }

  // ---- What can be done

  /** Go to a slice; `told` is false if another viewer, which this one follows, went there. */
  show(number, told = true) {
    this.number = Math.max(0, Math.min(this.count - 1, Math.round(number)));
    this.slices.want(this.number);
    this.slider.value = this.number + 1;
    this.caption.textContent = this.describe();
    this.slider.setAttribute("aria-valuetext", this.describe());
    for (const button of this.tellingButtons)
      button.setAttribute("aria-pressed", `${+button.dataset.slice === this.number + 1}`);
    this.draw();
    if (told) this.moved(this.number);
  }

  describe() {
    const slice = this.found.slices[this.number];
    const parts = [V.slice(this.number + 1, this.count)];
    if (slice.height_mm != null) parts.push(V.height(slice.height_mm));
    const unread = this.unread();
    if (unread) return `${parts.join(", ")}. ${V.unread(unread)}`;
    if (slice.lesion_share != null) parts.push(V.lesions(slice.lesion_share));
    return parts.join(", ");
  }

  /** Why the slice could not be read; undefined if it could. */
  unread() {
    return this.view.unread[this.number + 1];
  }

  setWindow(level, width) {
    if (Number.isFinite(level) && width > 0) {
      const [digits, least] = this.view.is_hu ? [0, 1] : [2, 0.01];
      [this.level, this.width] = [+level.toFixed(digits), Math.max(least, +width.toFixed(digits))];
    }
    [this.levelBox.value, this.widthBox.value] = [this.level, this.width];
    this.draw();
  }

  setOverlay(kind, shown) {
    this.shown[kind] = this.boxes[kind].checked = shown;
    this.draw();
  }

  toggleOverlays() {
    const any = this.kinds.some(kind => this.shown[kind]);
    for (const kind of this.kinds) this.setOverlay(kind, !any && kind !== "heat");
  }

  setOpacity(opacity) {
    this.opacity = opacity;
    this.draw();
  }

  setTool(tool) {
    this.tool = this.stage.dataset.tool = tool;
    this.draw();
  }

  /** Zoom; the place `at`, in pixels of the canvas, stays where it is. */
  setZoom(zoom, at = [this.canvas.width / 2, this.canvas.height / 2]) {
    const next = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, zoom));
    const fromCentre = [at[0] - this.canvas.width / 2, at[1] - this.canvas.height / 2];
    this.pan = this.pan.map((pan, axis) => fromCentre[axis] - ((fromCentre[axis] - pan) * next) / this.zoom);
    this.zoom = next;
    this.draw();
  }

  /** Move the slice by pixels of the canvas. */
  move(way) {
    this.pan = this.pan.map((pan, axis) => pan + way[axis]);
    this.draw();
  }

  fit() {
    this.zoom = 1;
    this.pan = [0, 0];
    this.draw();
  }

  // ---- What is read off

  /** Read the value of a voxel (row, column); null reads none. `byKey` also draws a cross there. */
  read(voxel, byKey = false) {
    Object.assign(this, { cross: voxel, byKey });
    this.draw();
  }

  moveCross([right, down]) {
    const [row, column] = this.cross ?? this.middle();
    const within = (place, size) => Math.max(0, Math.min(size - 1, place));
    this.read([within(row + down, this.slices.height), within(column + right, this.slices.width)], true);
  }

  middle() {
    return [Math.floor(this.slices.height / 2), Math.floor(this.slices.width / 2)];
  }

  /** The ends of the length that is measured, as row and column, in parts of voxels. */
  setEnds(ends) {
    Object.assign(this, { ends, endsOn: this.number });
  }

  /** Put one end of a length at the cross. */
  setEnd() {
    const place = this.cross ?? this.middle();
    this.setEnds(this.ends.length === 1 && this.endsOn === this.number ? [this.ends[0], place] : [place]);
    this.read(place, true);
  }

  /** Remove the length and the cross; false if there was neither. */
  forget() {
    const any = this.ends.length > 0 || this.cross !== null;
    this.ends = [];
    this.read(null);
    return any;
  }

  /** Where a pointer is: on the canvas, and in the slice as row and column, whole ones if it is inside. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = [(event.clientX - box.left) * this.ratio, (event.clientY - box.top) * this.ratio];
    const { x, y, sx, sy } = this.transform();
    const [row, column] = [(at[1] - y) / sy, (at[0] - x) / sx];
    const inside = row >= 0 && column >= 0 && row < this.slices.height && column < this.slices.width;
    return { at, exact: [row - 0.5, column - 0.5], voxel: inside ? [Math.floor(row), Math.floor(column)] : null };
  }

  readingText() {
    const parts = [];
    const pixels = this.slices.pixels(this.number);
    if (!pixels) return V.waiting;
    if (this.cross && !this.unread()) {
      const [row, column] = this.cross;
      const value = pixels[row * this.slices.width + column] / this.view.scale;
      parts.push(V.value(this.view.is_hu ? value : value.toFixed(2), this.view.is_hu ? "HU" : V.grey));
      if (this.geometry) parts.push(V.place(...this.position(row, column)));
      parts.push(V.pixel(row, column));
    }
    if (this.ends.length === 2 && this.endsOn === this.number) parts.push(V.length(this.lengthText()));
    if (parts.length) return parts.join(" · ");
    return this.tool === "length" ? V.noLength : V.pointer;
  }

  /** Where a voxel lies in the patient, in mm, in DICOM's coordinates. */
  position(row, column) {
    const { positions, row_step, column_step } = this.geometry;
    return positions[this.number].map((first, axis) => first + row * row_step[axis] + column * column_step[axis]);
  }

  lengthText() {
    const [[row, column], [toRow, toColumn]] = this.ends;
    if (!this.geometry) return V.px(Math.hypot(toRow - row, toColumn - column));
    const { row_step, column_step } = this.geometry;
    const way = row_step.map((step, axis) => (toRow - row) * step + (toColumn - column) * column_step[axis]);
    return V.mm(Math.hypot(...way));
  }

  areaOf(number) {
    const area = lesionArea(this.found.slices[number]);
    return this.geometry ? V.area(area * this.rowMm * this.columnMm) : V.areaPx(area);
  }

  // ---- Drawing, at most once a frame

  draw() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      this.drawNow();
    });
  }

  /** Pixels of the canvas in one of the style sheet. */
  get ratio() {
    return this.canvas.width / (this.canvas.clientWidth || 1);
  }

  drawNow() {
    const size = [this.stage.clientWidth, this.stage.clientHeight];
    const [width, height] = size.map(side => Math.round(side * (window.devicePixelRatio || 1)));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const pixels = this.slices.pixels(this.number);
    if (pixels && !this.unread()) this.drawSlice(context, pixels);
    this.strip.draw(this.number, number => this.slices.pixels(number) !== null);
    this.reading.textContent = this.readingText();
    this.loading.textContent = V.loaded(this.slices.loaded, this.count);
    this.stage.dataset.drawn = pixels ? `${this.number + 1}` : "";
  }

  /** From voxels to pixels of the canvas. */
  transform() {
    const { width, height } = this.canvas;
    const fitted = Math.min(width / (this.slices.width * this.columnMm), height / (this.slices.height * this.rowMm));
    const [sx, sy] = [fitted * this.zoom * this.columnMm, fitted * this.zoom * this.rowMm];
    const x = (width - sx * this.slices.width) / 2 + this.pan[0];
    const y = (height - sy * this.slices.height) / 2 + this.pan[1];
    return { x, y, sx, sy };
  }

  drawSlice(context, pixels) {
    const { x, y, sx, sy } = this.transform();
    const lay = (canvas, smooth) => {
      context.setTransform(sx, 0, 0, sy, x, y);
      context.imageSmoothingEnabled = smooth;
      context.drawImage(canvas, 0, 0, this.slices.width, this.slices.height);
    };
    const smooth = Math.min(sx, sy) < SHARP;
    this.paintBase(pixels);
    lay(this.base.canvas, smooth);
    if (this.paintHeat()) lay(this.heat.canvas, true);
    if (this.paintMasks()) lay(this.masks.canvas, smooth);
    context.setTransform(1, 0, 0, 1, 0, 0);
    const onCanvas = ([row, column]) => [x + (column + 0.5) * sx, y + (row + 0.5) * sy];
    if (this.cross && this.byKey) drawCross(context, onCanvas(this.cross), this.ratio);
    if (this.ends.length && this.endsOn === this.number) drawLength(context, this.ends.map(onCanvas), this.ratio);
  }

  paintBase(pixels) {
    const window = `${this.level} ${this.width}`;
    if (this.greysOf !== window) this.greys = greys(this.level, this.width, this.view.scale, this.greys);
    this.greysOf = window;
    this.base.update(`${this.number} ${window}`, out => paintSlice(pixels, this.greys, out));
  }

  paintHeat() {
    const evidence = this.shown.heat && this.slices.heat(this.number);
    if (!evidence) return false;
    const { colours, opacity } = this.view.heat;
    const table = () => heatColours(colours, (opacity * this.opacity) / this.view.colours.opacity);
    this.heat.update(`${this.number} ${this.opacity}`, out => paintHeat(evidence, table(), out));
    return true;
  }

  paintMasks() {
    const { shown, opacity } = this;
    const any = shown.lungs || shown.ground_glass || shown.consolidation;
    const labels = any && this.slices.labels(this.number);
    if (!labels) return false;
    const key = [this.number, opacity, shown.lungs, shown.ground_glass, shown.consolidation].join();
    this.masks.update(key, out => paintMasks(labels, this.slices.width, shown, this.view.colours, opacity, out));
    return true;
  }
}

function drawCross(context, [x, y], ratio) {
  const [inner, outer] = [4 * ratio, 14 * ratio];
  for (const [colour, wide] of [["#000", 3], ["#fff", 1]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide * ratio;
    context.beginPath();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * inner, y + dy * inner);
      context.lineTo(x + dx * outer, y + dy * outer);
    }
    context.stroke();
  }
}

function drawLength(context, ends, ratio) {
  for (const [colour, wide] of [["#000", 4], ["#7fd1ff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide * ratio;
    context.beginPath();
    for (const [x, y] of ends) {
      context.moveTo(x + 3 * ratio, y);
      context.arc(x, y, 3 * ratio, 0, 2 * Math.PI);
    }
    context.moveTo(...ends[0]);
    context.lineTo(...ends[ends.length - 1]);
    context.stroke();
  }
}
