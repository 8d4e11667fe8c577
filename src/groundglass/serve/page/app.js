// The frame of the page: who is signed in, which screen is shown, and its colours.

import { openSession, session, signOut } from "./api.js";
import { compareView } from "./compare.js";
import { choice, fill, h, labelled, problem } from "./dom.js";
import { listView } from "./list.js";
import { signInView } from "./sign-in.js";
import { studyView } from "./study.js";
import { T } from "./texts.js";

const THEME = "groundglass-theme";
const main = h("main", { id: "content", tabindex: "-1" });
const who = h("span", { class: "who" });
let screen = null;
let shown = 0;

/** Show light or dark colours, whatever the system prefers, by changing the style sheets' media queries. */
function colour(theme) {
  for (const sheet of document.styleSheets)
    for (const rule of sheet.cssRules) {
      if (!(rule instanceof CSSMediaRule)) continue;
      rule.query ??= rule.media.mediaText;
      if (!rule.query.includes("prefers-color-scheme: dark")) continue;
      rule.media.mediaText = { light: "not all", dark: "screen" }[theme] ?? rule.query;
    }
  document.documentElement.style.colorScheme = { light: "light", dark: "dark" }[theme] ?? "";
}

function themes() {
  let theme = "auto";
  try {
    theme = localStorage.getItem(THEME) ?? theme;
  } catch {
    // A browser without storage keeps the choice as long as the page is open.
  }
  const select = choice(Object.entries(T.themes), theme, () => {
    colour(select.value);
    try {
      localStorage.setItem(THEME, select.value);
    } catch {
      // As above.
    }
  });
  colour(theme);
  return labelled(T.theme, select);
}

const go = place => {
  if (location.hash === `#/${place}`) route();
  else location.hash = `/${place}`;
};

function show(view, focus = true) {
  screen = view;
  document.title = `${view.title} – ${T.name}`;
  fill(main, view.node);
  const first = main.querySelector("[autofocus]") ?? main.querySelector("h1");
  if (focus) first?.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function askToSignIn(message) {
  screen?.close?.();
  fill(who);
  show(signInView(begin, message));
}

async function route(focus = true) {
  const mine = ++shown;
  screen?.close?.();
  screen = null;
  if (!session.user) return;
  const [name, ...parts] = location.hash.replace(/^#\/?/, "").split("/");
  fill(main, h("p", { class: "note", role: "status" }, T.loading));
  let view;
  try {
    if (!name) view = await listView(go);
    else if (name === "study" && parts.length === 1) view = await studyView(go, parts[0]);
    else if (name === "compare" && parts.length >= 2) view = await compareView(go, ...parts);
    else view = message(T.notFound);
  } catch (error) {
    if (!session.user) return;
    view = message(error.message);
  }
  if (mine === shown) show(view, focus);
  else view.close?.();
}

function message(text) {
  return {
    title: T.name,
    node: h("div", {}, h("p", { class: "back" }, h("a", { href: "#/" }, T.back)), h("h1", { tabindex: "-1" }, T.name), problem(text)),
  };
}

async function begin() {
  try {
    await openSession();
  } catch (error) {
    if (error.status === 401) askToSignIn();
    else show({ title: T.name, node: h("div", {}, problem(error.message), h("button", { onclick: begin }, T.tryAgain)) });
    return;
  }
  const leave = async () => {
    await signOut();
    askToSignIn();
  };
  fill(who, h("span", {}, session.user), session.csrf && h("button", { type: "button", onclick: leave }, T.signOut));
  await route(false);
}

document.body.append(
  h("a", { class: "skip", href: "#content", onclick: event => (event.preventDefault(), main.focus()) }, T.skip),
  h("header", {}, h("a", { class: "name", href: "#/" }, T.name), themes(), who),
  h("p", { class: "research", role: "note" }, T.research),
  main,
);
window.addEventListener("hashchange", () => route());
window.addEventListener("signed-out", () => askToSignIn(T.signIn.ended));
begin();
