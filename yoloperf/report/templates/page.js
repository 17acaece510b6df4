"use strict";
const root = document.documentElement;

/* light and dark: the system's choice until the reader makes one */
const dark = matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme").addEventListener("click", () => {
  const now = root.dataset.theme || (dark.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

/* tables: a heading sorts, words filter, columns can be chosen */
const value = (row, k) => {
  const cell = row.cells[k];
  const text = cell.textContent.trim();
  if (!text) return null;
  return cell.dataset.v !== undefined ? Number(cell.dataset.v) : isNaN(text) ? text : Number(text);
};
const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", {numeric: true}));

const element = (name, fields, ...inside) => {
  const made = Object.assign(document.createElement(name), fields);
  made.append(...inside);
  return made;
};

for (const block of document.querySelectorAll(".table")) {
  const table = block.querySelector("table");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, k) => {
    const words = head.textContent;
    head.textContent = "";
    head.append(element("button", {type: "button", textContent: words}));
    head.setAttribute("aria-sort", "none");
    head.firstChild.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", way);
      const rows = [...body.rows].map((row) => [value(row, k), row]);
      /* what is absent comes last both ways */
      rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : way === "ascending" ? order(a, b) : order(b, a)));
      body.append(...rows.map(([, row]) => row));
    });
  });
  const show = (k, on) => {
    for (const row of table.rows) row.cells[k].classList.toggle("off", !on);
  };
  heads.forEach((head, k) => "hidden" in head.dataset && show(k, false));
  if ("tools" in block.dataset) tools(block, table, heads, show);
}

function tools(block, table, heads, show) {
  const body = table.tBodies[0];
  const search = element("input", {type: "search", placeholder: "filter: every word must occur", ariaLabel: "filter rows"});
  const count = element("output", {});
  const chosen = (block.dataset.filters || "").split(",").filter(Boolean).map((k) => {
    const values = [...new Set([...body.rows].map((row) => row.cells[k].textContent.trim()))].sort((a, b) => order(a, b));
    const every = element("option", {value: "", textContent: "any " + heads[k].textContent});
    const select = element("select", {ariaLabel: heads[k].textContent}, every, ...values.map((text) => element("option", {textContent: text || "(none)", value: "=" + text})));
    return [Number(k), select];
  });
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && chosen.every(([k, select]) => !select.value || "=" + row.cells[k].textContent.trim() === select.value);
      row.hidden = !fits;
      left += fits;
    }
    count.textContent = `${left} of ${body.rows.length} rows`;
  };
  search.addEventListener("input", apply);
  chosen.forEach(([, select]) => select.addEventListener("change", apply));
  const boxes = heads.map((head, k) => {
    const box = element("input", {type: "checkbox", checked: !("hidden" in head.dataset)});
    box.addEventListener("change", () => show(k, box.checked));
    return element("label", {title: head.title}, box, " " + head.textContent);
  });
  const columns = element("details", {}, element("summary", {textContent: "columns"}), element("div", {}, ...boxes.slice(1)));
  columns.addEventListener("keydown", (event) => {
    if (event.key === "Escape") columns.open = false;
  });
  const bar = element("div", {className: "tools"}, search, ...chosen.map(([, select]) => select), columns, count);
  block.prepend(bar);
  apply();
}

/* plots: colours of texts and lines are the page's own, so that light, dark and print need no new drawing */
const ink = "currentColor";
const guide = {labelColor: ink, titleColor: ink, domainColor: ink, tickColor: ink, gridColor: ink, gridOpacity: 0.13, domainOpacity: 0.4, tickOpacity: 0.4};
const config = {
  background: "transparent",
  font: "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
  axis: {...guide, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, tickCount: 8, labelOverlap: true},
  legend: {labelColor: ink, titleColor: ink, symbolBaseFillColor: ink, symbolBaseStrokeColor: ink, labelFontSize: 12, titleFontSize: 12, orient: "bottom", columns: 4, labelLimit: 320, symbolLimit: 100},
  header: {labelColor: ink, titleColor: ink},
  title: {color: ink},
  view: {stroke: "transparent"},
  rule: {color: ink},
  range: {category: ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"]},
};
const charts = JSON.parse(document.getElementById("charts").textContent);
const views = new Map();

/* what is drawn in black is drawn in the page's own ink */
const inked = (part) => {
  if (part === "black" || part === "#000" || part === "#000000") return ink;
  if (Array.isArray(part)) return part.map(inked);
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, key === "data" || key === "datasets" ? value : inked(value)]));
};

async function draw(figure) {
  const plot = figure.querySelector(".plot");
  const select = figure.querySelector("select");
  const spec = inked(structuredClone(charts[figure.dataset.chart][select ? Number(select.value) : 0]));
  const room = plot.clientWidth;
  const beside = spec.hconcat || spec.concat;
  if (spec.hconcat && room < 620) {
    spec.vconcat = spec.hconcat;
    delete spec.hconcat;
  }
  const across = room < 620 ? 1 : spec.usermeta?.columns ?? spec.columns ?? beside?.length ?? 1;
  const inner = spec.spec || spec;
  const rowed = typeof inner.height === "object";
  const names = room < 620 ? room * 0.62 : Math.min(280, room * 0.45);
  const width = Math.max(rowed ? 120 : 220, Math.floor((room - (across - 1) * 20 - (rowed ? names : 95 * (beside ? across : 1))) / across));
  for (const part of beside || spec.vconcat || [inner]) part.width = width;
  if (spec.columns) spec.columns = across;
  if (rowed && room < 620) inner.encoding.y.axis = {...inner.encoding.y.axis, labelLimit: Math.floor(names - 10), labelFontSize: 9};
  if (inner.encoding?.color?.legend) inner.encoding.color.legend.labelLimit = Math.min(inner.encoding.color.legend.labelLimit ?? 320, room - names - 20);
  const local = {...config, legend: {...config.legend, columns: Math.max(1, Math.floor(room / 190)), labelLimit: Math.min(320, room - 60), layout: {bottom: {anchor: "start", direction: room < 620 ? "vertical" : "horizontal"}}}};
  const {view} = await vegaEmbed(plot, spec, {mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: local});
  plot.dataset.drawn = room;
  views.set(figure, view);
}

/* a plot as a picture for other documents: on white, whatever the page is on */
async function save(figure) {
  const view = views.get(figure);
  const background = view.background();
  const href = await view.background("white").toImageURL("png", 2);
  view.background(background);
  const name = figure.querySelector("h3").textContent.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  element("a", {href, download: `${name}.png`}).click();
}

/* a plot is drawn when it comes near, and all of them before printing */
const figures = [...document.querySelectorAll(".chart")];
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }
}, {rootMargin: "600px"});
for (const figure of figures) {
  near.observe(figure);
  figure.querySelector("select")?.addEventListener("change", () => draw(figure));
  const button = element("button", {type: "button", textContent: "PNG", title: "save this plot as a picture"});
  button.addEventListener("click", async () => {
    if (!views.has(figure)) await draw(figure);
    save(figure);
  });
  figure.querySelector(".bar").append(button);
}
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    for (const figure of figures) {
      const plot = figure.querySelector(".plot");
      if (plot.dataset.drawn && Math.abs(plot.dataset.drawn - plot.clientWidth) > 20) draw(figure);
    }
  }, 200);
});
const drawAll = () => Promise.all(figures.filter((figure) => !figure.querySelector(".plot").dataset.drawn).map(draw));
/* on paper nothing can be opened: what findings rest on is shown */
addEventListener("beforeprint", () => document.querySelectorAll("details.finding").forEach((item) => (item.open = true)));
/* printing does not wait for a script, so all plots are drawn soon after the page is there */
addEventListener("load", () => setTimeout(drawAll, 300));
