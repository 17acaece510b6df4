"""Figures from records, each the answer to one question; the one who calls saves them."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from yoloperf.core.record import EpochRecord, RunRecord, columns, shown
from yoloperf.report.columns import (
    GRID,
    IDENTITY,
    RUN_COLUMNS,
    differing,
    distinct,
    failed,
    fullest,
    in_order,
    label,
    place,
    present,
    title,
    varying,
)
from yoloperf.report.render import middle_out
from yoloperf.report.style import FILLS, HATCHES, UNITS, clock, figure, line, run_ticks, y_axis

LINES = 16  # more lines in one figure, and nobody finds one again
ROWS = 4  # groups of a figure
BARS = 40  # of one panel
LEGEND = 4  # entries side by side
FRACTIONS = ("precision", "recall", "map50", "map50_95")
CURVES = ("box_loss", "obj_loss", "cls_loss", "dfl_loss", *FRACTIONS)

Group = tuple[str, list[RunRecord]]


def groups(runs: Sequence[RunRecord]) -> list[Group]:
    """Runs that differ in nothing but batch size, epochs and repeats, with a heading that says which they are."""
    names = varying(runs, IDENTITY)
    parts: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in in_order(runs, [*IDENTITY, *GRID, "seed", "run_id"]):
        parts.setdefault(tuple(getattr(run, name) for name in names), []).append(run)
    rest = [name for name in differing(runs, names) if name not in ("platform", "model")]
    return [(", ".join([place(part), *([label(part[0], rest)] if rest else [])]), part) for part in parts.values()]


def pages(runs: Sequence[RunRecord]) -> Iterator[list[Group]]:
    """Groups, as many as one figure takes."""
    every = groups(runs)
    for first in range(0, len(every), ROWS):
        yield every[first : first + ROWS]


def curves(group: Group, epochs: Sequence[EpochRecord]) -> Iterator[Figure]:
    """Losses and detection quality by epoch, a line a run; runs beyond LINES go on in the next figure."""
    heading, runs = group
    by_run: dict[str | None, list[EpochRecord]] = defaultdict(list)
    for record in epochs:
        if record.epoch is not None:
            by_run[record.run_id].append(record)
    drawn = [run for run in runs if run.run_id in by_run]
    for first in range(0, len(drawn), LINES):
        yield _curves(heading, drawn[first : first + LINES], by_run)


def _curves(heading: str, runs: list[RunRecord], by_run: dict[str | None, list[EpochRecord]]) -> Figure:
    records = [record for run in runs for record in by_run[run.run_id]]
    names = [name for name in CURVES if any(getattr(record, name) is not None for record in records)]
    across = 3 if len(names) in (3, 5, 6) else min(len(names), 4)
    down = math.ceil(len(names) / across)
    fig = figure(2.6 * down + 0.2 * math.ceil(len(runs) / LEGEND) + 0.6)
    panels = fig.subplots(down, across, squeeze=False).ravel()
    looks = _looks(runs)
    for axes, name in zip(panels, names, strict=False):
        for run, look in zip(runs, looks, strict=True):
            points = sorted((record.epoch, getattr(record, name)) for record in by_run[run.run_id] if getattr(record, name) is not None)
            axes.plot([x for x, _ in points], [y for _, y in points], **look, markevery=max(1, len(points) // 6))
        words = str(columns(EpochRecord)[name].metadata["title"])
        axes.set_title(words if name in FRACTIONS else f"{words} loss")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        top = max((getattr(record, name) for record in records if getattr(record, name) is not None), default=1) * 1.06 or 1
        y_axis(axes, top=top, fraction=name in FRACTIONS)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], **look) for look in looks]
    fig.legend(handles, _labels(runs), loc="outside lower center", ncols=min(LEGEND, len(runs)))
    fig.suptitle(heading)
    return fig


def _looks(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A look for every line. In a grid, colour and marker say the batch size and the dash says the epochs."""
    cells = [(run.batch_size, run.epochs) for run in runs]
    sizes, lengths = distinct(runs, "batch_size"), distinct(runs, "epochs")
    if len(set(cells)) == len(runs) and len(sizes) > 1 and len(lengths) > 1 and not any(None in cell for cell in cells):
        return [line(sizes.index(size), lengths.index(length)) for size, length in cells]
    return [line(number) for number in range(len(runs))]


def _labels(runs: Sequence[RunRecord]) -> list[str]:
    """Each run of a group by its batch size and epochs; repeats are numbered."""
    names = [label(run, GRID) for run in runs]
    return [f"{name} #{names[:k].count(name) + 1}" if names.count(name) > 1 else name for k, name in enumerate(names)]


def grid_metrics(runs: Sequence[RunRecord]) -> list[str]:
    """What the grid shows: time, memory, quality, each by the best column that has a value."""
    time = fullest(runs, ("wall_s", "user_s"))
    memory = present(runs, ("max_rss_bytes", "gpu_mem_peak_bytes"))
    quality = ["map50"] if fullest(runs, ("map50", "recall")) == ["map50"] else present(runs, ("precision", "recall"))
    return [*time, *memory, *quality]


def grid(page: Sequence[Group], x: str, metrics: Sequence[str]) -> Figure:
    """The metrics against `x`, batch_size or epochs, with a line for each value of the other; a row a group.

    Repeats show as their median with bars from the least to the greatest; a failed cell is a cross on the floor.
    """
    every = [run for _, runs in page for run in runs]
    other = GRID[1 - GRID.index(x)]
    values, others = distinct(every, x), distinct(every, other)
    fig = figure(2.45 * len(page) + 0.7)
    rows = fig.subfigures(len(page), 1, squeeze=False).ravel()
    for part, (heading, runs) in zip(rows, page, strict=True):
        part.suptitle(heading, fontweight="bold", fontsize=10)
        panels = part.subplots(1, len(metrics), squeeze=False).ravel()
        for axes, name in zip(panels, metrics, strict=True):
            unit = RUN_COLUMNS[name].metadata["unit"]
            top = max((getattr(run, name) for run in every if drawable(run, name)), default=1) * 1.06 or 1
            axes.set_title(title(name, runs) + clock(unit, top))
            axes.set_xlabel(title(x))
            run_ticks(axes, values, log=x == "batch_size" and values[0] > 0)
            y_axis(axes, unit, top, fraction=name in FRACTIONS)
            for number, value in enumerate(others):
                _grid_line(axes, [run for run in runs if getattr(run, other) == value], x, name, number)
    handles = [Line2D([], [], **line(number)) for number in range(len(others))]
    names = [label(RunRecord(**{other: value}), [other]) for value in others]
    if any(map(failed, every)):
        handles.append(Line2D([], [], marker="x", color="black", linestyle="", markersize=8, mew=2))
        names.append("failed")
    fig.legend(handles, names, loc="outside lower center", ncols=min(8, len(names)))
    return fig


def drawable(run: RunRecord, name: str) -> bool:
    """Whether the run has that figure and did not fail."""
    return getattr(run, name) is not None and not failed(run)


def _grid_line(axes: Axes, runs: Sequence[RunRecord], x: str, name: str, number: int) -> None:
    """One line; it is broken at a cell in which every run failed."""
    cells: dict[Any, list[float]] = {getattr(run, x): [] for run in in_order(runs, [x]) if getattr(run, x) is not None}
    for run in runs:
        if getattr(run, x) in cells and drawable(run, name):
            cells[getattr(run, x)].append(getattr(run, name))
    look = line(number)
    middle = [median(values) if values else math.nan for values in cells.values()]
    axes.plot(list(cells), middle, **look)
    repeated = {at: values for at, values in cells.items() if len(values) > 1}
    if repeated:
        least = [median(values) - min(values) for values in repeated.values()]
        most = [max(values) - median(values) for values in repeated.values()]
        centres = [median(values) for values in repeated.values()]
        axes.errorbar(list(repeated), centres, yerr=[least, most], fmt="none", ecolor=look["color"], capsize=3)
    for run in runs:
        if failed(run) and getattr(run, x) is not None:
            _cross(axes, getattr(run, x), look["color"])


def _cross(axes: Axes, at: float, colour: str) -> None:
    for width, ink in ((4.5, "white"), (2.2, colour)):
        axes.plot(at, 0.06, "x", color=ink, markersize=9, mew=width, transform=axes.get_xaxis_transform(), zorder=5)


def kernels(runs: Sequence[RunRecord]) -> Iterator[Figure]:
    """The average time of each run's biggest kernel; the hatch says which kernel it is."""
    measured = [run for run in runs if drawable(run, "biggest_kernel_avg_s")]
    parts = [(heading, part[k : k + BARS]) for heading, part in groups(measured) for k in range(0, len(part), BARS)]
    for first in range(0, len(parts), ROWS):
        yield _kernels(parts[first : first + ROWS])


def _kernels(page: Sequence[Group]) -> Figure:
    every = [run for _, runs in page for run in runs]
    names = list(dict.fromkeys(run.biggest_kernel_name for run in every))
    across = 2 if len(page) > 1 else 1
    down = math.ceil(len(page) / across)
    bars = max(len(runs) for _, runs in page)
    fig = figure(down * (0.2 * bars + 0.75) + 0.22 * len(names) + 0.3)
    cells = fig.subfigures(down, across, squeeze=False).ravel()
    top = max(run.biggest_kernel_avg_s or 0 for run in every)
    for part, (heading, runs) in zip(cells, page, strict=False):
        _kernel_bars(part, heading, runs, names, top)
    patches = [Patch(**fill(number)) for number in range(len(names))]
    fig.legend(patches, [middle_out(str(name), 90) for name in names], loc="outside lower left", ncols=1, handlelength=2.5)
    return fig


def _kernel_bars(part: SubFigure, heading: str, runs: list[RunRecord], names: list[str | None], top: float) -> None:
    part.suptitle(heading, fontweight="bold", fontsize=10)
    axes = part.subplots()
    for row, run in enumerate(runs):
        number = names.index(run.biggest_kernel_name)
        width = run.biggest_kernel_avg_s or 0
        axes.barh(row, width, height=0.72, linewidth=0.6, **fill(number))
        axes.text(width, row, "  " + shown(RUN_COLUMNS["biggest_kernel_avg_s"], width), va="center", fontsize=8.5)
    axes.set_yticks(range(len(runs)), _labels(runs), fontsize=8.5)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(title("biggest_kernel_avg_s", runs))
    axes.set_xlim(0, top * 1.18 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(UNITS["s"])


def fill(number: int) -> dict[str, Any]:
    """Look of the n-th kind of bar."""
    return {"facecolor": FILLS[number % len(FILLS)], "edgecolor": "black", "hatch": HATCHES[number % len(HATCHES)]}
