// What keys, mouse, wheel and fingers do to a viewer.

const WHEEL_STEP = 40;
const DRAG_STEP = 8;
const PAN_STEP = 0.1;
const TEN = 10;
export const ZOOM_STEP = 1.25;
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

export class Gestures {
  constructor(viewer) {
    this.viewer = viewer;
    this.stage = viewer.stage;
    this.pointers = new Map();
    this.rest = 0;
    const on = (name, action) => this.stage.addEventListener(name, action, { passive: false });
    on("keydown", event => this.key(event));
    on("pointerdown", event => this.down(event));
    on("pointermove", event => this.move(event));
    on("pointerup", event => this.pointers.delete(event.pointerId));
    on("pointercancel", event => this.pointers.delete(event.pointerId));
    on("pointerleave", event => event.pointerType === "mouse" && !this.pointers.size && viewer.read(null));
    on("contextmenu", event => event.preventDefault());
    on("wheel", event => this.wheel(event));
  }

  key(event) {
    const { viewer } = this;
    const { key } = event;
    if (event.ctrlKey || event.metaKey) return;
    const arrow = ARROWS[key];
    const preset = /^[1-9]$/.test(key) && Object.values(viewer.windows)[key - 1];
    if (arrow && event.altKey) viewer.move(arrow.map(way => -way * PAN_STEP * viewer.canvas.width));
    else if (arrow && event.shiftKey) viewer.moveCross(arrow);
    else if (arrow) viewer.show(viewer.number + (arrow[0] || -arrow[1]));
    else if (key === "PageUp") viewer.show(viewer.number + TEN);
    else if (key === "PageDown") viewer.show(viewer.number - TEN);
    else if (key === "Home") viewer.show(viewer.count - 1);
    else if (key === "End") viewer.show(0);
    else if (preset) viewer.setWindow(...preset);
    else if (key === "+" || key === "=") viewer.setZoom(viewer.zoom * ZOOM_STEP);
    else if (key === "-") viewer.setZoom(viewer.zoom / ZOOM_STEP);
    else if (key === "0") viewer.fit();
    else if (key.toLowerCase() === "m") viewer.setEnd();
    else if (key.toLowerCase() === "o") viewer.toggleOverlays();
    else if (key !== "Escape" || !viewer.forget()) return;
    event.preventDefault();
  }

  down(event) {
    this.stage.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    const tool = { 1: "pan", 2: "window" }[event.button] ?? this.viewer.tool;
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, tool });
    const { exact, voxel } = this.viewer.place(event);
    if (this.pointers.size === 1 && tool === "length") this.viewer.setEnds([exact]);
    this.viewer.read(voxel);
    event.preventDefault();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.viewer.read(this.viewer.place(event).voxel);
      return;
    }
    if (this.pointers.size === 2) this.pinch(event, before);
    else this.drag(before, event);
    Object.assign(before, { x: event.clientX, y: event.clientY });
  }

  drag(before, event) {
    const { viewer } = this;
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    if (before.tool === "window") {
      const unit = viewer.width / 300;
      viewer.setWindow(viewer.level + dy * unit, viewer.width + dx * unit);
    } else if (before.tool === "pan") viewer.move([dx * viewer.ratio, dy * viewer.ratio]);
    else if (before.tool === "length") {
      viewer.setEnds([viewer.ends[0], viewer.place(event).exact]);
      viewer.read(viewer.place(event).voxel);
    } else viewer.show(viewer.number - this.steps(dy, DRAG_STEP));
  }

  /** Two fingers: zoom around their middle, and move with it. */
  pinch(event, before) {
    const { viewer } = this;
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const spread = one => Math.hypot(one.x - other.x, one.y - other.y) || 1;
    const now = { x: event.clientX, y: event.clientY };
    const middle = { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 };
    viewer.move([((now.x - before.x) / 2) * viewer.ratio, ((now.y - before.y) / 2) * viewer.ratio]);
    viewer.setZoom((viewer.zoom * spread(now)) / spread(before), viewer.place(middle).at);
  }

  wheel(event) {
    event.preventDefault();
    const { viewer } = this;
    if (event.ctrlKey) {
      viewer.setZoom(viewer.zoom * Math.exp(-event.deltaY / 300), viewer.place(event).at);
      return;
    }
    const steps = this.steps(event.deltaMode ? event.deltaY * WHEEL_STEP : event.deltaY, WHEEL_STEP);
    if (steps) viewer.show(viewer.number - steps);
  }

  /** The whole steps in a distance that arrives in small parts. */
  steps(way, step) {
    this.rest += way;
    const steps = Math.trunc(this.rest / step);
    this.rest -= steps * step;
    return steps;
  }
}
