"""Where the time of a training step goes: the profile's kernels, summed by what they do."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from yoloperf.core.record import KernelRecord, RunRecord
from yoloperf.parsing.operators import OPERATORS, OTHER
from yoloperf.report.columns import GRID, IDENTITY, in_order, label, varying
from yoloperf.report.plots import fill
from yoloperf.report.style import figure

ROWS = 32  # bars of a figure
DOMAINS = {"gpu": "time on the GPU", "cpu": "time on the CPU"}


def operators(runs: Sequence[RunRecord], kernels: Sequence[KernelRecord], domain: str) -> Iterator[Figure]:
    """A bar a run, cut into the parts of each kind of operator in the time of one domain, gpu or cpu."""
    totals: dict[str | None, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for record in kernels:
        if record.domain == domain and record.total_s:
            totals[record.run_id][record.operator or OTHER] += record.total_s
    drawn = in_order([run for run in runs if run.run_id in totals], [*IDENTITY, *GRID, "seed", "run_id"])
    kinds = [kind for kind in OPERATORS if any(kind in totals[run.run_id] for run in drawn)]
    for first in range(0, len(drawn), ROWS):
        yield _operators(drawn[first : first + ROWS], totals, kinds, DOMAINS[domain])


def _operators(runs: list[RunRecord], totals: dict[str | None, dict[str, float]], kinds: list[str], what: str) -> Figure:
    fig = figure(0.26 * len(runs) + 0.2 * len(kinds) / 3 + 1.5)
    axes = fig.subplots()
    for row, run in enumerate(runs):
        parts, left = totals[run.run_id], 0.0
        for number, kind in enumerate(kinds):
            share = parts.get(kind, 0.0) / sum(parts.values())
            axes.barh(row, share, left=left, height=0.75, linewidth=0.6, **fill(number))
            left += share
    keys = [*varying(runs, IDENTITY), *GRID]
    axes.set_yticks(range(len(runs)), [label(run, keys) for run in runs], fontsize=8.5)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(visible=False)
    axes.set_xlabel(f"part of the profile's {what}")
    fig.legend([Patch(**fill(number)) for number in range(len(kinds))], kinds, loc="outside lower center", ncols=4, handlelength=2.5)
    return fig
