"""Interactive plots of the grid: every metric against batch size and epochs, and quality against time."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import (
    GRID,
    IDENTITY,
    RUN_COLUMNS,
    distinct,
    failed,
    fullest,
    label,
    present,
    telling,
    title,
    varying,
)
from yoloperf.report.evidence import quality, times
from yoloperf.report.plots_tradeoff import front
from yoloperf.report.vega import POINTS, SERIES, Chart, Spec, faded, pick, scale, scaled, tips


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
            "line": label(RunRecord(**{other: line}), [other]) if line else "not recorded",
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
    tooltip = tips(series="set-up", line=title(other), x=title(x), shown=title(name), n="runs")
    colour = {"field": "series", "type": "nominal", "title": None, "scale": {"domain": list(kept)}}
    shape = {"field": "line", "type": "nominal", "title": title(other), "sort": lines}
    at = {"field": "x", "type": "quantitative", "title": title(x), "axis": {"values": ticks, "format": "d"}}
    at |= {"scale": {"type": "log", "base": 2, "nice": False, "padding": 12} if log else {"nice": False, "zero": False, "padding": 12}}
    up = {"field": "y", "type": "quantitative", "title": axis, "scale": {"zero": True}}
    layer: list[Spec] = [
        {
            "params": [pick()],
            "mark": {"type": "line", "strokeWidth": 1.8},
            "transform": [{"filter": "isValid(datum.y)"}],
            "encoding": {"y": up, "strokeDash": shape | {"legend": None}, "opacity": faded()},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 55},
            "transform": [{"filter": "isValid(datum.y)"}],
            "encoding": {"y": up, "shape": shape, "opacity": faded(), "tooltip": tooltip},
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
        notes += f" Besides those, one run in {-(-len(finished) // POINTS)} is drawn."
    return Chart("Quality against time", "Which runs are the best for their time?", variants, notes)


def _tradeoff_spec(points: Sequence[tuple[RunRecord, float, float]], unit: str, across: str, up: str, least: bool) -> Spec:
    divisor, axis = scale(unit, across, [x for _, x, _ in points])
    best = set(front([(x if least else -x, y) for _, x, y in points]))
    every = -(-len(points) // POINTS)
    many = len({(run.model, run.platform) for run, *_ in points}) > SERIES
    rows = []
    for k, (run, x, y) in enumerate(points):
        if k in best or k % every == 0:
            where = ", ".join(part for part in (run.model, None if many else run.platform) if part) or "runs"
            row: Spec = {"series": where, "x": x / divisor, "y": y, "run": run.run_id, "what": label(run, GRID)}
            rows.append(row | {"best": k in best})
    x_axis = {"field": "x", "type": "quantitative", "title": axis}
    y_axis = {"field": "y", "type": "quantitative", "title": up, "scale": {"domain": [0, 1]}}
    colour = {"field": "series", "type": "nominal", "title": None}
    hints = tips(run="run", what="cell", y=up, x=axis)
    hints[2]["format"] = hints[3]["format"] = ".3~f"
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
                "params": [pick()],
                "mark": {"type": "point", "filled": True, "size": 70},
                "encoding": {"x": x_axis, "y": y_axis, "color": colour, "shape": colour, "opacity": faded(), "tooltip": hints},
            },
        ],
    }
