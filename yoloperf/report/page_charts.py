"""The interactive plots of the page, as Vega-Lite specifications (https://vega.github.io/vega-lite/docs/spec.html)."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from yoloperf.core.record import EpochRecord, RunRecord, columns, shown
from yoloperf.parsing.operators import OPERATORS, OTHER
from yoloperf.report.columns import (
    GRID,
    IDENTITY,
    RUN_COLUMNS,
    distinct,
    failed,
    fullest,
    in_order,
    label,
    present,
    telling,
    title,
    varying,
)
from yoloperf.report.device import QUANTITIES
from yoloperf.report.device import series as series_of
from yoloperf.report.evidence import quality, times
from yoloperf.report.load import Records
from yoloperf.report.plots_tradeoff import front

Spec = dict[str, Any]

SERIES = 12  # more colours nobody tells apart
POINTS = 1200  # of one plot
LINES = 48  # curves of one plot
BARS = 80
CURVES = ("map50", "map50_95", "precision", "recall", "box_loss", "obj_loss", "cls_loss", "dfl_loss", "images_per_s")
DOMAINS = {"gpu": "time on the GPU", "cpu": "time on the CPU"}
SAMPLED = 400  # runs whose samples are read
LEAST = 3  # repeats of a box

# unit -> what axes are given in: the largest that the greatest value reaches
_SCALES = {
    "s": ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "B": ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")),
    "J": ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J")),
}


@dataclass(frozen=True)
class Chart:
    """One plot with its question; `variants` are (name, specification) of what may be chosen to see in it."""

    name: str
    question: str
    variants: list[tuple[str, Spec]]
    note: str = ""
    wide: bool = field(default=True)


def charts(records: Records) -> tuple[list[Chart], dict[str, str]]:
    """Every plot that the records allow, and for each that is missing the reason."""
    runs = records.runs
    wanted: dict[str, Callable[[], Chart | str]] = {
        "Against batch size": lambda: grid(runs, "batch_size"),
        "Against epochs": lambda: grid(runs, "epochs"),
        "Quality against time": lambda: tradeoff(runs),
        "Curves": lambda: curves(runs, records.epochs),
        "Biggest kernel": lambda: kernels(runs),
        "Where the time goes": lambda: operators(records),
        "Device over time": lambda: device(runs, records.bases),
        "Repeats": lambda: repeats(runs),
    }
    found, missing = [], {}
    for name, make in wanted.items():
        made = make()
        if isinstance(made, str):
            missing[name] = made
        else:
            found.append(made)
    return found, missing


def scaled(name: str, values: Sequence[float]) -> tuple[float, str]:
    """Divisor and axis title of a column whose greatest value is among `values`."""
    unit = str(RUN_COLUMNS[name].metadata["unit"]) if name in RUN_COLUMNS else ""
    return scale(unit, title(name) if name in RUN_COLUMNS else name, values)


def scale(unit: str, words: str, values: Sequence[float]) -> tuple[float, str]:
    """Divisor and axis title of a quantity in `unit`."""
    top = max((abs(value) for value in values), default=0)
    for divisor, text in _SCALES.get(unit, ()):
        if top >= 2 * divisor:
            return divisor, f"{words} ({text})"
    return 1.0, f"{words} ({unit})" if unit and unit not in ("1/s", "FLOP") else words


def series(runs: Sequence[RunRecord]) -> list[str]:
    """What tells these runs apart beside model, batch size and epochs, run by run."""
    names = telling(runs, [name for name in IDENTITY if name != "model"])
    if not names:
        return [next(iter(distinct(runs, "platform")), "all runs")] * len(runs)
    return [label(run, names) if any(getattr(run, name) is not None for name in names) else "not recorded" for run in runs]


def _metrics(runs: Sequence[RunRecord]) -> list[str]:
    finished = [run for run in runs if not failed(run)]
    rest = ("images_per_s", "max_rss_bytes", "gpu_mem_peak_bytes", "map50", "precision", "recall", "cpu_percent", "gpu_util_pct")
    return fullest(finished, ("wall_s", "user_s")) + present(
        finished, (*rest, "gpu_power_w", "energy_j", "biggest_kernel_avg_s", "step_time_s", "obj_loss")
    )


def grid(runs: Sequence[RunRecord], x: str) -> Chart | str:
    """Every metric against batch size or epochs: colour is the platform, shape and dash the other of the two, a panel a model."""
    placed = [run for run in runs if getattr(run, x) is not None]
    metrics = _metrics(placed)
    if len(distinct(placed, x)) < 2:
        return f"no two runs differ in {title(x)}"
    if not metrics:
        return "no finished run has a figure"
    words = series(placed)
    kept = list(dict.fromkeys(words))[:SERIES]
    other = GRID[1 - GRID.index(x)]
    variants = [(title(name, placed), _grid_spec(placed, words, kept, x, other, name)) for name in metrics]
    notes = ["A point is the median of its cell; a bar reaches from the least to the greatest repeat."] if _repeated(placed) else []
    if any(map(failed, placed)):
        notes.append("A cross at the foot is a cell in which every run failed.")
    if len(kept) < len(set(words)):
        notes.append(f"{len(kept)} of {len(set(words))} set-ups are drawn.")
    what = "platform" if "platform" in varying(placed, IDENTITY) else "set-up"
    return Chart(f"Against {title(x)}", f"How does a run change with {title(x)}, by {what}?", variants, " ".join(notes))


def _repeated(runs: Sequence[RunRecord]) -> bool:
    keys = [tuple(getattr(run, name) for name in (*IDENTITY, *GRID)) for run in runs if not failed(run)]
    return len(set(keys)) < len(keys)


def _grid_spec(runs: Sequence[RunRecord], words: Sequence[str], kept: Sequence[str], x: str, other: str, name: str) -> Spec:
    cells: dict[tuple[Any, ...], list[RunRecord]] = defaultdict(list)
    for run, word in zip(runs, words, strict=True):
        if word in kept:
            cells[run.model or "model not recorded", word, getattr(run, x), getattr(run, other)].append(run)
    values = [getattr(run, name) for run in runs if not failed(run) and getattr(run, name) is not None]
    divisor, axis = scaled(name, values)
    rows = []
    for (model, word, at, line), part in sorted(
        cells.items(), key=lambda item: [str(v) if isinstance(v, str) else v or 0 for v in item[0]]
    ):
        found = [getattr(run, name) for run in part if not failed(run) and getattr(run, name) is not None]
        row: dict[str, Any] = {
            "panel": model,
            "series": word,
            "x": at,
            "line": label(RunRecord(**{other: line}), [other]) if line else "any",
        }
        row["n"] = len(found)
        if found:
            row |= {
                "y": median(found) / divisor,
                "low": min(found) / divisor,
                "high": max(found) / divisor,
                "shown": shown(RUN_COLUMNS[name], median(found)),
            }
        elif all(map(failed, part)):
            row |= {"lost": 0, "shown": ", ".join(sorted({run.status or "" for run in part}))}
        else:
            continue
        rows.append(row)
    ticks = distinct(runs, x)
    lines = [label(RunRecord(**{other: line}), [other]) for line in distinct(runs, other)]
    log = x == "batch_size" and ticks[0] > 0
    tooltip = _tips(series="series", line=title(other), x=title(x), shown=title(name), n="runs")
    colour = {"field": "series", "type": "nominal", "title": None, "scale": {"domain": list(kept)}}
    shape = {"field": "line", "type": "nominal", "title": title(other), "sort": lines}
    at = {"field": "x", "type": "quantitative", "title": title(x), "axis": {"values": ticks, "format": "d"}}
    at |= {"scale": {"type": "log", "base": 2, "nice": False, "padding": 12} if log else {"nice": False, "zero": False, "padding": 12}}
    up = {"field": "y", "type": "quantitative", "title": axis, "scale": {"zero": True}}
    layer: list[Spec] = [
        {
            "params": [_pick()],
            "mark": {"type": "line", "strokeWidth": 1.8},
            "transform": [{"filter": "isValid(datum.y)"}],
            "encoding": {"y": up, "strokeDash": shape | {"legend": None}, "opacity": _faded()},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55},
            "transform": [{"filter": "isValid(datum.y)"}],
            "encoding": {"y": up, "shape": shape, "opacity": _faded(), "tooltip": tooltip},
        },
    ]
    if any(row["n"] > 1 for row in rows):
        bar = {"y": up | {"field": "low"}, "y2": {"field": "high"}}
        layer.append({"mark": {"type": "rule"}, "transform": [{"filter": "datum.n > 1"}], "encoding": bar})
    if any("lost" in row for row in rows):
        cross: Spec = {
            "mark": {"type": "point", "shape": "cross", "size": 120, "angle": 45, "filled": True, "strokeWidth": 2},
            "transform": [{"filter": "isValid(datum.lost)"}],
            "encoding": {"y": up | {"field": "lost"}, "tooltip": tooltip},
        }
        layer.append(cross)
    return _panels(rows, {"layer": layer, "encoding": {"x": at, "color": colour}})


def _panels(rows: list[Spec], inner: Spec) -> Spec:
    """One panel a model, or no panels where there is one model."""
    count = len({row["panel"] for row in rows})
    if count < 2:
        return inner | {"data": {"values": rows}, "height": 300, "usermeta": {"columns": 1}}
    facet = {"field": "panel", "type": "nominal", "title": None, "header": {"labelFontWeight": "bold", "labelFontSize": 13}}
    across = 2 if count != 3 else 3
    return {
        "data": {"values": rows},
        "facet": facet,
        "columns": across,
        "spec": inner | {"height": 260},
        "usermeta": {"columns": across},
    }


def _pick() -> Spec:
    return {"name": "pick", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}


def _faded() -> Spec:
    return {"condition": {"param": "pick", "value": 1}, "value": 0.12}


def _tips(**fields: str) -> list[Spec]:
    return [{"field": name, "title": words} for name, words in fields.items()]


def tradeoff(runs: Sequence[RunRecord]) -> Chart | str:
    """Quality and throughput against time, every run a point; a line joins those that no other run beats in both."""
    grade = quality(runs)
    finished = [run for run in runs if not failed(run)]
    variants = []
    for measure in reversed(times(runs)):
        points = [(run, x, y) for run in finished if (x := measure.of(run)) and (y := grade.of(run)) is not None]
        if len(points) > 1:
            spec = _tradeoff_spec(points, "s", measure.title, grade.title, least=True)
            variants.append((f"against {measure.title.partition(' (')[0]}", spec))
    fast = [(run, run.images_per_s, y) for run in finished if run.images_per_s and (y := grade.of(run)) is not None]
    if len(fast) > 1:
        variants.append(("against throughput", _tradeoff_spec(fast, "", title("images_per_s"), grade.title, least=False)))
    if not variants:
        return "fewer than two finished runs have both a time and a validation"
    notes = "The line joins the runs that no other run beats in both."
    if len(finished) > POINTS:
        notes += f" Besides those, {POINTS} of {len(finished)} runs are drawn, evenly chosen."
    return Chart("Quality against time", "Which runs are the best for their time?", variants, notes)


def _tradeoff_spec(points: Sequence[tuple[RunRecord, float, float]], unit: str, across: str, up: str, least: bool) -> Spec:
    divisor, axis = scale(unit, across, [x for _, x, _ in points])
    best = set(front([(x if least else -x, y) for _, x, y in points]))
    every = max(1, len(points) // POINTS)
    runs = [run for run, *_ in points]
    rows = []
    for k, (run, x, y) in enumerate(points):
        if k in best or k % every == 0:
            where = ", ".join(part for part in (run.model, run.platform) if part) or "runs"
            row: Spec = {"series": where, "x": x / divisor, "y": y, "run": run.run_id, "what": label(run, GRID)}
            rows.append(row | {"best": k in best, "batch": str(run.batch_size)})
    if len({row["series"] for row in rows}) > SERIES:
        rows = [row | {"series": run.model or "runs"} for row, run in zip(rows, runs, strict=False)]
    x_axis = {"field": "x", "type": "quantitative", "title": axis}
    y_axis = {"field": "y", "type": "quantitative", "title": up, "scale": {"domain": [0, 1]}}
    colour = {"field": "series", "type": "nominal", "title": None}
    tips = _tips(run="run", what="cell", y=up, x=axis)
    tips[2]["format"] = tips[3]["format"] = ".3~f"
    return {
        "data": {"values": rows},
        "height": 380,
        "usermeta": {"columns": 1},
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step-after" if least else "step-before", "color": "currentColor", "opacity": 0.45},
                "transform": [{"filter": "datum.best"}],
                "encoding": {"x": x_axis, "y": y_axis},
            },
            {
                "params": [_pick()],
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"x": x_axis, "y": y_axis, "color": colour, "shape": colour, "opacity": _faded(), "tooltip": tips},
            },
        ],
    }


def curves(runs: Sequence[RunRecord], epochs: Sequence[EpochRecord]) -> Chart | str:
    """Losses and quality by epoch, a line a run."""
    by_run: dict[str | None, list[EpochRecord]] = defaultdict(list)
    for record in epochs:
        if record.epoch is not None:
            by_run[record.run_id].append(record)
    every = in_order([run for run in runs if len(by_run.get(run.run_id, ())) > 1], [*IDENTITY, *GRID, "seed", "run_id"])
    if not every:
        return "no run has two epochs or more: give run folders, logs, or a runs.csv with its epochs.csv beside it"
    step = -(-len(every) // LINES)
    drawn = every[::step]
    names = telling(drawn, [*IDENTITY, *GRID, "seed"])
    words = [label(run, names) if names else str(run.run_id) for run in drawn]
    coloured = next(
        (name for name in ("platform", "model", "batch_size", "seed") if name in names and len(distinct(drawn, name)) <= SERIES), None
    )
    variants = []
    registry = columns(EpochRecord)
    for name in CURVES:
        rows = [
            {"series": str(getattr(run, coloured) if coloured else words[k]), "run": f"{words[k]} ", "id": k, "x": record.epoch, "y": value}
            for k, run in enumerate(drawn)
            for record in sorted(by_run[run.run_id], key=lambda record: record.epoch or 0)
            if (value := getattr(record, name)) is not None
        ]
        if rows:
            words_of = str(registry[name].metadata["title"]) + (" loss" if name.endswith("_loss") else "")
            variants.append((words_of, _curve_spec(rows, words_of, coloured)))
    if not variants:
        return "no epoch has a loss, a validation or a throughput"
    note = "" if step == 1 else f"{len(drawn)} of {len(every)} runs are drawn, one in {step}: choose fewer with --filter."
    return Chart("Curves", "How did losses and quality develop?", variants, note)


def _curve_spec(rows: list[Spec], words: str, coloured: str | None) -> Spec:
    tips = [*_tips(run="run", x="epoch"), {"field": "y", "title": words, "format": ".4~g"}]
    y_scale = {"domain": [0, 1]} if words in ("precision", "recall") or words.startswith("mAP") else {"zero": True}
    heading = title(coloured) if coloured else None
    return {
        "data": {"values": rows},
        "height": 340,
        "usermeta": {"columns": 1},
        "encoding": {
            "x": {
                "field": "x",
                "type": "quantitative",
                "title": "epoch",
                "axis": {"tickMinStep": 1, "format": "d"},
                "scale": {"zero": False, "nice": False},
            },
            "y": {"field": "y", "type": "quantitative", "title": words, "scale": y_scale},
            "color": {"field": "series", "type": "nominal", "title": heading},
            "strokeDash": {"field": "series", "type": "nominal", "title": heading},
            "detail": {"field": "id"},
            "opacity": _faded(),
        },
        "layer": [
            {"params": [_pick()], "mark": {"type": "line", "strokeWidth": 1.6}},
            {"mark": {"type": "point", "filled": True, "size": 18}, "encoding": {"tooltip": tips}},
        ],
    }


def kernels(runs: Sequence[RunRecord]) -> Chart | str:
    """The average time of the biggest kernel, a bar a run, the colour saying which kernel."""
    every = in_order(
        [run for run in runs if run.biggest_kernel_avg_s is not None and not failed(run)], [*IDENTITY, *GRID, "seed", "run_id"]
    )
    if not every:
        return "no run has a kernel summary"
    step = -(-len(every) // BARS)
    drawn = every[::step]
    divisor, axis = scaled("biggest_kernel_avg_s", [run.biggest_kernel_avg_s or 0 for run in drawn])
    words = _row_labels(drawn)
    rows = [
        {
            "row": word,
            "y": (run.biggest_kernel_avg_s or 0) / divisor,
            "shown": shown(RUN_COLUMNS["biggest_kernel_avg_s"], run.biggest_kernel_avg_s),
            "series": run.biggest_kernel_name or "name not recorded",
            "share": shown(RUN_COLUMNS["biggest_kernel_share"], run.biggest_kernel_share),
        }
        for word, run in zip(words, drawn, strict=True)
    ]
    spec = {
        "data": {"values": rows},
        "height": {"step": 17},
        "usermeta": {"columns": 1, "legend": "bottom"},
        "params": [_pick()],
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 340}},
            "x": {"field": "y", "type": "quantitative", "title": axis},
            "color": {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "bottom", "columns": 1, "labelLimit": 620}},
            "opacity": _faded(),
            "tooltip": _tips(row="run", series="kernel", shown="average", share="share of its domain"),
        },
    }
    note = "" if step == 1 else f"{len(drawn)} of {len(every)} runs are drawn, one in {step}."
    return Chart("Biggest kernel", "How long is one call of the biggest kernel?", [(axis, spec)], note)


def _row_labels(runs: Sequence[RunRecord]) -> list[str]:
    """A label a run, each different: equal ones are numbered."""
    names = telling(runs, [*IDENTITY, *GRID])
    words = [label(run, names) if names else str(run.run_id) for run in runs]
    return [f"{word} #{words[:k].count(word) + 1}" if words.count(word) > 1 else word for k, word in enumerate(words)]


def operators(records: Records) -> Chart | str:
    """Parts of each kind of operator in the profile's time, a bar a run."""
    totals: dict[tuple[str, str | None], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for record in records.kernels:
        if record.domain in DOMAINS and record.total_s:
            totals[record.domain, record.run_id][record.operator or OTHER] += record.total_s
    variants, notes = [], []
    for domain, words in DOMAINS.items():
        every = in_order([run for run in records.runs if (domain, run.run_id) in totals], [*IDENTITY, *GRID, "seed", "run_id"])
        if not every:
            continue
        step = -(-len(every) // BARS)
        drawn = every[::step]
        if step > 1:
            notes.append(f"{len(drawn)} of {len(every)} runs are drawn, one in {step}.")
        rows = []
        for word, run in zip(_row_labels(drawn), drawn, strict=True):
            parts = totals[domain, run.run_id]
            whole = sum(parts.values())
            rows += [
                {"row": word, "series": kind, "share": parts[kind] / whole, "order": k} for k, kind in enumerate(OPERATORS) if kind in parts
            ]
        kinds = [kind for kind in OPERATORS if any(row["series"] == kind for row in rows)]
        variants.append((words, _operator_spec(rows, kinds, words)))
    if not variants:
        return "there are no kernels: give run folders, logs, or a runs.csv with its kernels.csv beside it"
    return Chart("Where the time goes", "Where does a step's time go?", variants, " ".join(notes))


def _operator_spec(rows: list[Spec], kinds: Sequence[str], words: str) -> Spec:
    return {
        "data": {"values": rows},
        "height": {"step": 22},
        "usermeta": {"columns": 1},
        "params": [_pick()],
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 340}},
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": f"part of the profile's {words}",
                "axis": {"format": ".0%"},
                "scale": {"domain": [0, 1]},
            },
            "color": {"field": "series", "type": "nominal", "title": None, "sort": list(kinds), "scale": {"scheme": "tableau20"}},
            "order": {"field": "order", "type": "quantitative"},
            "opacity": _faded(),
            "tooltip": [*_tips(row="run", series="operator"), {"field": "share", "title": "share", "format": ".1%"}],
        },
    }


def device(runs: Sequence[RunRecord], bases: Sequence[Path]) -> Chart | str:
    """What was sampled while a run lasted, a line a run and device."""
    sampled = [(run, found) for run in in_order(runs, [*IDENTITY, *GRID, "seed", "run_id"])[:SAMPLED] if (found := series_of(run, bases))]
    if not sampled:
        return "no run has samples of its device: device.csv of a run folder holds them"
    drawn = sampled[:: -(-len(sampled) // SERIES)]
    names = telling([run for run, _ in drawn], [*IDENTITY, *GRID, "seed"]) or ["run_id"]
    end, along = scale("s", "time", [x for _, found in drawn for item in found for x, _ in item.points])
    variants = []
    for kind, (words, unit) in QUANTITIES.items():
        items = [(label(run, names), item) for run, found in drawn for item in found if item.quantity == kind]
        divisor, up = scale(unit, words, [y for _, item in items for _, y in item.points])
        rows = [
            {"series": name, "gpu": item.gpu, "x": round(x / end, 4), "y": float(f"{y / divisor:.4g}")}
            for name, item in items
            for x, y in item.points
        ]
        if rows:
            variants.append((words, _device_spec(rows, along, up, unit)))
    note = "" if len(drawn) == len(sampled) else f"{len(drawn)} of {len(sampled)} runs are drawn: choose others with --filter."
    if len(runs) > SAMPLED:
        note += f" Samples of the first {SAMPLED} runs were looked at."
    return Chart("Device over time", "What did the device do while a run lasted?", variants, note.strip())


def _device_spec(rows: list[Spec], along: str, up: str, unit: str) -> Spec:
    y: Spec = {"field": "y", "type": "quantitative", "title": up, "scale": {"domain": [0, 100]} if unit == "%" else {"zero": True}}
    return {
        "data": {"values": rows},
        "height": 300,
        "usermeta": {"columns": 1},
        "params": [_pick()],
        "mark": {"type": "line", "strokeWidth": 1.3, "tooltip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": along, "scale": {"nice": False}},
            "y": y,
            "color": {"field": "series", "type": "nominal", "title": None, "sort": None},
            "detail": {"field": "gpu"},
            "opacity": _faded(),
            "tooltip": [*_tips(series="run", gpu="GPU"), {"field": "x", "title": along, "format": ".3~g"}, {"field": "y", "title": up}],
        },
    }


def repeats(runs: Sequence[RunRecord]) -> Chart | str:
    """Box plots of the time, a box a cell with at least LEAST finished repeats."""
    measure = times(runs)[0]
    cells: dict[tuple[object, ...], list[tuple[RunRecord, float]]] = defaultdict(list)
    for run in in_order(runs, [*IDENTITY, *GRID]):
        if not failed(run) and (value := measure.of(run)) is not None:
            cells[tuple(getattr(run, name) for name in (*IDENTITY, *GRID))].append((run, value))
    every = [cell for cell in cells.values() if len(cell) >= LEAST]
    if not every:
        return f"no cell has {LEAST} finished runs"
    step = -(-len(every) // BARS)
    boxes = every[::step]
    divisor, axis = scale("s", measure.title, [value for cell in boxes for _, value in cell])
    names = telling([cell[0][0] for cell in boxes], [*IDENTITY, *GRID]) or list(GRID)
    thin = max(1, sum(map(len, boxes)) // POINTS)
    rows = [
        {"row": f"{label(cell[0][0], names)} (n={len(cell)})", "y": value / divisor, "run": run.run_id}
        for cell in boxes
        for run, value in cell[::thin]
    ]
    along = {"field": "y", "type": "quantitative", "title": axis, "scale": {"zero": True}}
    spec = {
        "data": {"values": rows},
        "height": {"step": 26},
        "usermeta": {"columns": 1},
        "encoding": {"y": {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 340}}, "x": along},
        "layer": [
            {"mark": {"type": "boxplot", "extent": "min-max", "size": 14, "color": "#56B4E9", "median": {"color": "currentColor"}}},
            {
                "mark": {"type": "tick", "opacity": 0.6, "color": "currentColor"},
                "encoding": {"tooltip": [*_tips(run="run"), {"field": "y", "title": axis, "format": ".4~g"}]},
            },
        ],
    }
    notes = [f"{len(boxes)} of {len(every)} cells are drawn, one in {step}."] if step > 1 else []
    if thin > 1:
        notes.append(f"One repeat in {thin} is used.")
    return Chart("Repeats", "How much do repeats of one cell differ?", [(axis, spec)], " ".join(notes))


def all_variants(found: Sequence[Chart]) -> Iterator[Spec]:
    for chart in found:
        for _, spec in chart.variants:
            yield spec
