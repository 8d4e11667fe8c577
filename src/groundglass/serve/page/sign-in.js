// Signing in with a token.

import { signIn } from "./api.js";
import { h, labelled, problem } from "./dom.js";
import { T } from "./texts.js";

export function signInView(done, message) {
  const token = h("input", {
    type: "password",
    name: "token",
    autocomplete: "current-password",
    required: true,
    autofocus: true,
    spellcheck: "false",
  });
  const said = h("div", { "aria-live": "polite" }, message && h("p", {}, message));
  const submit = async event => {
    event.preventDefault();
    try {
      await signIn(token.value.trim());
    } catch (error) {
      said.replaceChildren(problem(error.message));
      token.select();
      return;
    }
    done();
  };
  return {
    title: T.signIn.title,
    node: h(
      "form",
      { class: "card sign-in", onsubmit: submit },
      h("h1", {}, T.signIn.title),
      said,
      labelled(T.signIn.token, token),
      h("p", { class: "note" }, T.signIn.hint),
      h("button", { class: "main" }, T.signIn.button),
    ),
  };
}
