// The list of studies, and sending new ones.

import { get, may, remove, search } from "./api.js";
import { nodePanel } from "./dicom.js";
import { choice, confirmed, date, fill, h, labelled, nameOf, problem, time } from "./dom.js";
import { T, ml } from "./texts.js";
import { uploadView } from "./upload.js";

const PAGE = 50;
const AGAIN = 1500;
const WAIT = 250;
const columns = T.list.columns;

/** Delete a study after asking; resolves to whether it is gone. */
export async function removeStudy(study) {
  const text = T.remove.text(nameOf(study));
  if (!(await confirmed(T.remove.title, text, T.remove.button))) return false;
  await remove(`/studies/${study.id}`);
  return true;
}

export async function listView(go) {
  const filters = { text: "", state: null, verdict: null, offset: 0 };
  const picked = new Set();
  let timer = 0;
  let latest = 0;
  let closed = false;

  const upload = uploadView(await get("/bundles"), answer => go(`study/${answer.id}`));
  const node = nodePanel();
  const rows = h("div", { class: "rows" });
  const said = h("div", { "aria-live": "polite" });
  const pages = h("nav", { class: "buttons pages", "aria-label": T.studies });
  const compare = h(
    "button",
    { type: "button", disabled: true, onclick: () => go(`compare/${[...picked].join("/")}`) },
    T.list.compare,
  );

  const filter = change => {
    Object.assign(filters, { offset: 0 }, change);
    clearTimeout(timer);
    timer = setTimeout(load, WAIT);
  };
  const pairs = names => [["", T.list.all], ...Object.entries(names)];
  const words = h("input", {
    type: "search",
    placeholder: T.list.searchHint,
    maxlength: "200",
    oninput: () => filter({ text: words.value }),
  });

  async function load() {
    clearTimeout(timer);
    const mine = ++latest;
    let found;
    try {
      found = await search({ ...filters, limit: PAGE });
    } catch (error) {
      if (!closed && mine === latest) fill(said, problem(error.message));
      return;
    }
    if (closed || mine !== latest) return;
    fill(said);
    show(found);
    if (found.studies.some(one => !["done", "failed"].includes(one.state))) timer = setTimeout(load, AGAIN);
  }

  function show({ studies, total }) {
    const focused = document.activeElement?.dataset?.key;
    if (!studies.length) {
      const any = filters.text || filters.state || filters.verdict;
      fill(rows, h("p", { class: "note" }, any ? T.list.none : T.list.first));
    } else fill(rows, list(studies));
    const to = filters.offset + studies.length;
    const turn = (text, by, off) =>
      h("button", { type: "button", disabled: off, onclick: () => filter({ offset: filters.offset + by }) }, text);
    fill(
      pages,
      h("span", {}, total ? T.list.pages(filters.offset + 1, to, total) : ""),
      total > PAGE && turn(T.list.later, -PAGE, filters.offset === 0),
      total > PAGE && turn(T.list.earlier, PAGE, to >= total),
    );
    if (focused) rows.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  function list(studies) {
    const names = ["choose", "patient", "date", "state", "verdict", "probability", "lesions", "received", "actions"];
    return h(
      "table",
      { class: "studies" },
      h("caption", { class: "unseen" }, T.studies),
      h("thead", {}, h("tr", {}, names.map(name => h("th", { scope: "col" }, columns[name])))),
      h("tbody", {}, studies.map(row)),
    );
  }

  function row(study) {
    const name = nameOf(study);
    const box = h("input", {
      type: "checkbox",
      "aria-label": T.list.chosen(name),
      "data-key": `box-${study.id}`,
      disabled: study.state !== "done" || study.lesion_ml == null,
      checked: picked.has(study.id),
      onchange: () => {
        picked[box.checked ? "add" : "delete"](study.id);
        compare.disabled = picked.size !== 2;
      },
    });
    const erase = async event => {
      event.target.disabled = true;
      try {
        if (await removeStudy(study)) {
          picked.delete(study.id);
          compare.disabled = picked.size !== 2;
          await load();
        }
      } catch (error) {
        fill(said, problem(error.message));
      } finally {
        event.target.disabled = false;
      }
    };
    const cell = (column, ...content) => h("td", { "data-label": columns[column] }, content);
    const link = h("a", { href: `#/study/${study.id}`, "data-key": `link-${study.id}` }, name || T.list.unnamed);
    return h(
      "tr",
      {},
      cell("choose", box),
      h("th", { scope: "row" }, link, study.patient.id && h("span", { class: "note" }, study.patient.id)),
      cell("date", date(study.study_date)),
      cell("state", stateOf(study)),
      cell("verdict", answerOf(study)),
      cell("probability", study.probability == null ? "–" : study.probability.toFixed(2)),
      cell("lesions", ml(study.lesion_ml)),
      cell("received", time(study.received)),
      cell(
        "actions",
        may("write") &&
          h(
            "button",
            { type: "button", "aria-label": T.list.removeOf(name), "data-key": `erase-${study.id}`, onclick: erase },
            T.list.remove,
          ),
      ),
    );
  }

  load();
  return {
    title: T.studies,
    node: h(
      "div",
      {},
      h("h1", { tabindex: "-1" }, T.studies),
      upload.node,
      h(
        "section",
        { class: "card", "aria-label": T.studies },
        h(
          "div",
          { class: "filters" },
          labelled(T.list.search, words),
          labelled(T.list.state, choice(pairs(T.states), "", event => filter({ state: event.target.value || null }))),
          labelled(
            T.list.verdict,
            choice(pairs(T.verdicts), "", event => filter({ verdict: event.target.value || null })),
          ),
          compare,
          h("span", { class: "note" }, T.list.compareHint),
        ),
        said,
        rows,
        pages,
      ),
      node.node,
    ),
    close() {
      closed = true;
      clearTimeout(timer);
      upload.close();
      node.close();
    },
  };
}

function stateOf(study) {
  const { done, total } = study.progress;
  const state = h("span", { class: `state ${study.state}` }, T.states[study.state]);
  if (study.state !== "running" || !total) return state;
  return [state, h("progress", { max: `${total}`, value: done, "aria-label": T.working(done, total) })];
}

function answerOf(study) {
  if (study.problem) return h("span", { class: "note" }, study.problem);
  if (study.divided_into) return T.list.several;
  if (study.verdict) return h("strong", { class: `verdict ${study.verdict.replaceAll(" ", "-")}` }, T.verdicts[study.verdict]);
  return study.state === "done" ? T.list.pictures(study.files) : "–";
}
