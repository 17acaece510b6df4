"""What the device did while a run lasted: utilisation, power, memory and clock over time."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import GRID, IDENTITY, in_order, label, telling
from yoloperf.report.device import QUANTITIES, Series, series
from yoloperf.report.style import figure, line, x_time, y_axis

RUNS = 6  # of a figure: more lines that go up and down nobody follows


def device(runs: Sequence[RunRecord], bases: Sequence[Path] = ()) -> Iterator[Figure]:
    """A panel a quantity, a line a run and device."""
    sampled = [(run, found) for run in in_order(runs, [*IDENTITY, *GRID, "seed", "run_id"]) if (found := series(run, bases))]
    names = telling([run for run, _ in sampled], [*IDENTITY, *GRID, "seed"]) or list(GRID)
    for first in range(0, len(sampled), RUNS):
        yield _device([(label(run, names), found) for run, found in sampled[first : first + RUNS]])


def _device(runs: list[tuple[str, list[Series]]]) -> Figure:
    kinds = [name for name in QUANTITIES if any(item.quantity == name for _, found in runs for item in found)]
    across = 2 if len(kinds) > 1 else 1
    down = math.ceil(len(kinds) / across)
    fig = figure(2.3 * down + 0.2 * len(runs) + 0.5)
    panels = fig.subplots(down, across, squeeze=False).ravel()
    end = max(x for _, found in runs for item in found for x, _ in item.points)
    for axes, kind in zip(panels, kinds, strict=False):
        words, unit = QUANTITIES[kind]
        top = 0.0
        for number, (_, found) in enumerate(runs):
            for item in (item for item in found if item.quantity == kind):
                look = line(number) | {"marker": "", "linewidth": 1.1}
                axes.plot([x for x, _ in item.points], [y for _, y in item.points], **look)
                top = max(top, *(y for _, y in item.points))
        axes.set_title(f"{words} ({unit})" if unit not in ("", "B") else words)
        x_time(axes, "time", end)
        y_axis(axes, unit, 102 if unit == "%" else top * 1.06 or 1)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], **(line(number) | {"marker": ""})) for number in range(len(runs))]
    fig.legend(handles, [words for words, _ in runs], loc="outside lower center", ncols=min(3, len(runs)))
    return fig
