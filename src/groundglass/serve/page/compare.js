// Two studies of one patient side by side.

import { get, viewOf } from "./api.js";
import { date, h, notes, table, time } from "./dom.js";
import { Slices } from "./slices.js";
import { T, ml, percent } from "./texts.js";
import { Viewer } from "./viewer.js";

const C = T.compare;

export async function compareView(go, first, second) {
  const studies = await Promise.all([first, second].map(id => get(`/studies/${id}`)));
  // Once the user has swapped the two, the order in the address counts.
  const [before, after] = location.hash.endsWith("/swapped") ? studies : inOrder(studies);
  const compared = await get(`/followup?before=${before.id}&after=${after.id}&any_patient=true`);
  const views = await Promise.all([before, after].map(one => (one.viewable ? get(viewOf(one.id, "view.json")) : null)));
  const viewers = [before, after].map((study, place) => {
    const view = views[place];
    return view && new Viewer(new Slices(study.id, view), study.findings, place ? C.after : C.before);
  });
  const link = h("input", { type: "checkbox", checked: true, id: "link" });
  if (viewers.every(Boolean)) linked(viewers, link);
  const column = (study, viewer, name) =>
    h(
      "section",
      { class: "card", "aria-label": name },
      h("h2", {}, `${name}: ${when(study)}`),
      h("p", {}, h("a", { href: `#/study/${study.id}` }, T.answer(study.findings))),
      viewer ? viewer.node : h("p", { class: "note" }, T.study.noView),
    );
  return {
    title: C.title,
    node: h(
      "div",
      {},
      h("p", { class: "back" }, h("a", { href: "#/" }, T.back)),
      h("h1", { tabindex: "-1" }, C.title),
      notes(C.warnings, [...compared.warnings, ...(dated(studies) ? [] : [C.undated])]),
      h(
        "section",
        { class: "card answer" },
        h("p", { class: "headline" }, compared.headline),
        h("p", { class: "note" }, C.limit),
        changes(compared.regions),
      ),
      h(
        "p",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => go(`compare/${after.id}/${before.id}/swapped`) }, C.swap),
        viewers.every(Boolean) && h("span", {}, link, " ", h("label", { for: "link" }, C.link)),
      ),
      h("p", { class: "note" }, C.same),
      h("div", { class: "side-by-side" }, column(before, viewers[0], C.before), column(after, viewers[1], C.after)),
    ),
    close() {
      for (const viewer of viewers) viewer?.close();
    },
  };
}

const when = study => (study.study_date ? date(study.study_date) : time(study.received));

function inOrder(studies) {
  const key = study => `${dated(studies) ? study.study_date : ""} ${study.received}`;
  return [...studies].sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

const dated = studies => studies.every(study => study.study_date);

function changes(regions) {
  const signed = (value, show) => {
    if (value == null) return "–";
    const size = show(Math.abs(value));
    return size === show(0) ? size : `${value > 0 ? "+" : "−"}${size}`;
  };
  const order = ["lung_ml", "lesion_ml", "lesion_share", "ground_glass_ml", "consolidation_ml"];
  const amounts = order.filter(name => name in regions.both);
  const title = name => T.amounts[name === "lesion_share" ? "share" : name.replace("_ml", "")];
  const header = amounts.flatMap(name => [C.before, C.after, C.change].map(at => `${title(name)}: ${at}`));
  const cells = (name, { before, after, change, change_points }) =>
    name.endsWith("share")
      ? [percent(before), percent(after), h("strong", {}, signed(change_points, C.points))]
      : [ml(before), ml(after), h("strong", {}, signed(change, ml))];
  const rows = Object.keys(T.regions)
    .filter(region => regions[region])
    .map(region => ({
      inner: region.includes("_"),
      cells: [T.regions[region], ...amounts.flatMap(name => cells(name, regions[region][name]))],
    }));
  return table(C.title, [T.amounts.region, ...header], rows);
}

/** Keep two viewers at the same height of the lungs, while the box is checked. */
function linked(viewers, box) {
  const ends = viewers.map(({ found, count }) => {
    const lungs = found.slices.flatMap((slice, number) => (slice.lungs_px.right + slice.lungs_px.left ? [number] : []));
    return lungs.length > 1 ? [lungs[0], lungs[lungs.length - 1]] : [0, Math.max(1, count - 1)];
  });
  viewers.forEach((viewer, place) => {
    const other = 1 - place;
    viewer.moved = number => {
      if (!box.checked) return;
      const share = (number - ends[place][0]) / (ends[place][1] - ends[place][0]);
      viewers[other].show(ends[other][0] + share * (ends[other][1] - ends[other][0]), false);
    };
  });
  viewers[1].show(viewers[1].number);
}
