/** What every page of the service shares: elements, calls to the API, the links between pages, words for people. */

export const root = new URL("..", import.meta.url);

/** `element("p", {className: "note", hidden: true}, "text", child)`; names with a dash become attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** An answer other than 2xx (`status`), or none at all (`status` 0): `message` is for people. */
export class Problem extends Error {
  constructor(status, code, message, retryAfter = null) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }

  get busy() {
    return this.status === 429 || this.status === 503;
  }

  get unreachable() {
    return this.status === 0;
  }
}

const TOKEN = "yoloperf-token";

/** Say at `place` what is wrong, with a button that tries `again`. */
export function offer(place, text, again) {
  const act = () => {
    place.hidden = true;
    again();
  };
  place.replaceChildren(element("p", {}, text), element("button", { type: "button", onclick: act }, "Try again"));
  place.hidden = false;
}

/** `fetch` below the service's address, with the token where one was given. Raises Problem. */
export async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = new Headers(options.headers);
    try {
      if (token) headers.set("Authorization", `Bearer ${token}`);
    } catch {
      sessionStorage.removeItem(TOKEN); // a character that no header holds
      if (await askForToken(true)) continue;
      throw new Problem(401, "token", "This service asks for a token.");
    }
    let response;
    try {
      response = await fetch(new URL(path, root), { ...options, headers });
    } catch (reason) {
      if (reason.name === "AbortError") throw reason;
      throw new Problem(0, "unreachable", "No connection to the server. Check the network; the work goes on when it is back.");
    }
    if (response.ok) return response;
    if (response.status === 401 && (await askForToken(Boolean(token)))) continue;
    throw await problem(response);
  }
}

/** The JSON of an answer; `body` is sent as JSON by POST. */
export async function api(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return (await request(path, options)).json();
}

async function problem(response) {
  const wait = Number.parseFloat(response.headers.get("Retry-After"));
  const said = await response.json().catch(() => null);
  const { code = "unexpected", message = `The server answered ${response.status} ${response.statusText}.` } = said?.error ?? {};
  return new Problem(response.status, code, message, Number.isFinite(wait) ? wait : null);
}

let asking = null;

/** One question at a time, whoever needs the answer. True when a token was entered. */
function askForToken(refused) {
  asking ??= new Promise((answer) => {
    const input = element("input", { type: "password", required: true, autocomplete: "current-password", name: "token" });
    const form = element(
      "form",
      { method: "dialog" },
      element("h2", {}, "Access token"),
      element("p", { className: refused ? "message error" : "note" }, refused ? "This token was refused." : "This service asks for a token."),
      element("label", { className: "field" }, element("span", {}, "Token"), input),
      element(
        "div",
        { className: "actions" },
        element("button", { className: "primary", value: "use" }, "Continue"),
        element("button", { value: "cancel", formNoValidate: true }, "Cancel"),
      ),
    );
    const dialog = element("dialog", { "aria-label": "Access token" }, form);
    document.body.append(dialog);
    dialog.addEventListener("close", () => {
      const entered = dialog.returnValue === "use";
      if (entered) sessionStorage.setItem(TOKEN, input.value.trim());
      dialog.remove();
      asking = null;
      answer(entered);
    });
    dialog.showModal();
  });
  return asking;
}

/** 0.0123 -> "12.3 ms", 2.5 -> "2.50 s". */
export function duration(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const ms = seconds * 1000;
  return `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
}

/** "1 picture", "3 pictures". */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

/** Say something to a screen reader without moving the focus. */
export function announce(text) {
  let region = document.getElementById("said");
  if (!region) {
    region = element("p", { id: "said", className: "unseen", role: "status", "aria-live": "polite" });
    document.body.append(region);
  }
  region.textContent = text;
}

/** Hand a Blob to the person as a file. */
export function save(blob, name) {
  const href = URL.createObjectURL(blob);
  const link = element("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

const PAGES = [
  ["Detect", "", false],
  ["Training", "training", true],
  ["Runs", "runs", true],
];

/** Fill `<nav id="pages">`; pages of training exist only where the service allows it. */
export function navigate(training) {
  const here = location.pathname.replace(/index\.html$/, "");
  const links = PAGES.filter(([, , trains]) => training || !trains).map(([title, path]) => {
    const href = new URL(path, root).pathname;
    return element("a", here === href ? { href, "aria-current": "page" } : { href }, title);
  });
  document.getElementById("pages").replaceChildren(...(links.length > 1 ? links : []));
}
