// The controls beside a viewer.

import { choice, h, labelled } from "./dom.js";
import { ZOOM_STEP } from "./gestures.js";
import { T } from "./texts.js";

const V = T.viewer;

export const controls = viewer =>
  h("div", { class: "controls" }, telling(viewer), windows(viewer), overlays(viewer), view(viewer));

const group = (title, ...children) => h("fieldset", {}, h("legend", {}, title), ...children);
const button = (text, action, more) => h("button", { type: "button", onclick: action, ...more }, text);

function telling(viewer) {
  viewer.tellingButtons = viewer.telling.map(number =>
    button(V.tellingSlice(number + 1, viewer.areaOf(number)), () => viewer.show(number), {
      class: "telling",
      "data-slice": `${number + 1}`,
    }),
  );
  return group(
    V.telling,
    viewer.tellingButtons.length ? viewer.tellingButtons : h("p", { class: "note" }, V.noTelling),
  );
}

function windows(viewer) {
  const preset = name =>
    button(V.presets[name] ?? V.greyPreset, () => viewer.setWindow(...viewer.windows[name]), { "data-window": name });
  const step = viewer.view.is_hu ? "10" : "0.05";
  const box = (value, change) =>
    h("input", { type: "number", step, value, onchange: event => change(+event.target.value) });
  viewer.levelBox = box(viewer.level, value => viewer.setWindow(value, viewer.width));
  viewer.widthBox = box(viewer.width, value => viewer.setWindow(viewer.level, value));
  return group(
    V.window,
    Object.keys(viewer.windows).map(preset),
    h("div", { class: "pairs" }, labelled(V.level, viewer.levelBox), labelled(V.width, viewer.widthBox)),
  );
}

function overlays(viewer) {
  viewer.boxes = {};
  const row = kind => {
    const box = h("input", {
      type: "checkbox",
      checked: viewer.shown[kind],
      "data-overlay": kind,
      onchange: () => viewer.setOverlay(kind, box.checked),
    });
    viewer.boxes[kind] = box;
    const chips = (kind === "lungs" ? ["right", "left"] : [kind]).map(name => {
      const chip = h("span", { class: "chip" });
      chip.style.background = `rgb(${viewer.view.colours[name] ?? viewer.view.heat.colours[3]})`;
      return chip;
    });
    const name = kind === "ground_glass" && !viewer.view.typed ? V.lesion : V[kind];
    return h("label", { title: kind === "heat" && V.heatHint }, box, chips, name);
  };
  const slider = h("input", {
    type: "range",
    min: "0",
    max: "100",
    value: 100 * viewer.opacity,
    oninput: () => viewer.setOpacity(slider.value / 100),
  });
  return group(V.overlays, h("div", { class: "checks" }, viewer.kinds.map(row)), labelled(V.opacity, slider));
}

function view(viewer) {
  const tools = choice(Object.entries(V.toolNames), viewer.tool, () => viewer.setTool(tools.value));
  return group(
    V.view,
    labelled(V.tools, tools),
    button(V.larger, () => viewer.setZoom(viewer.zoom * ZOOM_STEP)),
    button(V.smaller, () => viewer.setZoom(viewer.zoom / ZOOM_STEP)),
    button(V.fit, () => viewer.fit()),
  );
}

export function help(viewer) {
  return h(
    "details",
    { class: "help" },
    h("summary", {}, V.help),
    h("dl", {}, V.keys.map(([key, does]) => [h("dt", {}, key), h("dd", {}, does)])),
    h("p", { class: "note" }, viewer.view.oriented ? V.sides : V.assumed),
  );
}
