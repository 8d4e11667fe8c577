// One study: the answer, the slices, the figures, the details.

import { follow, get, may, post, resultOf, search, viewOf } from "./api.js";
import { date, fill, h, nameOf, notes, problem, sentence, time } from "./dom.js";
import { extentTable, pictureCards, ratioTable } from "./figures.js";
import { removeStudy } from "./list.js";
import { Slices } from "./slices.js";
import { T } from "./texts.js";
import { Viewer } from "./viewer.js";

const AGAIN = 2000;

const isVolume = study => study.state === "done" && Array.isArray(study.findings?.volume?.shape);

export async function studyView(go, id) {
  const body = h("div", {});
  const said = h("div", { "aria-live": "polite" });
  const title = h("h1", { tabindex: "-1" });
  let stop = () => {};
  let viewer = null;
  let closed = false;

  const attempt = async action => {
    try {
      await action();
    } catch (error) {
      fill(said, problem(error.message));
    }
  };
  const erase = study => attempt(async () => (await removeStudy(study)) && go(""));
  const again = study => attempt(async () => (await post(`/studies/${study.id}/retry`), await load()));

  async function load() {
    const study = await get(`/studies/${id}`);
    if (closed) return;
    title.textContent = T.study.title(nameOf(study));
    fill(said);
    if (study.state === "done") await answered(study);
    else if (study.state === "failed") fill(body, failed(study));
    else working(study);
  }

  function working(study) {
    const bar = h("progress", { "aria-label": T.states.running });
    const text = h("p", { role: "status" });
    const show = ({ state, progress }) => {
      text.textContent = state === "running" ? T.working(progress.done, progress.total) : T.waiting;
      if (progress.total) {
        bar.max = progress.total;
        bar.value = progress.done;
      }
    };
    show(study);
    fill(body, h("section", { class: "card" }, text, bar));
    stop();
    const seen = now => {
      show(now);
      if (now.state === "done" || now.state === "failed") attempt(load);
    };
    stop = follow(id, seen, () => setTimeout(() => closed || attempt(load), AGAIN));
  }

  const failed = study =>
    h(
      "section",
      { class: "card" },
      h("h2", {}, T.study.failed),
      h("p", { class: "problem" }, sentence(study.problem)),
      study.remedy && h("p", {}, sentence(study.remedy)),
      filesOf(study),
      h(
        "div",
        { class: "buttons" },
        may("write") && h("button", { type: "button", class: "main", onclick: () => again(study) }, T.study.retry),
        may("write") && h("button", { type: "button", onclick: () => erase(study) }, T.study.remove),
      ),
    );

  async function answered(study) {
    if (study.divided_into) {
      fill(body, parts(study));
      return;
    }
    const [bundles, view] = await Promise.all([
      get("/bundles"),
      study.viewable ? get(viewOf(id, "view.json")) : null,
    ]);
    if (closed) return;
    const bundle = bundles.find(one => one.name === study.bundle);
    const whole = isVolume(study);
    const images = h("section", { class: "card images", "aria-label": T.study.images });
    fill(
      body,
      later(study),
      answerCard(study, bundle, whole),
      whole ? images : pictureCards(study, view),
      whole && extent(study.findings),
      ratioTable(study.findings),
      h("div", { class: "columns" }, details(study, bundle), h("div", { class: "screen-only" }, downloads(study), others(study))),
      may("write") &&
        h("p", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: () => erase(study) }, T.study.remove)),
    );
    if (!whole) return;
    if (view?.kind !== "volume") fill(images, h("p", { class: "note" }, T.study.noView));
    else {
      viewer = new Viewer(new Slices(id, view), study.findings);
      fill(images, viewer.node);
    }
  }

  await load();
  return {
    title: title.textContent,
    node: h("div", {}, h("p", { class: "back" }, h("a", { href: "#/" }, T.back)), title, said, body),
    close() {
      closed = true;
      stop();
      viewer?.close();
    },
  };
}

function later(study) {
  if (!study.superseded_by) return null;
  const link = h("a", { href: `#/study/${study.superseded_by}` }, T.study.latest);
  return h("p", { class: "warnings" }, T.study.superseded, " ", link);
}

function parts(study) {
  const link = (part, place) => h("li", {}, h("a", { href: `#/study/${part}` }, T.study.part(place + 1)));
  return h("section", { class: "card" }, h("p", {}, T.study.divided), h("ul", {}, study.divided_into.map(link)));
}

function answerCard(study, bundle, whole) {
  const found = study.findings;
  const kind = (found.verdict ?? "").replaceAll(" ", "-");
  const limits = found.probability == null && whole ? [] : whole ? (bundle?.limits ?? [T.study.lesionsOnly]) : [T.pictureLimits];
  const failures = (found.failures ?? []).map(one => `${one.problem}${one.remedy ? `; ${one.remedy}` : ""}`);
  const unread = (found.unread ?? []).map(one => `${T.details.size} ${one.slice}: ${one.problem}`);
  return h(
    "section",
    { class: `card answer ${kind}`, "aria-labelledby": "answer" },
    h("h2", { id: "answer", class: "unseen" }, T.study.answer),
    h("p", { class: "headline" }, whole ? T.answer(found) : T.pictures(found.summary)),
    notes(T.study.limits, limits, "limits"),
    notes(T.study.warnings, found.warnings ?? []),
    notes(T.study.unread, [...failures, ...unread]),
  );
}

function extent(found) {
  if (found.verdict === "not a chest CT") return null;
  const zones = Object.keys(found.zones).length ? T.study.notes : T.study.noZones;
  const band = found.severity ? `${T.study.severity}: ${found.severity} (${found.severity_source}).` : T.study.noSeverity;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, T.study.extent),
    extentTable(found),
    h("p", { class: "note" }, zones),
    h("p", { class: "note" }, band),
  );
}

function details(study, bundle) {
  const found = study.findings;
  const rows = [
    ["patient", nameOf(study)],
    ["patientId", study.patient.id],
    ["date", study.study_date && date(study.study_date)],
    ["received", time(study.received)],
    ["finished", time(study.finished)],
    ["bundle", study.bundle],
    ["trained", bundle?.trained_on],
    ["segmenter", found.segmenter?.name],
    ["size", found.volume && T.details.sizeOf(found.volume.shape)],
    ["spacing", found.volume?.spacing_mm && `${found.volume.spacing_mm.map(mm => +mm.toFixed(2)).join(" × ")} mm`],
    ["series", found.volume?.series],
    ["counted", found.slices_counted],
    ["others", found.other_series?.map(one => `${one.series}: ${one.reason}`).join("; ")],
    ["version", `${study.version}`],
    ["id", study.id],
    ["software", found.groundglass],
  ];
  return h(
    "section",
    { class: "card" },
    h("h2", {}, T.study.details),
    h(
      "dl",
      {},
      rows.filter(([, value]) => value != null && value !== "").map(([name, value]) => [
        h("dt", {}, T.details[name]),
        h("dd", {}, `${value}`),
      ]),
    ),
    filesOf(study),
  );
}

function filesOf(study) {
  return h(
    "details",
    {},
    h("summary", {}, `${T.details.files}: ${study.sent.length}`),
    h("ul", { class: "names" }, study.sent.map(one => h("li", {}, one.name))),
  );
}

function downloads(study) {
  const known = Object.keys(T.results);
  const order = name => (known.includes(name) ? known.indexOf(name) : known.length);
  const link = name =>
    h(
      "li",
      {},
      h(
        "a",
        /\.(html|pdf)$/.test(name)
          ? { href: resultOf(study.id, name), target: "_blank", rel: "noopener" }
          : { href: resultOf(study.id, name), download: name.split("/").pop() },
        T.results[name] ?? name,
      ),
    );
  const names = study.results.filter(name => !name.startsWith("heatmaps/")).sort((a, b) => order(a) - order(b));
  return h("section", { class: "card" }, h("h2", {}, T.study.downloads), h("ul", {}, names.map(link)));
}

/** The other answered volumes of the same patient, to compare with. */
function others(study) {
  if (!isVolume(study)) return null;
  const place = h("div", {}, h("p", { class: "note" }, T.loading));
  const show = async () => {
    const found = study.patient.id ? await search({ text: study.patient.id, state: "done", limit: 200 }) : { studies: [] };
    const same = found.studies.filter(
      one => one.id !== study.id && one.patient.id === study.patient.id && one.lesion_ml != null,
    );
    const link = one => {
      const name = `${date(one.study_date)}, ${T.details.received} ${time(one.received)}`;
      return h("li", {}, h("a", { href: `#/compare/${study.id}/${one.id}` }, name));
    };
    fill(
      place,
      same.length
        ? [h("h3", {}, T.study.compareWith), h("ul", {}, same.map(link))]
        : h("p", { class: "note" }, T.study.noOthers),
    );
  };
  show().catch(error => fill(place, problem(error.message)));
  return h("section", { class: "card" }, h("h2", {}, T.study.compare), place);
}
