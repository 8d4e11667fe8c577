// The DICOM node: what it received, and where the results went.

import { get, may, post } from "./api.js";
import { choice, fill, h, labelled, nameOf, problem, sentence, table, time } from "./dom.js";
import { T } from "./texts.js";

const AGAIN = 2000;
const SHOWN = 20;

/** The panel; it stays empty if the server has no node. */
export function nodePanel() {
  const summary = h("summary", {});
  const rows = h("div", {});
  const said = h("div", { "aria-live": "polite" });
  const states = choice([["", T.list.all], ...Object.entries(T.node.states)], "", () => load());
  const uid = h("input", { type: "text", required: true, pattern: "[0-9.]{1,64}", autocomplete: "off", spellcheck: "false" });
  const peers = h("select", {});
  const told = h("div", { "aria-live": "polite" });
  const asking = h(
    "form",
    { class: "filters", hidden: true, onsubmit: ask },
    labelled(T.node.uid, uid),
    labelled(T.node.from, peers),
    h("button", {}, T.node.fetch),
  );
  const details = h("details", {}, summary, h("div", { class: "filters" }, labelled(T.node.show, states)), said, rows, asking, told);
  const node = h("section", { class: "card", "aria-label": T.node.title, hidden: true }, details);
  let timer = 0;
  let shown = "";
  let closed = false;

  async function load() {
    clearTimeout(timer);
    try {
      const filter = states.value && `&state=${states.value}`;
      const found = await get(`/dicom?limit=${SHOWN}${filter}`);
      if (closed || !found.ae_title) return;
      node.hidden = false;
      fill(said);
      timer = setTimeout(load, AGAIN);
      if (JSON.stringify(found) === shown) return; // so that the focus stays where it is
      shown = JSON.stringify(found);
      summary.textContent = T.node.summary(found);
      if (asking.hidden && may("write") && found.peers.length) {
        fill(peers, found.peers.map(name => h("option", {}, name)));
        asking.hidden = false;
      }
      fill(rows, found.examinations.length ? list(found.examinations) : h("p", { class: "note" }, T.node.none));
    } catch (error) {
      if (closed) return;
      fill(said, problem(error.message));
      timer = setTimeout(load, AGAIN);
    }
  }

  async function ask(event) {
    event.preventDefault();
    const { submitter } = event;
    submitter.disabled = true;
    fill(told);
    try {
      await post("/dicom/fetch", { peer: peers.value, study: uid.value });
      fill(told, h("p", { class: "note" }, T.node.fetched));
      uid.value = "";
    } catch (error) {
      fill(told, problem(error.message));
    }
    submitter.disabled = false;
  }

  const list = examinations =>
    table(
      T.node.title,
      T.node.columns,
      examinations.map(one => ({ cells: [name(one), one.caller, received(one), state(one), sent(one)] })),
    );

  function name(one) {
    if (!one.study) return T.node.unknown;
    return h("a", { href: `#/study/${one.study}` }, (one.patient && nameOf(one)) || T.list.unnamed);
  }

  const received = one => [
    `${one.instances}`,
    Object.entries(one.left_out).map(([reason, count]) => h("div", { class: "note" }, T.node.leftOut(count, reason))),
    h("div", { class: "note" }, time(one.last)),
  ];

  const state = one => [
    h("span", { class: `state ${{ sent: "done", answered: "done", failed: "failed" }[one.state] ?? "queued"}` }, T.node.states[one.state]),
    one.problem && h("div", { class: "note" }, sentence(one.problem)),
  ];

  const sent = one => one.deliveries.map(delivery => h("div", {}, line(delivery), again(one, delivery)));

  const line = ({ destination, state, attempts, problem }) => [
    T.node.delivery(destination, T.node.states[state]),
    problem && h("div", { class: "note" }, T.node.reason(problem, attempts)),
  ];

  function again(one, { destination, state }) {
    if (!may("write") || state === "waiting") return null;
    const resend = async event => {
      event.target.disabled = true;
      try {
        await post(`/studies/${one.study}/send?destination=${encodeURIComponent(destination)}`);
        await load();
      } catch (error) {
        fill(said, problem(error.message));
        event.target.disabled = false;
      }
    };
    const label = T.node.resendTo(nameOf(one), destination);
    return h("button", { type: "button", "aria-label": label, onclick: resend }, T.node.resend);
  }

  load();
  return {
    node,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
