"""Interactive plots of what went on within runs: curves, kernels, operators, the device; and how much repeats differ."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from yoloperf.core.record import EpochRecord, RunRecord, columns, shown
from yoloperf.parsing.operators import OPERATORS, OTHER
from yoloperf.report.columns import (
    GRID,
    IDENTITY,
    RUN_COLUMNS,
    distinct,
    failed,
    in_order,
    label,
    telling,
    title,
)
from yoloperf.report.device import QUANTITIES
from yoloperf.report.device import series as series_of
from yoloperf.report.evidence import times
from yoloperf.report.load import Records
from yoloperf.report.plots_operators import DOMAINS
from yoloperf.report.plots_repeats import LEAST
from yoloperf.report.vega import BARS, POINTS, SERIES, Chart, Spec, faded, pick, row_labels, scale, scaled, tips

LINES = 48  # curves of one plot
CURVES = ("map50", "map50_95", "precision", "recall", "box_loss", "obj_loss", "cls_loss", "dfl_loss", "images_per_s")
SAMPLED = 400  # runs whose samples are read


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
    hints = [*tips(run="run", x="epoch"), {"field": "y", "title": words, "format": ".4~g"}]
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
            "opacity": faded(),
        },
        "layer": [
            {"params": [pick()], "mark": {"type": "line", "strokeWidth": 1.6}},
            {"mark": {"type": "point", "filled": True, "size": 18}, "encoding": {"tooltip": hints}},
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
    words = row_labels(drawn)
    names = [run.biggest_kernel_name or "name not recorded" for run in drawn]
    common = [name for name, _ in Counter(names).most_common()]
    kept = common if len(common) <= SERIES else common[: SERIES - 1]
    rows = [
        {
            "row": word,
            "y": (run.biggest_kernel_avg_s or 0) / divisor,
            "shown": shown(RUN_COLUMNS["biggest_kernel_avg_s"], run.biggest_kernel_avg_s),
            "series": name if name in kept else "other kernels",
            "kernel": name,
            "share": shown(RUN_COLUMNS["biggest_kernel_share"], run.biggest_kernel_share),
        }
        for word, name, run in zip(words, names, drawn, strict=True)
    ]
    spec = {
        "data": {"values": rows},
        "height": {"step": 17},
        "usermeta": {"columns": 1, "legend": "bottom"},
        "params": [pick()],
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "row", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 340}},
            "x": {"field": "y", "type": "quantitative", "title": axis},
            "color": {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "bottom", "columns": 1, "labelLimit": 620}},
            "opacity": faded(),
            "tooltip": tips(row="run", kernel="kernel", shown="average", share="share of its domain"),
        },
    }
    note = "" if step == 1 else f"{len(drawn)} of {len(every)} runs are drawn, one in {step}."
    return Chart("Biggest kernel", "How long is one call of the biggest kernel?", [(axis, spec)], note)


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
        for word, run in zip(row_labels(drawn), drawn, strict=True):
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
    """Parts have edges and one order, that of the legend, so that they are told apart without their colours, too."""
    return {
        "data": {"values": rows},
        "height": {"step": 22},
        "usermeta": {"columns": 1},
        "params": [pick()],
        "mark": {"type": "bar", "stroke": "currentColor", "strokeWidth": 0.7},
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
            "opacity": faded(),
            "tooltip": [*tips(row="run", series="operator"), {"field": "share", "title": "share", "format": ".1%"}],
        },
    }


def device(runs: Sequence[RunRecord], bases: Sequence[Path]) -> Chart | str:
    """What was sampled while a run lasted, a line a run and device."""
    sampled = [(run, found) for run in in_order(runs, [*IDENTITY, *GRID, "seed", "run_id"])[:SAMPLED] if (found := series_of(run, bases))]
    if not sampled:
        which = "no run has" if len(runs) <= SAMPLED else f"none of the first {SAMPLED} runs has"
        return f"{which} samples of its device: device.csv of a run folder holds them"
    drawn = sampled[:: -(-len(sampled) // SERIES)]
    names = telling([run for run, _ in drawn], [*IDENTITY, *GRID, "seed"]) or ["run_id"]
    end, along = scale("s", "time", [x for _, found in drawn for item in found for x, _ in item.points])
    variants = []
    for kind, (words, unit) in QUANTITIES.items():
        items = [(label(run, names), k, item) for k, (run, found) in enumerate(drawn) for item in found if item.quantity == kind]
        divisor, up = scale(unit, words, [y for *_, item in items for _, y in item.points])
        rows = [
            {"series": name, "id": k, "gpu": item.gpu, "x": round(x / end, 4), "y": float(f"{y / divisor:.4g}")}
            for name, k, item in items
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
        "params": [pick()],
        "mark": {"type": "line", "strokeWidth": 1.3, "tooltip": True},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "title": along, "scale": {"nice": False}},
            "y": y,
            "color": {"field": "series", "type": "nominal", "title": None, "sort": None},
            "strokeDash": {"field": "series", "type": "nominal", "title": None, "sort": None},
            "detail": [{"field": "id"}, {"field": "gpu"}],
            "opacity": faded(),
            "tooltip": [*tips(series="run", gpu="GPU"), {"field": "x", "title": along, "format": ".3~g"}, {"field": "y", "title": up}],
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
                "encoding": {"tooltip": [*tips(run="run"), {"field": "y", "title": axis, "format": ".4~g"}]},
            },
        ],
    }
    notes = [f"{len(boxes)} of {len(every)} cells are drawn, one in {step}."] if step > 1 else []
    if thin > 1:
        notes.append(f"One repeat in {thin} is used.")
    return Chart("Repeats", "How much do repeats of one cell differ?", [(axis, spec)], " ".join(notes))
