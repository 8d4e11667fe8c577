// Two studies of one patient side by side.

import { get, viewOf } from "./api.js";
import { date, h, nameOf, notes, table, time } from "./dom.js";
import { regionsOf } from "./figures.js";
import { Slices } from "./slices.js";
import { isVolume } from "./study.js";
import { T, ml, percent } from "./texts.js";
import { Viewer } from "./viewer.js";

const C = T.compare;

export async function compareView(go, first, second) {
  const studies = await Promise.all([first, second].map(id => get(`/studies/${id}`)));
  const back = h("p", { class: "back" }, h("a", { href: "#/" }, T.back));
  const title = h("h1", { tabindex: "-1" }, C.title);
  if (!studies.every(isVolume)) return { title: C.title, node: h("div", {}, back, title, h("p", {}, C.none)) };
  // The order of the address counts once somebody has swapped the two.
  const [before, after] = location.hash.endsWith("/swapped") ? studies : inOrder(studies);
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
      back,
      title,
      notes(T.study.warnings, warnings(before, after)),
      h(
        "section",
        { class: "card answer" },
        h("p", { class: "headline" }, C.summary(before.findings.both.lesion_share, after.findings.both.lesion_share)),
        h("p", { class: "note" }, C.limit),
        changes(before.findings, after.findings),
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

function warnings(before, after) {
  const [one, other] = [before.patient.id, after.patient.id];
  const lines = [];
  if (!one || !other) lines.push(C.unknownPatient);
  else if (one !== other) lines.push(`${C.otherPatient} (${nameOf(before)}; ${nameOf(after)})`);
  if (!dated([before, after])) lines.push(C.undated);
  return lines;
}

function changes(before, after) {
  const signed = (value, show) => {
    const size = show(Math.abs(value));
    return size === show(0) ? size : `${value > 0 ? "+" : "−"}${size}`;
  };
  const kinds = ["lung_ml", "lesion_ml", "lesion_share"];
  const both = kind => before.both[kind] != null && after.both[kind] != null;
  for (const kind of ["ground_glass_ml", "consolidation_ml"]) if (both(kind)) kinds.push(kind);
  const names = { lesion_share: T.amounts.share };
  for (const kind of ["lung", "lesion", "ground_glass", "consolidation"]) names[`${kind}_ml`] = T.amounts[kind];
  const header = [T.amounts.region, ...kinds.flatMap(kind => [C.before, C.after, C.change].map(at => `${names[kind]}: ${at}`))];
  const later = new Map(regionsOf(after).map(one => [one.name, one.figures]));
  const rows = regionsOf(before)
    .filter(one => later.has(one.name))
    .map(({ name, inner, figures }) => ({
      inner,
      cells: [
        T.regions[name],
        ...kinds.flatMap(kind => {
          const [show, showChange] = kind.endsWith("share") ? [percent, C.points] : [ml, ml];
          const [from, to] = [figures[kind], later.get(name)[kind]];
          return [show(from), show(to), from == null || to == null ? "–" : h("strong", {}, signed(to - from, showChange))];
        }),
      ],
    }));
  return table(C.title, header, rows);
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
