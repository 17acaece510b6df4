/** The list of pictures: thumbnails, what has become of each, and how far all are. */

import { element, plural } from "./common.js";
import { boxesOf } from "./settings.js";

const $ = (id) => document.getElementById(id);
const STATES = { waiting: "Waiting", sending: "Detecting…" };

export class List {
  /** `open(picture)` when one is picked, `remove(picture, next)` when one is dropped from the list. */
  constructor(open, remove) {
    Object.assign(this, { open, remove, rows: new Map(), tally: {}, drawn: Promise.resolve() });
    $("queue").addEventListener("keydown", (event) => this.key(event));
  }

  add(picture) {
    const thumb = element("canvas", { width: 88, height: 66, className: "thumb", "aria-hidden": "true" });
    const state = element("span", { className: "note state" }, stateOf(picture));
    const name = element("span", { className: "name", title: picture.name }, picture.name);
    const pick = element("button", { type: "button", className: "pick" }, thumb, name, state);
    const away = element("button", { type: "button", className: "quiet away", "aria-label": `Remove ${picture.name}` }, "×");
    const row = element("li", { picture, className: picture.state }, pick, away);
    pick.addEventListener("click", () => this.open(picture));
    away.addEventListener("click", () => this.drop(row));
    this.rows.set(picture, row);
    this.tally[row.className] = (this.tally[row.className] ?? 0) + 1;
    $("queue").append(row);
    this.drawn = this.drawn.then(() => drawThumb(picture, thumb)); // in turn: many decoded photographs are a lot of memory
  }

  drop(row) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    this.rows.delete(row.picture);
    this.tally[row.className] -= 1;
    row.remove();
    this.showTotals();
    (next?.firstChild ?? $("choose")).focus();
    this.remove(row.picture, next?.picture ?? null);
  }

  clear() {
    this.rows.clear();
    this.tally = {};
    $("queue").replaceChildren();
    this.showTotals();
  }

  mark(current) {
    for (const [picture, row] of this.rows) {
      if (picture === current) row.firstChild.setAttribute("aria-current", "true");
      else row.firstChild.removeAttribute("aria-current");
    }
    const row = this.rows.get(current);
    if (row) keepInSight($("queue"), row);
  }

  /** Write what has become of a picture: that row alone, since thousands may be in the list. */
  show(picture) {
    const row = this.rows.get(picture);
    if (!row) return;
    if (row.className !== picture.state) {
      this.tally[row.className] -= 1;
      this.tally[picture.state] = (this.tally[picture.state] ?? 0) + 1;
      row.className = picture.state;
    }
    row.querySelector(".state").textContent = stateOf(picture);
  }

  showAll() {
    for (const picture of this.rows.keys()) this.show(picture);
  }

  showTotals() {
    const all = this.rows.size;
    const { done = 0, failed = 0 } = this.tally;
    $("clear").hidden = !all;
    $("work").hidden = all < 2;
    $("work-bar").value = all ? (done + failed) / all : 0;
    $("work-bar").hidden = done + failed === all;
    $("work-text").textContent = `${done} of ${plural(all, "picture")} done${failed ? `, ${failed} failed` : ""}`;
  }

  key(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("li")[step];
    if (!row) return;
    event.preventDefault();
    row.firstChild.focus();
    this.open(row.picture);
  }
}

export function stateOf(picture) {
  if (picture.state === "done") return plural(boxesOf(picture).length, "object");
  return STATES[picture.state] ?? picture.message;
}

/** Scroll a list, and nothing around it, until a row is seen. */
function keepInSight(list, row) {
  const [top, bottom] = [row.offsetTop - list.offsetTop, row.offsetTop - list.offsetTop + row.offsetHeight];
  if (top < list.scrollTop) list.scrollTop = top;
  else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
}

async function drawThumb(picture, canvas) {
  const small = await createImageBitmap(picture.file, { resizeHeight: 132, resizeQuality: "medium" }).catch(() => null);
  if (!small) return;
  const scale = Math.max(canvas.width / small.width, canvas.height / small.height);
  const [wide, high] = [small.width * scale, small.height * scale];
  canvas.getContext("2d").drawImage(small, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
  small.close();
}
