/** What can be taken home: the picture with its boxes, JSON in the API's form, CSV. */

import { paintBoxes } from "./paint.js";
import { count } from "./suppress.js";

/** The picture in its own size with `boxes` on it, as PNG; grey where the browser cannot show its format. */
export async function pictureWithBoxes(pixels, { width, height }, boxes, labels) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  if (pixels) context.drawImage(pixels, 0, 0, width, height);
  else ground(context, 0, 0, width, height);
  paintBoxes(context, boxes, { unit: Math.max(1, Math.max(width, height) / 1000), labels });
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

/** Grey in the place of a picture. */
export function ground(context, left, top, width, height) {
  context.fillStyle = "#777";
  context.fillRect(left, top, width, height);
}

/** shown: [{picture, boxes, truncated}] that were answered by one model. */
export function asJson(shown, { conf, iou }) {
  const { model, model_digest, runtime } = shown[0].picture.answer;
  const results = shown.map(({ picture, boxes, truncated }) => {
    const { width, height, timing } = picture.result;
    const counts = Object.fromEntries(count(boxes));
    return { image: picture.name, width, height, counts, truncated, boxes: boxes.map((box) => inside(box, width, height)), timing };
  });
  return `${JSON.stringify({ model, model_digest, runtime, conf, iou, results }, null, 1)}\n`;
}

/** One row a box, corners in pixels. */
export function boxesCsv(shown) {
  const rows = shown.flatMap(({ picture, boxes }) => {
    const { width, height } = picture.result;
    return boxes.map((box) => [picture.name, width, height, box.name, box.score, ...inside(box, width, height).box]);
  });
  return csv([["image", "width", "height", "class", "score", "x1", "y1", "x2", "y2"], ...rows]);
}

/** One row a picture, one column a class of the model that was found. */
export function countsCsv(shown) {
  const counts = shown.map(({ boxes }) => count(boxes));
  const names = [...new Set(counts.flatMap((one) => [...one.keys()]))].sort((a, b) => a.localeCompare(b));
  return csv([
    ["image", ...names, "total"],
    ...shown.map(({ picture, boxes }, k) => [picture.name, ...names.map((name) => counts[k].get(name) ?? 0), boxes.length]),
  ]);
}

function csv(rows) {
  return `${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** A cell as RFC 4180 has it; text that a spreadsheet would take for a formula gets an apostrophe. */
function cell(value) {
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** A box cut at the picture's edges, as the API gives it. */
export function inside(box, width, height) {
  const cut = box.box.map((value, k) => Math.min(k % 2 ? height : width, Math.max(0, value)));
  return { ...box, box: cut, box_normalised: cut.map((value, k) => value / (k % 2 ? height : width)) };
}
