// Tables of the findings, and the pictures of a study that consists of pictures.

import { pictureOf, resultOf } from "./api.js";
import { h, sentence, table } from "./dom.js";
import { T, ml, percent } from "./texts.js";

/** The figures of each region that is known: both lungs, each lung, and its zones. */
export function regionsOf(found) {
  const all = { both: found.both, right: found.right, left: found.left, ...found.zones };
  return Object.keys(T.regions)
    .filter(name => all[name])
    .map(name => ({ name, inner: name.includes("_"), figures: all[name] }));
}

function bar(share) {
  const filled = h("span", { class: "bar", "aria-hidden": "true" }, h("span", {}));
  filled.firstChild.style.width = `${100 * Math.min(1, share ?? 0)}%`;
  return filled;
}

export function extentTable(found) {
  const kinds = "ground_glass_ml" in found.both ? ["lesion", "ground_glass", "consolidation"] : ["lesion"];
  const header = [T.amounts.region, T.amounts.lung];
  for (const kind of kinds) header.push(T.amounts[kind], T.amounts.share);
  const rows = regionsOf(found).map(({ name, inner, figures }) => ({
    inner,
    cells: [
      T.regions[name],
      ml(figures.lung_ml),
      ...kinds.flatMap(kind => {
        const share = figures[`${kind}_share`];
        return [ml(figures[`${kind}_ml`]), h("span", {}, percent(share), kind === "lesion" && bar(share))];
      }),
    ],
  }));
  return table(T.study.extent, header, rows);
}

export function ratioTable(found) {
  const ratios = found.likelihood_ratios ?? [];
  if (!ratios.length) return null;
  const number = value => (value == null ? "–" : (+value).toPrecision(2));
  const rows = ratios.map(one => ({
    cells: [
      one.setting,
      number(one.ratio),
      one.interval ? one.interval.map(number).join(" – ") : "–",
      one.validated ? T.study.yes : T.study.no,
    ],
  }));
  return h("section", { class: "card" }, h("h2", {}, T.study.ratios), table(T.study.ratios, T.study.ratioColumns, rows));
}

/** Each picture beside its heatmap, with its own answer. */
export function pictureCards(study, view) {
  const names = new Map(study.sent.map(one => [one.stored, one.name]));
  const figure = (source, alt, text) =>
    h("figure", {}, h("img", { src: source, alt, loading: "lazy" }), h("figcaption", {}, text));
  const card = slice => {
    const name = names.get(slice.path) ?? slice.path;
    const picture = `${slice.path}.png`;
    return h(
      "article",
      { class: "card picture" },
      h("h3", {}, name),
      h("p", {}, T.answer(slice)),
      slice.warnings && h("p", { class: "note" }, sentence(slice.warnings)),
      h(
        "div",
        { class: "pair" },
        view?.pictures.includes(picture) &&
          figure(pictureOf(study.id, encodeURIComponent(picture)), T.pictureOf(name), T.picture),
        slice.heatmap && figure(resultOf(study.id, slice.heatmap), T.heatmapOf(name), T.heatmap),
      ),
    );
  };
  return h("div", { class: "picture-cards" }, study.findings.slices.map(card));
}
