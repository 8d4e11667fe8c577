// The pixels of a volume, which arrive slice by slice: first the slice on show, then its neighbours.

import { bytes, viewOf } from "./api.js";

const BATCH_BYTES = 3 << 20;
const AT_ONCE = 2;
const ATTEMPTS = 4;
const BUDGET_BYTES = (navigator.deviceMemory ?? 8) <= 4 ? 256 << 20 : 1 << 30;
const RUN_BITS = 28;
const KEPT_LABELS = 8;

export class Slices extends EventTarget {
  /** Slices count from 0, from the feet to the head. Events: `slice`, `masks` and `failed`. */
  constructor(study, view) {
    super();
    Object.assign(this, { study, view });
    [this.count, this.height, this.width] = view.shape;
    this.size = this.height * this.width;
    this.unit = view.is_hu ? "HU" : null;
    this.runs = null;
    this.heats = null;
    this.stopped = new AbortController();
    this.batch = Math.max(1, Math.min(16, Math.floor(BATCH_BYTES / (2 * this.size))));
    this.most = Math.max(2 * this.batch, Math.floor(BUDGET_BYTES / (2 * this.size)));
    this.pixelsOf = new Map();
    this.labelsOf = new Map();
    this.asked = new Set();
    this.running = 0;
    this.wanted = 0;
    this.loadOverlays();
  }

  /** The stored values of a slice, Int16Array; null while they have not arrived. */
  pixels(number) {
    return this.pixelsOf.get(number) ?? null;
  }

  get loaded() {
    return this.pixelsOf.size;
  }

  /** The labels of a slice, Uint8Array; null while they have not arrived. */
  labels(number) {
    if (!this.runs) return null;
    let labels = this.labelsOf.get(number);
    if (!labels) {
      labels = new Uint8Array(this.size);
      const end = this.runStarts[number] + this.view.runs[number];
      for (let at = 0, run = this.runStarts[number]; run < end; run++) {
        const value = this.runs[run];
        const next = at + (value & ((1 << RUN_BITS) - 1));
        const label = value >>> RUN_BITS;
        if (label) labels.fill(label, at, next);
        at = next;
      }
      this.labelsOf.set(number, labels);
      if (this.labelsOf.size > KEPT_LABELS) this.labelsOf.delete(this.labelsOf.keys().next().value);
    }
    return labels;
  }

  /** The heatmap of a slice, Uint8Array; null if there is none. */
  heat(number) {
    const place = this.heats ? this.view.heat.slices.indexOf(number + 1) : -1;
    if (place < 0) return null;
    const size = this.view.heat.shape[0] * this.view.heat.shape[1];
    return this.heats.subarray(place * size, (place + 1) * size);
  }

  /** Load the slices around this one first. */
  want(number) {
    this.wanted = number;
    while (this.running < AT_ONCE && this.next()) {
      /* next starts a request */
    }
  }

  close() {
    this.stopped.abort();
    this.pixelsOf.clear();
  }

  async loadOverlays() {
    const { signal } = this.stopped;
    try {
      const [masks, heat] = await Promise.all([
        bytes(viewOf(this.study, "masks"), { signal }),
        bytes(viewOf(this.study, "heat"), { signal }),
      ]);
      this.runs = new Uint32Array(masks);
      this.heats = new Uint8Array(heat);
      this.runStarts = [];
      let start = 0;
      for (const length of this.view.runs) {
        this.runStarts.push(start);
        start += length;
      }
      this.dispatchEvent(new Event("masks"));
    } catch (error) {
      this.failed(error);
    }
  }

  /** Start to load the next slices; false if there is nothing left to load. */
  next() {
    const missing = number => number >= 0 && number < this.count && !this.asked.has(number);
    let first = -1;
    for (let distance = 0; distance < this.count && first < 0; distance++) {
      if (this.loaded >= this.most && 2 * distance >= this.most) return false;
      if (missing(this.wanted + distance)) first = this.wanted + distance;
      else if (missing(this.wanted - distance)) first = this.wanted - distance;
    }
    if (first < 0) return false;
    // The slice on show is loaded alone, so that it arrives soon; then runs of missing neighbours are loaded together.
    const down = first < this.wanted;
    let last = first;
    const most = first === this.wanted ? 1 : this.batch;
    while (Math.abs(last - first) + 1 < most && missing(last + (down ? -1 : 1))) last += down ? -1 : 1;
    this.load(Math.min(first, last), Math.max(first, last));
    return true;
  }

  async load(first, last) {
    for (let number = first; number <= last; number++) this.asked.add(number);
    this.running++;
    try {
      const values = new Int16Array(await this.fetched(first, last));
      for (let number = first; number <= last; number++) {
        const from = (number - first) * this.size;
        // A copy, so that a slice can be dropped without its neighbours.
        this.pixelsOf.set(number, values.slice(from, from + this.size));
      }
      this.drop();
      this.dispatchEvent(new CustomEvent("slice", { detail: { first, last } }));
    } catch (error) {
      for (let number = first; number <= last; number++) this.asked.delete(number);
      this.failed(error);
      return;
    } finally {
      this.running--;
    }
    this.want(this.wanted);
  }

  async fetched(first, last) {
    const step = 2 * this.size;
    const headers = { Range: `bytes=${first * step}-${(last + 1) * step - 1}` };
    for (let attempt = 1; ; attempt++) {
      try {
        const found = await bytes(viewOf(this.study, "slices"), { headers, signal: this.stopped.signal });
        // If a proxy does not support byte ranges, the whole file arrives.
        return found.byteLength === (last - first + 1) * step ? found : found.slice(first * step, (last + 1) * step);
      } catch (error) {
        const hopeless = error.name === "AbortError" || [401, 403, 404].includes(error.status);
        if (hopeless || attempt === ATTEMPTS) throw error;
        await new Promise(resolve => setTimeout(resolve, 1000 * attempt));
      }
    }
  }

  /** Limit the memory: drop the slices that are farthest from the one on show. */
  drop() {
    if (this.loaded <= this.most) return;
    const far = [...this.pixelsOf.keys()].sort((a, b) => Math.abs(b - this.wanted) - Math.abs(a - this.wanted));
    for (const number of far.slice(0, this.loaded - this.most)) {
      this.pixelsOf.delete(number);
      this.asked.delete(number);
    }
  }

  failed(error) {
    if (error.name === "AbortError" || this.stopped.signal.aborted) return;
    this.dispatchEvent(new CustomEvent("failed", { detail: error.message }));
  }
}
