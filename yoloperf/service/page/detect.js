/** The page that finds objects: pictures in, boxes, counts and times out. */

import { camera } from "./camera.js";
import { Problem, announce, api, element, navigate, offer, plural, save } from "./common.js";
import { showBoxes, showCounts } from "./counts.js";
import { asJson, boxesCsv, countsCsv, ground, pictureWithBoxes } from "./files.js";
import { List, stateOf } from "./list.js";
import { bloodModel, plainModel } from "./models.js";
import { paintBoxes } from "./paint.js";
import { Queue } from "./queue.js";
import { boxesOf, listenToSettings, sentence, settings, truncated } from "./settings.js";
import { showTimes } from "./times.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);

let models = [];
let current = null; // the picture that is shown
let pixels = null; // its pixels, null where the browser cannot decode it
let chosen = null; // a box that stands out
let picked = false; // it was clicked and stays
const unseen = new Set(); // names of classes that are not drawn

const queue = new Queue(changed, connected);
const list = new List(open, removed);
const view = new View($("view"), $("canvas"), paint, point);

function done() {
  return queue.pictures.filter(({ result }) => result);
}

/* the picture */

function drawn(picture) {
  return boxesOf(picture).filter(({ name }) => !unseen.has(name));
}

function paint(context, placed) {
  const { scale, left, top } = placed;
  const [width, height] = [view.width * scale, view.height * scale];
  if (pixels) context.drawImage(pixels, left, top, width, height);
  else ground(context, left, top, width, height);
  const boxes = drawn(current);
  paintBoxes(context, boxes, { ...placed, labels: settings().labels, chosen: boxes.includes(chosen) ? chosen : null });
}

/** The smallest box under the pointer stands out; a click makes it stay. */
function point(x, y, clicked) {
  const size = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const under = drawn(current).filter(({ box: [x1, y1, x2, y2] }) => x !== null && x >= x1 && x <= x2 && y >= y1 && y <= y2);
  choose(under.sort((a, b) => size(a) - size(b))[0] ?? null, clicked);
}

function choose(box, clicked) {
  if (picked && !clicked) return;
  const again = picked && box === chosen;
  [chosen, picked] = again ? [null, false] : [box, Boolean(clicked && box)];
  for (const row of $("rows").children) row.classList.toggle("chosen", row.box === chosen);
  view.draw();
}

async function open(picture) {
  current = picture;
  [chosen, picked] = [null, false];
  pixels?.close();
  pixels = null;
  list.mark(picture);
  show();
  if (!picture) return;
  const decoded = await createImageBitmap(picture.file).catch(() => null);
  if (current !== picture) {
    decoded?.close();
    return;
  }
  pixels = decoded;
  resize();
  show();
}

function resize() {
  const size = current.result ?? pixels;
  if (size) view.open(size.width, size.height);
}

function beside(step) {
  const { pictures } = queue;
  open(pictures.at((pictures.indexOf(current) + step) % pictures.length));
}

/* everything that depends on the picture, its answer and the sliders */

function show() {
  clearTimeout(soon);
  soon = 0;
  const result = current?.result;
  const failed = current?.state === "failed";
  const seen = Boolean(pixels || result);
  const all = done();
  const facts = result ? [`${result.width} × ${result.height}`, plural(boxesOf(current).length, "object")] : [];
  if (result && truncated(current)) facts.push("there are more than the service gives");
  if (result && !pixels) facts.push("this browser cannot show the format");
  $("picture-title").textContent = current?.name ?? "No picture yet";
  $("picture-facts").textContent = facts.join(" · ");
  $("canvas").setAttribute("aria-label", result ? sentence(current) : "Picture without boxes");
  const visible = {
    canvas: seen,
    tools: seen,
    empty: !current,
    view: seen || !failed,
    before: queue.pictures.length > 1,
    after: queue.pictures.length > 1,
    waiting: current && !failed && !result,
    trouble: failed,
    again: failed && !current.hopeless,
    "count-panel": result,
    "time-panel": result,
    "save-panel": all.length,
    "all-field": all.length > 1,
  };
  for (const [id, here] of Object.entries(visible)) $(id).hidden = !here;
  $("view").classList.toggle("open", seen);
  $("waiting").textContent = current ? stateOf(current) : "";
  if (failed && $("trouble-text").textContent !== current.message) $("trouble-text").textContent = current.message;
  if (result) {
    showCounts(current, all, models.find(({ name }) => name === current.answer.model)?.classes ?? [], unseen);
    if ($("list").open) showBoxes(current, choose);
    showTimes(current);
  }
  view.draw();
}

/* the queue */

function add(files) {
  const added = queue.add(files);
  for (const picture of added) list.add(picture);
  list.showTotals();
  if (!added.length) return;
  open(added[0]);
  const { top } = $("view").getBoundingClientRect();
  if (top > 0.6 * window.innerHeight) $("stage").scrollIntoView(); // on a phone the picture is below the list
}

let soon = 0;

function changed(picture) {
  list.show(picture);
  list.showTotals();
  if (picture.state === "done") announce(sentence(picture));
  if (picture === current && picture.state === "done") resize();
  if (picture === current) show();
  else if (picture.state === "done") soon ||= setTimeout(show, 200); // the count of all takes as long as there are pictures
}

function removed(picture, next) {
  queue.remove(picture);
  if (picture === current) open(next);
  else show();
}

function clear() {
  for (const picture of queue.pictures) queue.remove(picture);
  list.clear();
  open(null);
  $("choose").focus();
}

function connected(text) {
  const waiting = queue.pictures.filter(({ state }) => state !== "done" && state !== "failed").length;
  $("connection").hidden = !text;
  $("connection").textContent = waiting ? `${text} ${plural(waiting, "picture")} waiting.` : text;
}

/* models */

function use(model) {
  $("model").value = model.name;
  $("blood").checked = model === bloodModel(models);
  const facts = [plural(model.classes.length, "class"), `${model.img_size} px`, `${model.runtime} ${model.precision}`, `weights ${model.digest}`];
  $("model-facts").textContent = facts.join(", ");
  $("print-model").textContent = `${model.name} (weights ${model.digest})`;
  queue.model = model.name;
  unseen.clear();
  queue.again();
  show();
}

async function start() {
  let known;
  try {
    known = await api("api/models");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status === 401) return offer($("connection"), problem.message, start);
    connected(problem.message);
    setTimeout(start, 3000);
    return;
  }
  connected("");
  models = known.models.filter(({ kind }) => kind === "detection");
  if (!models.length) return connected("This service has no detector.");
  queue.limit = known.max_image_bytes;
  navigate(known.training);
  $("model").replaceChildren(...models.map(({ name }) => element("option", { value: name }, name)));
  $("model").disabled = models.length < 2;
  $("blood-field").hidden = !bloodModel(models) || models.length < 2;
  const wanted = new URLSearchParams(location.search).get("model");
  use(models.find(({ name }) => name === wanted) ?? models.find((model) => model.default));
}

/* downloads */

async function keep(kind) {
  const all = $("all").checked || !current?.result;
  const pictures = all ? done() : [current];
  const shown = pictures.map((picture) => ({ picture, boxes: boxesOf(picture), truncated: truncated(picture) }));
  const stem = ({ name }) => name.replace(/\.[^.]+$/, "");
  const name = pictures.length > 1 ? "detections" : stem(pictures[0]);
  if (kind === "json") save(new Blob([asJson(shown, settings())], { type: "application/json" }), `${name}.json`);
  if (kind === "boxes") save(new Blob([boxesCsv(shown)], { type: "text/csv" }), `${name}-boxes.csv`);
  if (kind === "counts") save(new Blob([countsCsv(shown)], { type: "text/csv" }), `${name}-counts.csv`);
  if (kind !== "picture") return;
  for (const picture of pictures) {
    const decoded = await createImageBitmap(picture.file).catch(() => null);
    save(await pictureWithBoxes(decoded, picture.result, drawn(picture), settings().labels), `${stem(picture)}-boxes.png`);
    decoded?.close();
  }
}

/* what people do */

let speaking = 0;

listenToSettings(() => {
  list.showAll();
  show();
  clearTimeout(speaking);
  if (current?.result) speaking = setTimeout(() => announce(sentence(current)), 500);
});

for (const id of ["files", "capture"]) {
  $(id).addEventListener("change", () => {
    add($(id).files);
    $(id).value = "";
  });
}
document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("dropping").hidden = !event.dataTransfer.types.includes("Files");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) $("dropping").hidden = true;
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("dropping").hidden = true;
  add(event.dataTransfer.files);
});
camera(
  { button: $("camera"), capture: $("capture"), dialog: $("camera-dialog"), video: $("video"), shoot: $("shoot"), trouble: $("camera-trouble") },
  add,
);

$("model").addEventListener("change", () => use(models.find(({ name }) => name === $("model").value)));
$("blood").addEventListener("change", () => use($("blood").checked ? bloodModel(models) : plainModel(models)));
$("counts").addEventListener("change", ({ target }) => {
  if (target.checked) unseen.delete(target.value);
  else unseen.add(target.value);
  view.draw();
});
$("list").addEventListener("toggle", show);
for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => keep(button.dataset.save));
for (const [id, act] of Object.entries({
  choose: () => $("files").click(),
  again: () => queue.again([current]),
  clear,
  before: () => beside(-1),
  after: () => beside(1),
  smaller: () => view.scale(1 / 1.5),
  larger: () => view.scale(1.5),
  fit: () => view.fit(),
  print: () => window.print(),
})) {
  $(id).addEventListener("click", act);
}

start();
