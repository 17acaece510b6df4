/** The sliders, and the boxes that they leave. */

import { count, suppress } from "./suppress.js";

const $ = (id) => document.getElementById(id);
const DEFAULTS = { conf: "0.25", iou: "0.45", labels: "score" };

const kept = new WeakMap(); // answer -> its boxes at the sliders' values

export function settings() {
  return { conf: Number($("conf").value), iou: Number($("iou").value), labels: $("labels").value };
}

/** Boxes of a picture at the sliders' values, best first; none without an answer. */
export function boxesOf(picture) {
  if (!picture?.result) return [];
  const { conf, iou } = settings();
  const known = kept.get(picture.answer);
  if (known?.conf === conf && known.iou === iou) return known.boxes;
  const boxes = suppress(picture.result.boxes, conf, iou);
  kept.set(picture.answer, { conf, iou, boxes });
  return boxes;
}

/** Whether the service left boxes out that belong to these: it gives the best ones. */
export function truncated({ result }) {
  return result.truncated && result.boxes.at(-1).score > settings().conf;
}

/** "a.jpg: 3 RBC, 1 WBC". */
export function sentence(picture) {
  const counts = [...count(boxesOf(picture))].map(([name, number]) => `${number} ${name}`);
  return `${picture.name}: ${counts.join(", ") || "nothing found"}`;
}

/** `changed()` at every movement. */
export function listenToSettings(changed) {
  const show = () => {
    for (const id of ["conf", "iou"]) for (const text of [$(`${id}-value`), $(`print-${id}`)]) text.textContent = Number($(id).value).toFixed(2);
    changed();
  };
  for (const id of Object.keys(DEFAULTS)) $(id).addEventListener("input", show);
  $("reset").addEventListener("click", () => {
    for (const [id, value] of Object.entries(DEFAULTS)) $(id).value = value;
    show();
  });
  show(); // a browser may have restored other values
}
