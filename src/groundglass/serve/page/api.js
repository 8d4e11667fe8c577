// The server's API.

import { T } from "./texts.js";

const BASE = "/api/v1";
export const session = { user: null, scopes: [], csrf: null };
export const may = scope => session.scopes.includes(scope);

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

const pause = seconds => new Promise(resolve => setTimeout(resolve, 1000 * seconds));

/** Send a request; one that changes nothing is repeated after a pause if there were too many requests. */
async function send(path, options = {}, attempts = 3) {
  const headers = { ...options.headers };
  if (session.csrf && options.method) headers["X-CSRF-Token"] = session.csrf;
  let answer;
  try {
    answer = await fetch(BASE + path, { ...options, headers, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, T.noConnection);
  }
  if (answer.ok) return answer;
  if (answer.status === 429 && !options.method && attempts > 1) {
    await pause(+answer.headers.get("Retry-After") || 1);
    return send(path, options, attempts - 1);
  }
  throw failed(answer.status, await answer.text());
}

function failed(status, body) {
  let detail = "";
  try {
    detail = JSON.parse(body).detail;
  } catch {
    detail = `${status}`;
  }
  if (status === 401 && session.user) {
    session.user = null;
    window.dispatchEvent(new Event("signed-out"));
  }
  return new ApiError(status, detail);
}

export const get = async path => (await send(path)).json();
export const bytes = async (path, options) => (await send(path, options)).arrayBuffer();

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await send(path, { method: "POST", headers, body: JSON.stringify(body ?? {}) });
  return answer.json();
}

export const remove = path => send(path, { method: "DELETE" });
export const search = what => post("/search", what);
export const resultOf = (study, name) => `${BASE}/studies/${study}/results/${name}`;
export const viewOf = (study, name) => `/studies/${study}/view/${name}`;
export const pictureOf = (study, name) => BASE + viewOf(study, name);

export async function openSession() {
  Object.assign(session, await get("/session"));
}

export async function signIn(token) {
  Object.assign(session, await post("/session", { token }));
}

export async function signOut() {
  await remove("/session");
  Object.assign(session, { user: null, scopes: [], csrf: null });
}

/** Send files; `progress` is called with the bytes that were sent and all bytes. `signal` stops it. */
export function sendFiles(files, options, progress, signal) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const { file, name } of files) form.append("files", file, name);
    const request = new XMLHttpRequest();
    request.open("POST", `${BASE}/studies?${new URLSearchParams(options)}`);
    if (session.csrf) request.setRequestHeader("X-CSRF-Token", session.csrf);
    request.upload.onprogress = event => progress(event.loaded, event.total);
    request.onload = () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else reject(failed(request.status, request.responseText));
    };
    request.onerror = () => reject(new ApiError(0, T.noConnection));
    request.onabort = () => reject(new ApiError(0, T.upload.stopped));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Follow a study until it is done or has failed; `lost` is called if that is impossible. Returns what stops it. */
export function follow(study, seen, lost) {
  const source = new EventSource(`${BASE}/studies/${study}/events`);
  source.addEventListener("study", event => {
    const now = JSON.parse(event.data);
    if (now.state === "done" || now.state === "failed") source.close();
    seen(now);
  });
  source.addEventListener("error", () => source.readyState === EventSource.CLOSED && lost());
  return () => source.close();
}
