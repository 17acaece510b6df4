"""What quality costs in time: every run as a point, and those that no other run beats in both."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import GRID, failed, label
from yoloperf.report.evidence import quality, times
from yoloperf.report.plots import groups
from yoloperf.report.style import figure, line, x_time, y_axis

LABELS = 8  # points of the front that are named, the best ones
NAMED = 0.5  # of the best quality: what is less is of no use


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that are not dominated: no other is at most as far right and at least as high, and better in one."""
    best = float("-inf")
    kept = []
    for k in sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1])):
        if points[k][1] > best:
            kept.append(k)
            best = points[k][1]
    return kept


def tradeoff(runs: Sequence[RunRecord]) -> Iterator[Figure]:
    """Quality against time, a marker for each group; nothing where fewer than two runs have both."""
    time, grade = times(runs)[-1], quality(runs)
    named = [(heading, run) for heading, part in groups(runs) for run in part if not failed(run)]
    points = [(heading, run, x, y) for heading, run in named if (x := time.of(run)) and (y := grade.of(run)) is not None]
    if len(points) < 2:
        return
    fig = figure(6)
    axes = fig.subplots()
    headings = list(dict.fromkeys(heading for heading, *_ in points))
    for number, heading in enumerate(headings):
        here = [(x, y) for name, _, x, y in points if name == heading]
        axes.plot(*zip(*here, strict=True), **line(number) | {"linestyle": ""}, label=heading, markersize=7)
    best = [points[k] for k in front([(x, y) for *_, x, y in points])]
    axes.step([x for *_, x, _ in best], [y for *_, y in best], where="post", color="#777777", zorder=0, label="best for the time")
    x_time(axes, time.title, max(x for *_, x, _ in points))
    y_axis(axes, fraction=True)
    axes.set_ylabel(grade.title)
    fig.legend(loc="outside lower left")
    # above and left of the front there is no point, so numbers find room there
    worth = [item for item in best if item[3] >= NAMED * best[-1][3]][-LABELS:]
    handles = []
    for number, (heading, run, x, y) in enumerate(worth, 1):
        axes.annotate(str(number), (x, y), xytext=(-6, 5), textcoords="offset points", ha="right", fontsize=9, fontweight="bold")
        handles.append(Line2D([], [], linestyle="", label=f"{number}  {heading}, {label(run, GRID)}"))
    fig.legend(handles=handles, loc="outside lower right", handlelength=0)
    yield fig
