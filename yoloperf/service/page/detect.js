/** The page that finds objects: pictures in, boxes, counts and times out. */

import { camera } from "./camera.js";
import { Problem, announce, api, duration, element, navigate, plural, save } from "./common.js";
import { asJson, boxesCsv, countsCsv, ground, inside, pictureWithBoxes } from "./files.js";
import { paintBoxes, styleOf } from "./paint.js";
import { Queue } from "./queue.js";
import { count, suppress } from "./suppress.js";
import { bloodModel, plainModel } from "./models.js";
import { showTimes } from "./times.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const DEFAULTS = { conf: "0.25", iou: "0.45" };

let models = [];
let current = null;
let pixels = null; // of the current picture, null where the browser cannot decode it
let chosen = null; // a box that is pointed at or picked
let picked = false;
const unseen = new Set(); // class names whose boxes are not drawn
const kept = new WeakMap(); // picture -> boxes at the sliders' values

const queue = new Queue(changed, connected);
const view = new View($("view"), $("canvas"), paint, point);

/* what is shown at the sliders' values */

function settings() {
  return { conf: Number($("conf").value), iou: Number($("iou").value) };
}

function boxesOf(picture) {
  if (!picture?.result) return [];
  const { conf, iou } = settings();
  const known = kept.get(picture);
  if (known?.conf === conf && known.iou === iou && known.answer === picture.answer) return known.boxes;
  const boxes = suppress(picture.result.boxes, conf, iou);
  kept.set(picture, { conf, iou, answer: picture.answer, boxes });
  return boxes;
}

function done() {
  return queue.pictures.filter((picture) => picture.result);
}

function sentence(picture) {
  const counts = [...count(boxesOf(picture))].map(([name, number]) => `${number} ${name}`);
  return `${picture.name}: ${counts.join(", ") || "nothing found"}`;
}

/* the picture */

function paint(context, placed) {
  const { width, height } = view;
  const { scale, left, top } = placed;
  if (pixels) context.drawImage(pixels, left, top, width * scale, height * scale);
  else ground(context, left, top, width * scale, height * scale);
  const boxes = boxesOf(current).filter(({ name }) => !unseen.has(name));
  paintBoxes(context, boxes, { ...placed, labels: $("labels").value, chosen: boxes.includes(chosen) ? chosen : null });
}

/** The smallest box under the pointer stands out; a click keeps it. */
function point(x, y, clicked) {
  if (picked && !clicked) return;
  const size = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const under = boxesOf(current)
    .filter(({ name, box: [x1, y1, x2, y2] }) => !unseen.has(name) && x !== null && x >= x1 && x <= x2 && y >= y1 && y <= y2)
    .sort((a, b) => size(a) - size(b))[0];
  choose(under ?? null, Boolean(clicked && under && !(picked && under === chosen)));
}

function choose(box, pick) {
  if (box === chosen && pick === picked) return;
  [chosen, picked] = [box, pick];
  for (const row of $("rows").children) row.classList.toggle("chosen", row.box === box);
  view.draw();
}

async function open(picture) {
  current = picture;
  choose(null, false);
  for (const row of $("queue").children) row.firstChild.toggleAttribute("aria-current", row.picture === picture);
  pixels?.close();
  pixels = null;
  showState();
  if (!picture) return;
  const decoded = await createImageBitmap(picture.file).catch(() => null);
  if (current !== picture) {
    decoded?.close();
    return;
  }
  pixels = decoded;
  const size = picture.result ?? pixels;
  if (size) view.open(size.width, size.height);
  showState();
}

function showState() {
  const picture = current;
  const failed = picture?.state === "failed";
  const seen = Boolean(pixels || picture?.result);
  $("picture-title").textContent = picture?.name ?? "No picture yet";
  $("empty").hidden = Boolean(picture);
  $("canvas").hidden = !seen;
  $("view").classList.toggle("open", seen);
  $("view").hidden = failed && !seen;
  $("tools").hidden = !seen;
  for (const id of ["before", "after"]) $(id).hidden = queue.pictures.length < 2;
  $("waiting").hidden = !picture || failed || Boolean(picture.result);
  $("waiting").textContent = picture?.state === "busy" ? picture.message : "Detecting…";
  $("trouble").hidden = !failed;
  if (failed && $("trouble-text").textContent !== picture.message) $("trouble-text").textContent = picture.message;
  showResult();
}

/* counts, boxes, times */

function showResult() {
  const result = current?.result;
  for (const id of ["count-panel", "time-panel"]) $(id).hidden = !result;
  $("save-panel").hidden = !done().length;
  $("all-field").hidden = done().length < 2;
  const boxes = boxesOf(current);
  const facts = result ? [`${result.width} × ${result.height}`, plural(boxes.length, "object")] : [];
  if (result && !pixels) facts.push("this browser cannot show the format");
  $("picture-facts").textContent = facts.join(" · ");
  $("canvas").setAttribute("aria-label", result ? sentence(current) : "Picture without boxes");
  if (result) {
    showCounts(boxes);
    if ($("list").open) showRows(boxes);
    showTimes(current);
  }
  view.draw();
}

function showCounts(boxes) {
  const here = count(boxes);
  const several = done().length > 1;
  const everywhere = several ? count(done().flatMap(boxesOf)) : here;
  const total = [...everywhere.values()].reduce((sum, number) => sum + number, 0);
  const share = (number) => (total ? `${((100 * number) / total).toFixed(1)} %` : "");
  const number = (tag, text) => element(tag, { className: "n", ...(tag === "th" && { scope: "col" }) }, String(text));
  const wide = (cell, value) => (several ? [cell("td", value)] : []);
  const titles = ["Here", ...(several ? [`All ${done().length}`] : []), "Share"];
  const table = $("counts");
  const head = element("th", { scope: "col" }, "Class");
  table.tHead.rows[0].replaceChildren(head, ...titles.map((title) => number("th", title)));
  const focused = document.activeElement?.closest("#counts tbody") && document.activeElement.value;
  const rows = [...everywhere].map(([name, all]) =>
    element("tr", {}, classCell(name), number("td", here.get(name) ?? 0), ...wide(number, all), number("td", share(all))),
  );
  if (!rows.length) rows.push(element("tr", {}, element("td", { colSpan: titles.length + 1, className: "note" }, "Nothing above this score.")));
  table.tBodies[0].replaceChildren(...rows);
  const sum = [number("td", boxes.length), ...wide(number, total), number("td", "")];
  table.tFoot.replaceChildren(element("tr", {}, element("th", { scope: "row" }, "Total"), ...sum));
  if (focused) table.querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
}

function classCell(name) {
  const input = element("input", { type: "checkbox", value: name, checked: !unseen.has(name), "aria-label": `Draw ${name}` });
  const { classes } = models.find((model) => model.name === current.answer.model) ?? { classes: [] };
  return element("th", { scope: "row" }, element("label", { className: "check" }, input, swatch(classes.indexOf(name)), element("span", {}, name)));
}

function swatch(label) {
  const { colour, dash } = styleOf(Math.max(0, label));
  const made = element("span", { className: "swatch" });
  made.style.borderColor = colour;
  made.style.borderStyle = dash.length ? (dash[0] > 3 ? "dashed" : "dotted") : "solid";
  return made;
}

function showRows(boxes) {
  const { width, height } = current.result;
  const rows = boxes.map((box) => {
    const corners = inside(box, width, height).box.map((value) => value.toFixed(0));
    const pick = element("button", { type: "button", className: "quiet" }, box.name);
    const row = element("tr", { box }, element("th", { scope: "row" }, pick), cell(box.score.toFixed(3)), cell(corners.join(", ")));
    pick.addEventListener("click", () => choose(chosen === box && picked ? null : box, !(chosen === box && picked)));
    pick.addEventListener("focus", () => picked || choose(box, false));
    row.addEventListener("pointerenter", () => picked || choose(box, false));
    row.addEventListener("pointerleave", () => picked || choose(null, false));
    return row;
  });
  $("rows").replaceChildren(...rows);
}

function cell(text) {
  return element("td", { className: "n" }, text);
}

/* the queue */

function add(files) {
  const added = queue.add(files);
  for (const picture of added) $("queue").append(rowOf(picture));
  showWork();
  if (added.length) open(added[0]);
}

function rowOf(picture) {
  const thumb = element("canvas", { width: 88, height: 66, className: "thumb", "aria-hidden": "true" });
  const state = element("span", { className: "note state" }, "Waiting");
  const pick = element("button", { type: "button", className: "pick" }, thumb, element("span", { className: "name" }, picture.name), state);
  const away = element("button", { type: "button", className: "quiet away", "aria-label": `Remove ${picture.name}` }, "×");
  const row = element("li", { picture }, pick, away);
  pick.addEventListener("click", () => open(picture));
  away.addEventListener("click", () => remove(row));
  thumbnails = thumbnails.then(() => drawThumb(picture, thumb));
  return row;
}

let thumbnails = Promise.resolve(); // one after another: a hundred decoded photographs are a lot of memory

async function drawThumb(picture, canvas) {
  const small = await createImageBitmap(picture.file, { resizeHeight: 132, resizeQuality: "medium" }).catch(() => null);
  if (!small) return;
  const scale = Math.max(canvas.width / small.width, canvas.height / small.height);
  const [wide, high] = [small.width * scale, small.height * scale];
  canvas.getContext("2d").drawImage(small, (canvas.width - wide) / 2, (canvas.height - high) / 2, wide, high);
  small.close();
}

function remove(row) {
  const next = row.nextElementSibling ?? row.previousElementSibling;
  queue.remove(row.picture);
  row.remove();
  if (current === row.picture) open(next?.picture ?? null);
  (next?.firstChild ?? $("choose")).focus();
  showWork();
  showState();
}

const STATES = { waiting: "Waiting", sending: "Detecting…" };

function changed(picture) {
  const row = [...$("queue").children].find((one) => one.picture === picture);
  if (!row) return;
  showRowState(row);
  showWork();
  if (picture.state === "done") announce(sentence(picture));
  if (picture.state === "done" && picture === current) view.open(picture.result.width, picture.result.height);
  if (picture === current) showState();
  else if (picture.state === "done") showResult();
}

function showRowState(row) {
  const { picture } = row;
  row.className = picture.state;
  const found = () => plural(boxesOf(picture).length, "object");
  row.querySelector(".state").textContent = picture.state === "done" ? found() : (STATES[picture.state] ?? picture.message);
}

function showWork() {
  const all = queue.pictures.length;
  const ended = queue.pictures.filter(({ state }) => state === "done" || state === "failed").length;
  const failed = queue.pictures.filter(({ state }) => state === "failed").length;
  $("clear").hidden = !all;
  $("work").hidden = all < 2;
  $("work-bar").value = all ? ended / all : 0;
  $("work-bar").hidden = ended === all;
  $("work-text").textContent = `${ended} of ${plural(all, "picture")} done${failed ? `, ${failed} failed` : ""}`;
}

function connected(text) {
  const waiting = queue.pictures.filter(({ state }) => state === "waiting").length;
  $("connection").hidden = !text;
  $("connection").textContent = text ? `${text} ${plural(waiting, "picture")} waiting.` : "";
}

/* controls */

let speaking = 0;

function slide() {
  for (const id of ["conf", "iou"]) $(`${id}-value`).textContent = Number($(id).value).toFixed(2);
  for (const id of ["conf", "iou"]) $(`print-${id}`).textContent = $(id).value;
  for (const row of $("queue").children) if (row.picture.state === "done") showRowState(row);
  showResult();
  clearTimeout(speaking);
  if (current?.result) speaking = setTimeout(() => announce(sentence(current)), 500);
}

function use(model) {
  $("model").value = model.name;
  $("blood").checked = model === bloodModel(models);
  $("model-facts").textContent = [
    plural(model.classes.length, "class").replace(/ss?s$/, model.classes.length === 1 ? "ss" : "sses"),
    `${model.img_size} px`,
    `${model.runtime} ${model.precision}`,
    `weights ${model.digest}`,
  ].join(" · ");
  $("print-model").textContent = `${model.name} (${model.digest})`;
  queue.model = model.name;
  unseen.clear();
  queue.again();
  showWork();
  showState();
}

async function start() {
  let known;
  try {
    known = await api("api/models");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    $("connection").hidden = false;
    $("connection").textContent = problem.message;
    setTimeout(start, 3000);
    return;
  }
  connected("");
  models = known.models;
  queue.limit = known.limits?.image_bytes ?? Infinity;
  navigate(known.training);
  $("model").replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  $("model").disabled = models.length < 2;
  $("blood-field").hidden = !bloodModel(models) || models.length < 2;
  const asked = new URLSearchParams(location.search).get("model"); // the link of a training run
  use(models.find(({ name }) => name === asked) ?? models.find((model) => model.default) ?? models[0]);
}

async function keep(kind) {
  const all = $("all").checked && !$("all-field").hidden;
  const pictures = all || !current?.result ? done() : [current];
  const shown = pictures.map((picture) => ({ picture, boxes: boxesOf(picture) }));
  const stem = pictures.length > 1 ? "detections" : pictures[0].name.replace(/\.[^.]+$/, "");
  if (kind === "json") save(new Blob([asJson(shown, settings())], { type: "application/json" }), `${stem}.json`);
  if (kind === "boxes") save(new Blob([boxesCsv(shown)], { type: "text/csv" }), `${stem}-boxes.csv`);
  if (kind === "counts") save(new Blob([countsCsv(shown)], { type: "text/csv" }), `${stem}-counts.csv`);
  if (kind !== "picture") return;
  for (const { picture, boxes } of shown) {
    const decoded = await createImageBitmap(picture.file).catch(() => null);
    const drawn = boxes.filter(({ name }) => !unseen.has(name));
    save(await pictureWithBoxes(decoded, picture.result, drawn, $("labels").value), `${picture.name.replace(/\.[^.]+$/, "")}-boxes.png`);
    decoded?.close();
  }
}

function beside(step) {
  const at = queue.pictures.indexOf(current);
  open(queue.pictures.at((at + step) % queue.pictures.length));
}

function listen() {
  $("choose").addEventListener("click", () => $("files").click());
  for (const id of ["files", "capture"]) {
    $(id).addEventListener("change", () => {
      add($(id).files);
      $(id).value = "";
    });
  }
  camera(
    { button: $("camera"), capture: $("capture"), dialog: $("camera-dialog"), video: $("video"), shoot: $("shoot"), trouble: $("camera-trouble") },
    add,
  );
  document.addEventListener("paste", (event) => event.clipboardData.files.length && add(event.clipboardData.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("dropping").hidden = !event.dataTransfer.types.includes("Files");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || ($("dropping").hidden = true));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("dropping").hidden = true;
    add(event.dataTransfer.files);
  });
  for (const id of ["conf", "iou"]) $(id).addEventListener("input", slide);
  $("reset").addEventListener("click", () => {
    for (const [id, value] of Object.entries(DEFAULTS)) $(id).value = value;
    $("labels").value = "score";
    slide();
  });
  $("labels").addEventListener("change", () => view.draw());
  $("model").addEventListener("change", () => use(models.find(({ name }) => name === $("model").value)));
  $("blood").addEventListener("change", () => use($("blood").checked ? bloodModel(models) : plainModel(models)));
  $("counts").addEventListener("change", ({ target }) => {
    unseen[target.checked ? "delete" : "add"](target.value);
    view.draw();
  });
  $("list").addEventListener("toggle", showResult);
  $("again").addEventListener("click", () => queue.again([current]));
  $("clear").addEventListener("click", () => {
    for (const picture of queue.pictures) queue.remove(picture);
    $("queue").replaceChildren();
    open(null);
    showWork();
    $("choose").focus();
  });
  $("before").addEventListener("click", () => beside(-1));
  $("after").addEventListener("click", () => beside(1));
  $("smaller").addEventListener("click", () => view.scale(1 / 1.5));
  $("larger").addEventListener("click", () => view.scale(1.5));
  $("fit").addEventListener("click", () => view.fit());
  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => keep(button.dataset.save));
  $("print").addEventListener("click", () => window.print());
  $("queue").addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("li")[step];
    if (!row) return;
    event.preventDefault();
    row.firstChild.focus();
    open(row.picture);
  });
}

listen();
slide();
start();
