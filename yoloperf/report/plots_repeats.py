"""How much repeats of the same cell differ."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import GRID, IDENTITY, failed, in_order, label, varying
from yoloperf.report.evidence import Measure, times
from yoloperf.report.style import figure, x_time

LEAST = 3  # of repeats; two points are no box
BOXES = 32


def repeats(runs: Sequence[RunRecord]) -> Iterator[Figure]:
    """Box plots of the time, a box a cell with at least LEAST finished repeats, and every repeat as a point."""
    measure = times(runs)[0]
    keys = [*IDENTITY, *GRID]
    cells: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    for run in in_order(runs, keys):
        if not failed(run) and measure.of(run) is not None:
            cells[tuple(getattr(run, name) for name in keys)].append(run)
    boxes = [cell for cell in cells.values() if len(cell) >= LEAST]
    for first in range(0, len(boxes), BOXES):
        yield _boxes(boxes[first : first + BOXES], measure)


def _boxes(cells: list[list[RunRecord]], measure: Measure) -> Figure:
    fig = figure(0.3 * len(cells) + 0.9)
    axes = fig.subplots()
    every = [run for cell in cells for run in cell]
    keys = [*varying(every, IDENTITY), *GRID]
    values = [[value for run in cell if (value := measure.of(run)) is not None] for cell in cells]
    axes.boxplot(values, orientation="horizontal", widths=0.6, showfliers=False, medianprops={"color": "black", "linewidth": 2})
    for row, points in enumerate(values, 1):
        axes.plot(points, [row] * len(points), "o", color="#0072B2", markersize=3, alpha=0.6)
    axes.set_yticks(range(1, len(cells) + 1), [f"{label(cell[0], keys)} (n={len(cell)})" for cell in cells], fontsize=8.5)
    axes.set_ylim(len(cells) + 0.6, 0.4)
    x_time(axes, measure.title, max(map(max, values)))
    return fig
