import { announce, api, element, navigate, plural, save } from "./common.js";

const at = (id) => document.getElementById(id);
const ARROWS = { lower: "\u00a0↓", higher: "\u00a0↑" };

let columns = []; // {name, title, numeric, better}
let rows = []; // {texts, values}, one entry a column
let sorted = { column: null, down: false };

function take(answer) {
  columns = [
    { name: "run", title: "run", numeric: false, better: null },
    { name: "status", title: "status", numeric: false, better: null },
    ...answer.columns,
  ];
  rows = answer.rows.map((row) => {
    const cells = [row.run, row.status].map((value) => ({ value, text: value ?? "" })).concat(row.cells);
    return { cells, reason: row.status === "ok" ? null : row.reason };
  });
}

function kept() {
  const words = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.filter(({ cells, reason }) => {
    const text = [...cells.map((cell) => cell.text), reason ?? ""].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  if (sorted.column === null) return found;
  const value = (row) => row.cells[sorted.column].value;
  const order = (one, other) => (typeof one === "number" ? one - other : String(one).localeCompare(String(other), undefined, { numeric: true }));
  return found.toSorted((one, other) => {
    const absent = (value(one) == null) - (value(other) == null); // last, whichever way
    return absent || (value(one) == null ? 0 : (sorted.down ? -1 : 1) * order(value(one), value(other)));
  });
}

function sortBy(column) {
  const down = sorted.column === column ? !sorted.down : columns[column].better === "higher";
  sorted = { column, down };
  announce(`Sorted by ${columns[column].title}, ${down ? "descending" : "ascending"}`);
  draw();
}

function draw() {
  const heads = columns.map(({ title, numeric, better }, index) => {
    const arrow = ARROWS[better] ?? "";
    const button = element("button", { type: "button", onclick: () => sortBy(index) }, title + arrow);
    const head = element("th", { scope: "col", className: numeric ? "n" : "" }, button);
    if (sorted.column === index) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    return head;
  });
  const focus = [...at("table").tHead.rows[0].cells].findIndex((cell) => cell.contains(document.activeElement));
  at("table").tHead.rows[0].replaceChildren(...heads);
  if (focus >= 0) heads[focus].firstChild.focus();
  const found = kept();
  at("table").tBodies[0].replaceChildren(...found.map(tableRow));
  at("count").textContent = found.length === rows.length ? plural(rows.length, "run") : `${found.length} of ${plural(rows.length, "run")}`;
}

function tableRow({ cells, reason }) {
  const [run, status, ...figures] = cells;
  const kind = element("td", {}, element("span", { className: `status ${status.text}` }, status.text));
  const made = figures.map(({ text }, index) => element("td", { className: columns[index + 2].numeric ? "n" : "" }, text));
  if (reason) {
    const first = cells.findLastIndex((cell) => cell.text !== "") - 1; // behind the last cell that says something
    const span = made.length - first;
    if (span > 0) made.splice(first, span, element("td", { className: "reason note", colSpan: span }, reason));
    else kind.title = reason;
  }
  return element("tr", {}, element("th", { scope: "row" }, run.text), kind, ...made);
}

function csv() {
  const quoted = (value) => (/[",\n]/.test(value ?? "") ? `"${value.replaceAll('"', '""')}"` : String(value ?? ""));
  const lines = [[...columns.map(({ name }) => name), "reason"], ...kept().map(({ cells, reason }) => [...cells.map(({ value }) => value), reason])];
  return lines.map((line) => line.map(quoted).join(",") + "\n").join("");
}

at("filter").addEventListener("input", draw);
at("save").addEventListener("click", () => save(new Blob([csv()], { type: "text/csv" }), "runs.csv"));

navigate(true);
try {
  take(await api("api/runs"));
  at("none").hidden = rows.length > 0;
  at("save").disabled = rows.length === 0;
  if (rows.length) draw();
} catch (problem) {
  at("trouble").textContent = problem.message;
  at("trouble").hidden = false;
}
