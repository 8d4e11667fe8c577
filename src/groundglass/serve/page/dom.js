// Elements, dates and dialogs.

import { T } from "./texts.js";

const kept = children => children.flat(Infinity).filter(child => child != null && child !== false && child !== "");

/** An element; `properties` are attributes, and listeners such as `onclick`; null and false leave one out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...kept(children));
  return element;
}

/** Replace an element's content. */
export function fill(element, ...children) {
  element.replaceChildren(...kept(children));
  return element;
}

let count = 0;

/** A control with its label before it. */
export function labelled(text, control) {
  control.id ||= `control-${++count}`;
  return h("span", { class: "field" }, h("label", { for: control.id }, text), control);
}

/** A selection; `options` are pairs of value and text. */
export function choice(options, value, onchange) {
  const select = h("select", { onchange }, options.map(([key, text]) => h("option", { value: key }, text)));
  select.value = value;
  return select;
}

/** A table; the first cell of each row is its heading. */
export function table(caption, header, rows) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, header.map(text => h("th", { scope: "col" }, text)))),
      h(
        "tbody",
        {},
        rows.map(({ cells, inner }) =>
          h(
            "tr",
            { class: inner && "inner" },
            cells.map((cell, place) => h(place ? "td" : "th", place ? {} : { scope: "row" }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** A list of warnings under a heading. */
export function notes(title, lines, kind = "warnings") {
  if (!lines.length) return null;
  return h(
    "div",
    { class: kind },
    h("h3", {}, title),
    h("ul", {}, lines.map(line => h("li", {}, sentence(line)))),
  );
}

/** A text with a capital letter and a full stop. */
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export function problem(text) {
  return h("p", { class: "problem", role: "alert" }, text);
}

const dates = new Intl.DateTimeFormat(T.language, { dateStyle: "medium" });
const times = new Intl.DateTimeFormat(T.language, { dateStyle: "medium", timeStyle: "short" });

export function time(iso) {
  return iso ? times.format(new Date(iso)) : "–";
}

/** DICOM's date, such as 20261130. */
export function date(text) {
  const parts = /^(\d{4})(\d\d)(\d\d)$/.exec(text ?? "");
  if (!parts) return text || "–";
  return dates.format(new Date(+parts[1], parts[2] - 1, +parts[3]));
}

/** The patient's name as people write it, or id; "" if there is neither. */
export function nameOf(study) {
  const name = (study.patient.name ?? "").split("=")[0].split("^").filter(Boolean);
  return [name.slice(0, 2).join(", "), ...name.slice(2)].join(" ") || study.patient.id || "";
}

/** Ask for confirmation before something that cannot be undone; resolves to the answer. */
export function confirmed(title, text, button) {
  return new Promise(resolve => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "dialog-title", onclose: () => (dialog.remove(), resolve(dialog.returnValue === "yes")) },
      h("h2", { id: "dialog-title" }, title),
      h("p", {}, text),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", autofocus: true, onclick: () => dialog.close("") }, T.cancel),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, button),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}
