"""Which differences of a comparison are more than chance, and, where there are no repeats, what it takes to tell."""

from collections.abc import Sequence
from dataclasses import Field, dataclass
from typing import Any

from yoloperf.core.record import shown
from yoloperf.report.columns import RUN_COLUMNS, failed, title
from yoloperf.report.compare import Cell, Comparison, ratio
from yoloperf.report.render import Row, Table
from yoloperf.report.statistics import ALPHA, Spread, holm, rank_test, repeats_needed, spread


@dataclass(frozen=True)
class Tested:
    """One level against the baseline in one cell. `p` is corrected for all the tests made together (Holm)."""

    metric: str
    key: tuple[Any, ...]
    level: Any
    baseline: Spread
    other: Spread
    ratio: float | None
    p: float
    effect: float

    @property
    def significant(self) -> bool:
        return self.p <= ALPHA


def significance(comparison: Comparison, metrics: Sequence[str]) -> list[Tested]:
    """A rank test for every cell, level and metric that has at least two finished repeats on both sides."""
    found = []
    for metric in metrics:
        for cell in comparison.cells:
            base = cell.values(comparison.baseline, metric)
            for level in comparison.levels:
                other = cell.values(level, metric)
                test = rank_test(base, other) if level != comparison.baseline else None
                if test:
                    share = ratio(cell, level, comparison.baseline, metric)
                    found.append(Tested(metric, cell.key, level, spread(base), spread(other), share, test.p, test.effect))
    adjusted = holm([item.p for item in found])
    return [Tested(**{**vars(item), "p": p}) for item, p in zip(found, adjusted, strict=True)]


def verdict(comparison: Comparison, metrics: Sequence[str], tested: Sequence[Tested]) -> str:
    """What may be said about chance in these metrics, in a sentence; without enough repeats, which runs would settle it."""
    if not tested:
        pairs = sum(_pairs(cell, comparison.baseline) for cell in comparison.cells)
        tests = [_tests(comparison, cell, metrics) for cell in comparison.cells]
        one, every = repeats_needed(max(tests)), repeats_needed(sum(tests))
        return (
            f"no difference here is called significant: no cell has repeats on both sides. "
            f"{one} runs of a cell on each side could settle that cell, {every} of each all {pairs} at once"
        )
    least, wanted = min(min(item.baseline.count, item.other.count) for item in tested), repeats_needed(len(tested))
    sure = sum(item.significant for item in tested)
    text = f"{sure} of {len(tested)} differences are significant (rank test, p <= {ALPHA} after Holm's correction)"
    return text if least >= wanted or sure == len(tested) else f"{text}; with {wanted} runs of each cell every one of them could be"


def _pairs(cell: Cell, baseline: Any) -> int:
    """Levels beside a finished baseline that have a finished run themselves."""
    there = {level for level, runs in cell.runs.items() if not all(map(failed, runs))}
    return len(there) - 1 if baseline in there else 0


def _tests(comparison: Comparison, cell: Cell, metrics: Sequence[str]) -> int:
    """Tests that repeats of this cell would make, all of which Holm's correction counts: levels x metrics that both sides have."""
    sides = [(comparison.baseline, level) for level in comparison.levels if level != comparison.baseline]
    return sum(all(cell.values(level, metric) for level in pair) for pair in sides for metric in metrics)


def repeats_table(comparison: Comparison, tested: Sequence[Tested]) -> Table:
    """Both sides of every test: median, median absolute deviation, 95 % interval of the median, p and effect size."""
    rows, best = [], set()
    for item in tested:
        column = RUN_COLUMNS[item.metric]
        keys = [shown(RUN_COLUMNS[name], value) for name, value in zip(comparison.keys, item.key, strict=True)]
        sides = [text for side in (item.baseline, item.other) for text in _side(side, column)]
        rows.append(Row([title(item.metric), *keys, str(item.level), *sides, f"{item.p:.2g}", f"{item.effect:+.2f}"]))
        if item.significant:
            best.add((len(rows) - 1, len(rows[-1].cells) - 2))
    base = str(comparison.baseline)
    headings = ["metric", *map(title, comparison.keys), title(comparison.by)]
    headings += [f"{base} runs", f"{base} median", "95 % interval", "runs", "median", "95 % interval", "p (Holm)", "Cliff's delta"]
    text = 2 + len(comparison.keys)
    numeric = [False] * text + [True] * (len(headings) - text)
    return Table(headings, numeric, rows, "Repeats: median ± median absolute deviation; * significant", text, frozenset(best))


def _side(side: Spread, column: Field[Any]) -> list[str]:
    interval = "" if side.interval is None else " to ".join(shown(column, value) for value in side.interval)
    return [str(side.count), f"{shown(column, side.median)} ± {shown(column, side.mad)}", interval]
