/** Pictures on their way to the server: a few at a time, again when it is busy, on when the network is back. */

import { Problem, request } from "./common.js";

const AT_ONCE = 3;
const TRIES = 6;
const ASKED = { conf: "0.05", iou: "1", max_boxes: "4096", clip: "false" }; // everything: the page suppresses and cuts by itself

let numbered = 0;

/** A picture: `state` waiting, sending, busy, done or failed; `hopeless` when asking again would give the same. */
export class Picture {
  constructor(file, name) {
    Object.assign(this, { id: ++numbered, file, name, state: "waiting", message: "", hopeless: false, tries: 0, answer: null, elapsed: 0 });
  }

  get result() {
    return this.answer?.results[0] ?? null;
  }
}

export class Queue {
  /** `changed(picture)` after every step; `connected(text)` with what is wrong with the connection, "" when nothing is. */
  constructor(changed, connected) {
    Object.assign(this, { changed, connected, pictures: [], model: "", running: new Map(), notBefore: 0, down: false, limit: Infinity });
    window.addEventListener("online", () => this.probe());
  }

  add(files) {
    const taken = new Set(this.pictures.map(({ name }) => name));
    const added = [...files].map((file) => new Picture(file, distinct(file.name, taken)));
    this.pictures.push(...added);
    this.pump();
    return added;
  }

  remove(picture) {
    this.running.get(picture)?.abort();
    this.pictures = this.pictures.filter((other) => other !== picture);
  }

  /** Ask again about one picture, or with another model about all. */
  again(pictures = this.pictures) {
    for (const picture of pictures) {
      this.running.get(picture)?.abort();
      this.running.delete(picture);
      Object.assign(picture, { tries: 0, answer: null });
      this.step(picture, "waiting");
    }
    this.pump();
  }

  step(picture, state, message = "") {
    Object.assign(picture, { state, message });
    this.changed(picture);
  }

  pump() {
    if (this.down || !this.model) return;
    const wait = this.notBefore - performance.now();
    if (wait > 0) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.pump(), wait);
      return;
    }
    for (const picture of this.pictures) {
      if (this.running.size >= AT_ONCE) return;
      if ((picture.state === "waiting" || picture.state === "busy") && !this.running.has(picture)) this.send(picture);
    }
  }

  async send(picture) {
    const abort = new AbortController();
    this.running.set(picture, abort);
    picture.tries += 1;
    this.step(picture, "sending");
    try {
      await this.ask(picture, abort.signal);
      this.step(picture, "done");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      await this.failed(picture, problem);
    } finally {
      if (this.running.get(picture) === abort) this.running.delete(picture);
      this.pump();
    }
  }

  async ask(picture, signal) {
    if (picture.file.size > this.limit) {
      throw new Problem(413, "too-large", `The file has ${megabytes(picture.file.size)}, the server takes ${megabytes(this.limit)} at most. Send a smaller one.`);
    }
    const body = new FormData();
    body.append("image", picture.file, picture.name);
    for (const [name, value] of Object.entries({ ...ASKED, model: this.model })) body.append(name, value);
    const start = performance.now();
    const response = await request("api/detect", { method: "POST", body, signal });
    const answer = await response.json();
    Object.assign(picture, { answer, elapsed: (performance.now() - start) / 1000 });
  }

  async failed(picture, problem) {
    if (problem.busy && picture.tries < TRIES) {
      const wait = problem.retryAfter ?? 1.5 ** picture.tries;
      this.notBefore = Math.max(this.notBefore, performance.now() + wait * 1000);
      this.step(picture, "busy", `Server busy, again in ${Math.ceil(wait)} s (${picture.tries} of ${TRIES})`);
    } else if (problem.unreachable && !(await readable(picture.file))) {
      picture.hopeless = true;
      this.step(picture, "failed", "The file changed or cannot be read: choose it again.");
    } else if (problem.unreachable && !(await this.alive())) {
      this.step(picture, "waiting");
      if (!this.down) this.lose(problem.message);
    } else if (problem.unreachable && picture.tries < TRIES) {
      this.notBefore = Math.max(this.notBefore, performance.now() + 1000 * 1.5 ** picture.tries);
      this.step(picture, "waiting"); // a busy server may hang up on a body that it will not read
    } else {
      picture.hopeless = problem.status >= 400 && problem.status < 500 && problem.status !== 401 && !problem.busy;
      this.step(picture, "failed", problem.unreachable ? "The connection broke whenever this file was sent." : sentence(problem.message));
    }
  }

  lose(message) {
    this.down = true;
    this.connected(message);
    setTimeout(() => this.probe(), 2000);
  }

  async probe() {
    if (!this.down) return;
    if (!(await this.alive())) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.probe(), 2000);
      return;
    }
    this.down = false;
    for (const picture of this.pictures) if (picture.state === "waiting") picture.tries = 0;
    this.connected("");
    this.pump();
  }

  alive() {
    return request("healthz", { cache: "no-store" }).then(
      () => true,
      (problem) => !problem.unreachable,
    );
  }
}

/** `name`, numbered where it is in `taken`, which gets it: files and tables tell pictures apart by their names. */
function distinct(name, taken) {
  const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name);
  let one = name;
  for (let number = 2; taken.has(one); number += 1) one = `${stem} (${number})${suffix ?? ""}`;
  taken.add(one);
  return one;
}

/** Browsers refuse a file that was saved anew after it was chosen, and `fetch` does not say that this was it. */
function readable(file) {
  return file.slice(0, 1).arrayBuffer().then(
    () => true,
    () => false,
  );
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, ".");
}

function megabytes(bytes) {
  return `${Number((bytes / 1e6).toPrecision(2))} MB`;
}
