import { curves, swatch } from "./chart.js";
import { announce, api, element, navigate, offer, plural, root } from "./common.js";
import { follow } from "./follow.js";

const LOOK_MS = 5000; // for runs that wait, and for what others start
const STREAMS = 3; // a browser opens six connections to a service
const FIELDS = ["batch_size", "epochs", "lr_scale", "img_size"];
const LOSSES = [["box", "box_loss"], ["objectness", "obj_loss"], ["classes", "cls_loss"]];
const SCORES = [["mAP@0.5", "map50"], ["mAP@0.5:0.95", "map50_95"], ["recall", "recall"]];

const at = (id) => document.getElementById(id);
const active = (run) => ["queued", "running", "cancelling"].includes(run.state);
const shown = new Map(); // id -> Card

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

class Card {
  constructor(run) {
    this.epochs = new Map();
    this.title = element("h2", {}, run.id);
    this.status = element("span", { className: "status" });
    this.facts = element("p", { className: "note" });
    this.bar = element("progress", { max: run.epochs, value: 0, "aria-label": `Epochs of ${run.id}` });
    this.now = element("p", { className: "note" });
    this.trouble = element("p", { className: "message error", role: "alert", hidden: true });
    this.stop = element("button", { type: "button", className: "danger", onclick: () => this.act(this.stop, () => this.cancel()) }, "Cancel");
    this.attempt = element("button", { type: "button", className: "primary", onclick: () => this.act(this.attempt, () => this.tryIt()) }, "Try it");
    this.actions = element("div", { className: "actions screen" }, this.attempt, this.stop);
    this.curves = element("div", { className: "curves" });
    this.table = element("tbody");
    const heads = ["Epoch", ...LOSSES.map(([name]) => name), ...SCORES.map(([name]) => name), "images/s"];
    const head = element("tr", {}, ...heads.map((text, index) => element("th", { scope: "col", className: index ? "n" : "" }, text)));
    this.more = element(
      "details",
      {},
      element("summary", {}, "Curves and figures"),
      this.curves,
      element("div", { className: "scroll tall", tabIndex: 0, role: "region", "aria-label": `Figures of ${run.id}` }, element("table", {}, element("thead", {}, head), this.table)),
    );
    this.more.addEventListener("toggle", () => this.more.open && this.load().catch((problem) => this.say(problem.message)));
    this.node = element(
      "article",
      { className: "panel run", "aria-label": run.id },
      element("div", { className: "head" }, this.title, this.status),
      this.facts,
      this.bar,
      this.now,
      this.trouble,
      this.actions,
      this.more,
    );
    this.update(run);
  }

  update(run) {
    const before = this.run?.state;
    this.run = run;
    this.status.className = `status ${run.state === "cancelling" ? "cancelled" : run.state}`;
    this.status.textContent = run.state;
    const device = run.device === "auto" ? "" : ` · device ${run.device}`;
    this.facts.textContent = `${run.model} on ${run.data} · batch ${run.batch_size} · ${run.img_size} px · learning rate × ${run.lr_scale}${device}`;
    this.stop.hidden = !["queued", "running"].includes(run.state);
    this.attempt.hidden = !run.weights;
    this.actions.hidden = this.stop.hidden && this.attempt.hidden;
    if (run.state === "running" && before !== "running") this.more.open = true;
    this.bar.hidden = !active(run);
    this.progress();
    if (before && before !== run.state) {
      announce(`${run.id} is ${run.state}`);
      if (!active(run)) this.load().catch((problem) => this.say(problem.message));
    }
  }

  add(event) {
    if (event.key === "state") this.update(event);
    if (event.key !== "epoch") return;
    this.epochs.set(event.epoch, event);
    this.progress();
    this.draw();
  }

  progress() {
    const { run } = this;
    const epochs = [...this.epochs.values()];
    const last = epochs.at(-1);
    const done = Math.max(run.epoch, last?.epoch ?? 0);
    this.bar.value = done;
    const said = [`${done} of ${plural(run.epochs, "epoch")}`];
    const map50 = last?.map50 ?? run.map50;
    if (map50 != null) said.push(`mAP@0.5 ${map50.toFixed(3)}`);
    const rate = last?.images_per_s ?? run.images_per_s;
    if (rate != null) said.push(`${rate.toPrecision(3)} images/s`);
    if (run.state === "running" && epochs.length) {
      const each = epochs.reduce((sum, epoch) => sum + epoch.train_s + epoch.val_s, 0) / epochs.length;
      said.push(done < run.epochs ? `about ${span(each * (run.epochs - done))} left` : "profiling a few steps");
    }
    if (run.wall_s != null) said.push(span(run.wall_s));
    if (run.reason) said.push(run.reason);
    this.now.textContent = said.join(" · ");
  }

  async load() {
    const run = await api(`api/training/${this.run.id}`);
    for (const epoch of run.history) this.epochs.set(epoch.epoch, epoch);
    this.update(run);
    this.draw();
  }

  draw() {
    if (!this.more.open) return;
    const epochs = [...this.epochs.values()];
    const points = (key) => epochs.filter((epoch) => epoch[key] != null).map((epoch) => [epoch.epoch, epoch[key]]);
    const figure = (title, lines, ceiling) => {
      const series = lines.map(([name, key]) => ({ name, points: points(key) }));
      const legend = series.map(({ name }, index) => element("li", {}, swatch(index), name));
      return element(
        "figure",
        {},
        element("figcaption", {}, title),
        curves(title, series, this.run.epochs, ceiling),
        element("ul", { className: "legend" }, ...legend),
      );
    };
    this.curves.replaceChildren(figure("Losses", LOSSES, null), figure("Quality on the validation images", SCORES, 1));
    const cell = (value) => element("td", { className: "n" }, value == null ? "" : value.toPrecision(3));
    const rows = epochs.map((epoch) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, String(epoch.epoch)),
        ...[...LOSSES, ...SCORES].map(([, key]) => cell(epoch[key])),
        cell(epoch.images_per_s),
      ),
    );
    this.table.replaceChildren(...rows.reverse());
  }

  say(text) {
    this.trouble.textContent = text;
    this.trouble.hidden = !text;
  }

  async act(button, work) {
    this.say("");
    button.disabled = true;
    try {
      await work();
    } catch (problem) {
      this.say(problem.message);
    } finally {
      button.disabled = false;
    }
  }

  async cancel() {
    if (!confirm(`Stop ${this.run.id}? What it has learned so far is kept.`)) return;
    await api(`api/training/${this.run.id}/cancel`, {});
    await look();
  }

  async tryIt() {
    const { model } = await api(`api/training/${this.run.id}/serve`, {});
    location.assign(new URL(`?model=${encodeURIComponent(model)}`, root));
  }
}

const streams = new Set();

async function watch(card) {
  const { id } = card.run;
  if (streams.has(id) || streams.size >= STREAMS) return;
  streams.add(id);
  try {
    for await (const event of follow(id, new AbortController().signal, lost)) card.add(event);
  } catch (problem) {
    card.say(problem.message);
  } finally {
    streams.delete(id);
  }
  await look();
}

function lost(text) {
  at("connection").textContent = text ?? "";
  at("connection").hidden = !text;
}

/** The runs as they are now: new ones first, those that run are followed. */
async function look() {
  const { runs } = await api("api/training");
  for (const run of [...runs].reverse()) {
    const card = shown.get(run.id);
    if (!card) {
      shown.set(run.id, new Card(run));
      at("none").after(shown.get(run.id).node);
    } else if (!streams.has(run.id)) card.update(run);
    if (["running", "cancelling"].includes(run.state)) watch(shown.get(run.id));
  }
  at("none").hidden = runs.length > 0;
  const waiting = runs.filter((run) => run.state === "queued").length;
  at("queue").textContent = waiting ? `${plural(waiting, "run")} waiting` : "";
}

let prepared = false; // the form has what there is to choose

async function keepLooking() {
  for (;;) {
    try {
      if (!prepared) await prepare();
      prepared = true;
      if (!document.hidden) {
        await look();
        if (!streams.size) lost(null);
      }
    } catch (problem) {
      if (problem.status === 401) return offer(at("connection"), problem.message, keepLooking);
      lost(problem.message);
    }
    await new Promise((go) => setTimeout(go, LOOK_MS));
  }
}

async function prepare() {
  const options = await api("api/training/options");
  for (const { name, classes } of options.data) at("data").append(element("option", { value: name, title: classes.join(", ") }, name));
  for (const { name, pretrained } of options.models) {
    at("model").append(element("option", { value: name }, pretrained ? `${name} (published weights)` : `${name} (from scratch)`));
  }
  for (const key of FIELDS) Object.assign(at(key), { ...options.ranges[key], value: options.defaults[key] });
  at("data").value = options.defaults.data;
  at("model").value = options.defaults.model;
  const describe = () => {
    const { classes } = options.data.find(({ name }) => name === at("data").value) ?? { classes: [] };
    const some = classes.slice(0, 6).join(", ");
    at("data-note").textContent = classes.length > 6 ? `${plural(classes.length, "class").replace(/classs$/, "classes")}: ${some} …` : some;
  };
  at("data").addEventListener("change", describe);
  describe();
  if (options.data.length) at("start").disabled = false;
  else trouble("There is no data set on this machine. The next step there: yoloperf data synth");
}

function trouble(text) {
  at("trouble").textContent = text;
  at("trouble").hidden = !text;
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  trouble("");
  at("start").disabled = true;
  try {
    const numbers = Object.fromEntries(FIELDS.map((key) => [key, Number(at(key).value)]));
    const { id } = await api("api/training", { model: at("model").value, data: at("data").value, name: at("name").value.trim(), ...numbers });
    await look();
    announce(`${id} is ${shown.get(id).run.state}`);
    shown.get(id).node.scrollIntoView({ block: "nearest" });
  } catch (problem) {
    trouble(problem.message);
  } finally {
    at("start").disabled = false;
  }
});

navigate(true);
keepLooking();
