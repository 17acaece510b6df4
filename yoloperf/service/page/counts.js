/** The count by class, of the picture that is shown and of all; and the table of every box. */

import { element } from "./common.js";
import { inside } from "./files.js";
import { styleOf } from "./paint.js";
import { boxesOf } from "./settings.js";
import { count } from "./suppress.js";

const $ = (id) => document.getElementById(id);

/** current: the picture that is shown; done: all that have an answer; classes: names in their order; unseen: those not drawn. */
export function showCounts(current, done, classes, unseen) {
  const several = done.length > 1;
  const here = count(boxesOf(current));
  const everywhere = several ? count(done.flatMap(boxesOf)) : here;
  const sum = (counts) => [...counts.values()].reduce((total, number) => total + number, 0);
  const total = sum(everywhere);
  const titles = several ? ["Here", "All", "Share"] : ["Count", "Share"];
  const rows = [...everywhere].map(([name, all]) => {
    const numbers = [here.get(name) ?? 0, ...(several ? [all] : []), `${((100 * all) / total).toFixed(1)} %`];
    return element("tr", {}, classCell(name, classes.indexOf(name), !unseen.has(name)), ...numbers.map(cell));
  });
  if (!rows.length) rows.push(element("tr", {}, element("td", { colSpan: titles.length + 1, className: "note" }, "Nothing above this score.")));
  const heads = titles.map((title) => element("th", { scope: "col", className: "n" }, title));
  const totals = [sum(here), ...(several ? [total] : []), ""];
  const table = $("counts");
  const focused = table.contains(document.activeElement) && document.activeElement.value;
  table.tHead.rows[0].replaceChildren(element("th", { scope: "col" }, "Class"), ...heads);
  table.tBodies[0].replaceChildren(...rows);
  table.tFoot.replaceChildren(element("tr", {}, element("th", { scope: "row" }, "Total"), ...totals.map(cell)));
  if (focused) table.querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
}

function cell(text) {
  return element("td", { className: "n" }, String(text));
}

function classCell(name, label, drawn) {
  const { colour, dash } = styleOf(label);
  const swatch = element("span", { className: "swatch" });
  swatch.style.borderColor = colour;
  swatch.style.borderStyle = dash.length ? (dash[0] > 3 ? "dashed" : "dotted") : "solid";
  const input = element("input", { type: "checkbox", value: name, checked: drawn, "aria-label": `Draw ${name}` });
  return element("th", { scope: "row" }, element("label", { className: "check" }, input, swatch, element("span", {}, name)));
}

/** `choose(box, pick)` when a row is pointed at, or picked to stay; box null when the pointer leaves. */
export function showBoxes(current, choose) {
  const { width, height } = current.result;
  const rows = boxesOf(current).map((box) => {
    const corners = inside(box, width, height).box.map((value) => value.toFixed(0));
    const name = element("button", { type: "button", className: "quiet" }, box.name);
    const row = element("tr", { box }, element("th", { scope: "row" }, name), cell(box.score.toFixed(3)), cell(corners.join(", ")));
    name.addEventListener("click", () => choose(box, true));
    name.addEventListener("focus", () => choose(box, false));
    row.addEventListener("pointerenter", () => choose(box, false));
    row.addEventListener("pointerleave", () => choose(null, false));
    return row;
  });
  $("rows").replaceChildren(...rows);
}
