"""What one column does, everything else equal: values side by side, ratios against a baseline, and what speaks against it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import BETTER, GRID, RUN_COLUMNS, distinct, failed, fullest, in_order, present, title
from yoloperf.report.fairness import DISTURBING, IMPLIED, Fairness, condition, judge
from yoloperf.report.render import Row, Table

BY = ("platform", "model", "batch_size", "epochs", "precision_mode", "engine")
# what repeats must have in common where a level has several of it; what a level has one of is a matter of fairness
_SPLIT = ("platform", "gpu_name", "cpu_name", "engine", "precision_mode", "weights", "hyp", "threads", "workers", "processes")
_CELL = ("model", "dataset", "img_size", *GRID, "accumulate", "lr_scale")


@dataclass(frozen=True)
class Cell:
    """Runs that differ in nothing but the compared column and repeats: level -> its runs."""

    key: tuple[Any, ...]
    runs: dict[Any, list[RunRecord]]

    def values(self, level: Any, metric: str) -> list[float]:
        """What the runs of a level measured, failed ones left out."""
        return [getattr(run, metric) for run in self.runs.get(level, []) if not failed(run) and getattr(run, metric) is not None]


@dataclass(frozen=True)
class Comparison:
    """The cells that two levels of `by` or more have in common."""

    by: str
    levels: list[Any]
    baseline: Any
    keys: list[str]
    cells: list[Cell]
    alone: int = 0  # runs without a counterpart
    cautions: list[str] = field(default_factory=list)


def match(runs: Sequence[RunRecord], by: str, baseline: str | None = None) -> Comparison:
    """Match the runs cell by cell across the values of `by`. Raises UserError where there is nothing to compare."""
    choose(by, BY, "column to compare by")
    levels = distinct(runs, by)
    if len(levels) < 2:
        there = f"only {levels[0]}" if levels else "not recorded"
        raise UserError(f"nothing to compare by {by}: it is {there} in these runs; choose another of {', '.join(BY)}, or add runs")
    split: list[str] = []
    for name in _SPLIT:
        within = (by, "platform") if "platform" in split else (by,)  # each device of its own platform is told by that
        if name not in (by, *IMPLIED.get(by, ())) and _varies_within(runs, within, name):
            split.append(name)
    keys = [name for name in (*split, *_CELL) if name != by]
    found: dict[tuple[Any, ...], dict[Any, list[RunRecord]]] = {}
    for run in in_order([run for run in runs if getattr(run, by) is not None], keys):
        found.setdefault(tuple(condition(run, name) for name in keys), {}).setdefault(getattr(run, by), []).append(run)
    cells = [Cell(key, levels_of) for key, levels_of in found.items() if len(levels_of) > 1]
    if not cells:
        raise UserError(f"no two values of {by} share a cell: no run on one has the same {', '.join(keys)} as a run on another")
    counts = Counter(level for cell in cells for level in cell.runs)
    levels = [level for level in levels if counts[level]]
    base = max(levels, key=lambda level: counts[level]) if baseline is None else _level(levels, baseline, by)
    matched = [run for cell in cells for part in cell.runs.values() for run in part]
    places = [k for k in range(len(keys)) if len({cell.key[k] for cell in cells}) > 1]
    cells = [Cell(tuple(cell.key[k] for k in places), cell.runs) for cell in cells]
    return Comparison(by, levels, base, [keys[k] for k in places], cells, len(runs) - len(matched), _cautions(cells, by, base))


def _varies_within(runs: Sequence[RunRecord], within: Sequence[str], name: str) -> bool:
    """Whether a column is known to have several values among finished runs that are alike in `within`."""
    known: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    for run in _finished(runs):
        known[tuple(getattr(run, column) for column in within)].add(condition(run, name))
    return any(len(values - {None}) > 1 for values in known.values())


def _level(levels: Sequence[Any], word: str, by: str) -> Any:
    named = {str(level): level for level in levels}
    return named[choose(word, named, f"baseline {by}")]


def _cautions(cells: Sequence[Cell], by: str, baseline: Any) -> list[str]:
    """What else differs from the baseline's first run, and repeats from the first run of their own level, each with its number of pairs."""
    seen: Counter[str] = Counter()
    count = 0
    for cell in cells:
        first = _finished(cell.runs.get(baseline, []))
        others = [_finished(part) for level, part in cell.runs.items() if level != baseline]
        for repeats in (first, *others) if first else ():
            for second in repeats if repeats is not first else first[1:]:
                count += 1
                said = _said(judge(first[0], second, [by]))
                if second is not repeats[0]:  # nothing differs by its nature within a level
                    said += _said(judge(repeats[0], second))
                seen.update(dict.fromkeys(said, 1))
    ranked = sorted(seen.items(), key=lambda item: (not item[0].startswith("NOT"), -item[1]))
    return [f"{text} ({times} of {count} pairs)" for text, times in ranked]


def _said(fairness: Fairness) -> list[str]:
    lines = []
    for name, (one, two) in {**fairness.work, **fairness.conditions}.items():
        column = RUN_COLUMNS[name]
        kind = "NOT THE SAME WORK: " if name in fairness.work else ""
        lines.append(f"{kind}{column.metadata['title']} differs: {shown(column, one)} and {shown(column, two)}")
    for name in fairness.disturbed:
        least = shown(RUN_COLUMNS[name], DISTURBING[name])
        lines.append(f"{RUN_COLUMNS[name].metadata['title']}: {least} or more in one of the two or both")
    lines += [f"{RUN_COLUMNS[name].metadata['title']} is not recorded for both" for name in fairness.unknown]
    return lines


def _finished(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if not failed(run)]


def metrics_of(comparison: Comparison) -> list[str]:
    """The metrics that are compared unless others are asked for: time, throughput, memory, energy, kernel, quality."""
    runs = [run for cell in comparison.cells for part in cell.runs.values() for run in part]
    names = fullest(runs, ("wall_s", "user_s"))
    names += present(runs, ("images_per_s", "cpu_percent", "max_rss_bytes", "gpu_mem_peak_bytes"))
    names += [name for name in present(runs, ("energy_j",)) if same_energy(runs)]
    names += [name for name in present(runs, ("biggest_kernel_avg_s",)) if same_kernels(comparison)]
    grades = ("map50", "map50_95") if fullest(runs, ("map50", "recall")) == ["map50"] else ("precision", "recall")
    return names + present(runs, grades)


def same_kernels(comparison: Comparison) -> bool:
    """Whether the biggest kernel of every cell is one and the same kernel on all levels: different algorithms do not compare."""
    return all(len(distinct([run for part in cell.runs.values() for run in part], "biggest_kernel_name")) < 2 for cell in comparison.cells)


def same_energy(runs: Sequence[RunRecord]) -> bool:
    """Whether every energy was measured and is that of GPUs, or every one that of processors: the two do not compare."""
    sources = [run.energy_source for run in runs if run.energy_j is not None]
    return None not in sources and len({source == "rapl" for source in sources}) == 1


def ratio(cell: Cell, level: Any, baseline: Any, metric: str) -> float | None:
    """Median of a level over that of the baseline, or None where one is absent or the baseline is 0."""
    above, below = cell.values(level, metric), cell.values(baseline, metric)
    return median(above) / median(below) if above and below and median(below) else None


def comparison_table(comparison: Comparison, metric: str) -> Table:
    """One metric: a row a cell, a column a level, then the ratios against the baseline. The best of a row is marked."""
    others = [level for level in comparison.levels if level != comparison.baseline]
    column = RUN_COLUMNS[metric]
    rows, best = [], set()
    for i, cell in enumerate(comparison.cells):
        middles = _middles(comparison, cell, metric)
        words = [shown(RUN_COLUMNS[name], value) for name, value in zip(comparison.keys, cell.key, strict=True)]
        words += [shown(column, middles[level]) if level in middles else _lost(cell, level) for level in comparison.levels]
        words += [_times(ratio(cell, level, comparison.baseline, metric)) for level in others]
        rows.append(Row(words))
        winner = _winner(middles, metric)
        if winner is not None:
            best.add((i, len(comparison.keys) + comparison.levels.index(winner)))
    medians = [_times(median_ratio(comparison, level, metric)) + count_said(comparison, level, metric) for level in others]
    lead = ["median", *[""] * (len(comparison.keys) + len(comparison.levels) - 1)]
    rows.append(Row([*lead, *medians]))
    headings = [title(name) for name in comparison.keys]
    headings += [_name(comparison.by, level) for level in comparison.levels]
    headings += [f"{level} / {comparison.baseline}" for level in others]
    text = [str(RUN_COLUMNS[name].type).startswith("str") for name in comparison.keys]
    numeric = [not kind for kind in text] + [True] * (len(headings) - len(text))
    heading = title(metric, [run for cell in comparison.cells for part in cell.runs.values() for run in part])
    direction = f" ({BETTER[metric]} is better)" if metric in BETTER else ""
    return Table(headings, numeric, rows, heading + direction, len(comparison.keys), frozenset(best))


def _name(by: str, level: Any) -> str:
    return f"{title(by)} {level}" if isinstance(level, int) else str(level)


def _lost(cell: Cell, level: Any) -> str:
    """Why a cell has no figure: the status of its runs."""
    return ", ".join(sorted({run.status for run in cell.runs.get(level, []) if failed(run) and run.status}))


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def median_ratio(comparison: Comparison, level: Any, metric: str) -> float | None:
    """Middle of a level's ratios over the cells that have one."""
    ratios = ratios_of(comparison, level, metric)
    return median(ratios) if ratios else None


def ratios_of(comparison: Comparison, level: Any, metric: str) -> list[float]:
    """A level's ratios, cell by cell; where a side has no figure, or the baseline's is 0, there is none."""
    return [value for cell in comparison.cells if (value := ratio(cell, level, comparison.baseline, metric)) is not None]


def count_said(comparison: Comparison, level: Any, metric: str) -> str:
    """Of how many ratios a median is, where cells with both figures have none since the baseline's is 0: " (n=22)"."""
    count = len(ratios_of(comparison, level, metric))
    both = sum(bool(cell.values(level, metric) and cell.values(comparison.baseline, metric)) for cell in comparison.cells)
    return f" (n={count})" if 0 < count < both else ""


def _winner(middles: dict[Any, float], metric: str) -> Any:
    """The level with the best value; None where two share it as it is shown, or the metric has no better side."""
    if metric not in BETTER or len(middles) < 2:
        return None
    goal = (min if BETTER[metric] == "lower" else max)(middles.values())
    column = RUN_COLUMNS[metric]
    winners = [level for level, value in middles.items() if shown(column, value) == shown(column, goal)]
    return winners[0] if len(winners) == 1 else None


def wins(comparison: Comparison, metric: str) -> dict[Any, int]:
    """How many cells each level wins."""
    counts = dict.fromkeys(comparison.levels, 0)
    for cell in comparison.cells:
        winner = _winner(_middles(comparison, cell, metric), metric)
        if winner is not None:
            counts[winner] += 1
    return counts


def contested(comparison: Comparison, metric: str) -> int:
    """Cells in which two levels or more have a figure."""
    return sum(len(_middles(comparison, cell, metric)) > 1 for cell in comparison.cells)


def _middles(comparison: Comparison, cell: Cell, metric: str) -> dict[Any, float]:
    return {level: median(values) for level in comparison.levels if (values := cell.values(level, metric))}
