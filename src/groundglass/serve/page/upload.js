// Choosing or dropping files, and sending them.

import { may, sendFiles } from "./api.js";
import { choice, fill, h, labelled, problem } from "./dom.js";
import { T } from "./texts.js";

const CLUTTER = /^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$)/i;

const usual = path => !path.split("/").some(part => CLUTTER.test(part));

/** The files that were dropped, those in folders included, each with its path. */
async function dropped(items) {
  const entries = [...items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  const walk = async (entry, path) => {
    const name = path + entry.name;
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push({ file, name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const one of some) await walk(one, `${name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return files;
}

const chosen = input => [...input.files].map(file => ({ file, name: file.webkitRelativePath || file.name }));

// An upload continues while its user views another screen, so its state outlives the list.
let sending = null;
let arrived = null;
const state = h("div", { class: "sending", role: "status" });
window.addEventListener("beforeunload", event => sending && event.preventDefault());

/** `done` is called with the server's answer to an upload, if the list is still shown then. */
export function uploadView(bundles, done) {
  if (!may("write")) return { node: h("p", { class: "note" }, T.upload.readOnly), close() {} };
  arrived = done;
  const anonymise = h("input", { type: "checkbox", id: "anonymise" });
  const bundle = choice(bundles.map(one => [one.name, one.name]), bundles[0]?.name);

  const start = async files => {
    const wanted = files.filter(({ name }) => usual(name));
    if (!wanted.length) {
      fill(state, problem(T.upload.empty));
      return;
    }
    sending?.abort();
    const mine = (sending = new AbortController());
    const bar = h("progress", { max: "100", value: 0, "aria-label": T.upload.title });
    const text = h("p", {}, T.upload.sending(wanted.length, 0));
    fill(state, text, bar, h("button", { type: "button", onclick: () => mine.abort() }, T.cancel));
    const progress = (sent, all) => {
      bar.value = (100 * sent) / all;
      text.textContent = sent < all ? T.upload.sending(wanted.length, Math.floor(bar.value)) : T.upload.storing;
    };
    const options = { anonymise: anonymise.checked };
    if (bundle.value) options.bundle = bundle.value;
    try {
      const answer = await sendFiles(wanted, options, progress, mine.signal);
      fill(state, !arrived && h("a", { href: `#/study/${answer.id}` }, T.upload.sent));
      arrived?.(answer);
    } catch (error) {
      if (mine === sending) fill(state, problem(`${T.upload.refused}: ${error.message}`));
    } finally {
      if (mine === sending) sending = null;
    }
  };

  const picker = (text, folder) => {
    const input = h("input", {
      type: "file",
      multiple: true,
      webkitdirectory: folder,
      class: "unseen",
      tabindex: "-1",
      "aria-hidden": "true",
      "data-picker": folder ? "folder" : "files",
      onchange: () => {
        start(chosen(input));
        input.value = "";
      },
    });
    return [h("button", { type: "button", class: folder ? "" : "main", onclick: () => input.click() }, text), input];
  };

  let inside = 0;
  const over = now => node.classList.toggle("over", now);
  const carries = event => event.dataTransfer?.types.includes("Files");
  const listeners = {
    dragenter: event => carries(event) && (event.preventDefault(), over(++inside > 0)),
    dragleave: event => carries(event) && over(--inside > 0),
    dragover: event => carries(event) && event.preventDefault(),
    drop: async event => {
      if (!carries(event)) return;
      event.preventDefault();
      over(false);
      inside = 0;
      try {
        start(await dropped(event.dataTransfer.items));
      } catch {
        fill(state, problem(T.upload.empty));
      }
    },
  };
  for (const [name, listener] of Object.entries(listeners)) window.addEventListener(name, listener);

  const node = h(
    "section",
    { class: "card upload", "aria-labelledby": "upload-title" },
    h("h2", { id: "upload-title" }, T.upload.title),
    h("p", { class: "drop" }, T.upload.drop),
    h("div", { class: "buttons" }, picker(T.upload.files, false), picker(T.upload.folder, true)),
    h("p", { class: "note" }, T.upload.formats),
    h(
      "details",
      {},
      h("summary", {}, T.upload.options),
      bundles.length > 1 && labelled(T.upload.bundle, bundle),
      h("p", {}, anonymise, " ", h("label", { for: "anonymise" }, T.upload.anonymise)),
    ),
    state,
  );
  return {
    node,
    close() {
      arrived = null;
      for (const [name, listener] of Object.entries(listeners)) window.removeEventListener(name, listener);
    },
  };
}
