"""The tables of the page: cells that know how they sort and where they lead."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from yoloperf.core.errors import UserError
from yoloperf.core.record import STATUSES, RunRecord, shown
from yoloperf.report.columns import BETTER, FIGURES, GRID, IDENTITY, RUN_COLUMNS, STUDY, differing, failed, present, title
from yoloperf.report.compare import (
    BY,
    Comparison,
    comparison_table,
    contested,
    count_said,
    match,
    median_ratio,
    metrics_of,
    same_kernels,
    wins,
)
from yoloperf.report.render import Table
from yoloperf.report.significance import Tested, repeats_table, significance, verdict

MAX_ROWS = 1500  # of the table of runs: a browser sorts these at once, and the page stays below its size
WIDE_ROWS = 500  # up to here the columns that are hidden at first come along too
MAX_LINES = 200  # rows of any other table
MAX_CELLS = 1000  # cells of a table of comparison
TESTED_CELLS = 400  # cells x metrics x levels: every one costs two bootstraps

# beyond the study's columns, what a reader sees first where it was recorded
_FIRST = ("wall_s", "images_per_s", "gpu_mem_peak_bytes", "gpu_util_pct", "energy_j", "map50", "map50_95")


@dataclass(frozen=True)
class Cell:
    """Text of a cell; `sort` is its number where the text is none, `hrefs` what it leads to."""

    text: str = ""
    sort: float | None = None
    hrefs: Sequence[str] = ()
    mark: str = ""  # class of its look: a status, or "best"
    key: str = ""  # anchor of the row
    whole: str = ""  # its full text, where it is shortened


@dataclass(frozen=True)
class PageTable:
    """Headings (text, what it means, whether its cells are numbers, whether it is shown at first) and rows."""

    headings: list[tuple[str, str, bool, bool]]
    rows: list[list[Cell]]
    caption: str = ""
    note: str = ""
    filters: list[int] = field(default_factory=list)  # columns with few values, to choose from
    foot: list[Cell] = field(default_factory=list)  # a last row that is not sorted


def anchor(number: int) -> str:
    return f"run-{number}"


def runs_table(runs: Sequence[RunRecord], links: Mapping[str, str]) -> PageTable:
    """A row a run: what tells it apart, how it ended, its figures. `links` is run_id -> address of its log, where one can be given."""
    kept = runs if len(runs) <= MAX_ROWS else sorted(runs, key=lambda run: not failed(run))[:MAX_ROWS]
    identity = present(runs, [*differing(runs, IDENTITY), *GRID, *differing(runs, ("seed",))])
    first = present(runs, [*(name for name in STUDY if name not in GRID), *_FIRST])
    rest = [name for name in present(runs, [name for name in RUN_COLUMNS if name in FIGURES]) if name not in first]
    first = [name for name in RUN_COLUMNS if name in first]
    names = [*identity, "status", *first, *(rest if len(runs) <= WIDE_ROWS else [])]
    headings = [("run", "Leads to the raw log.", False, True)]
    for name in names:
        numeric = not str(RUN_COLUMNS[name].type).startswith("str")
        headings.append((title(name, runs), RUN_COLUMNS[name].metadata["doc"], numeric, name not in rest))
    away = any(_path(run, links) for run in kept)
    if away:
        headings.append(("log", "Where the run was read from; not at or below this page's folder, so no link leads there.", False, True))
    rows = []
    for number, run in enumerate(kept):
        name = str(run.run_id)
        lead = Cell(run.trial or run.run_id or "not named", None, [links[name]] if name in links else (), "", anchor(number), name)
        rows.append([lead, *(_run_cell(run, column) for column in names), *([Cell(_path(run, links))] if away else [])])
    note = ""
    if len(kept) < len(runs):
        lost = sum(map(failed, runs))
        note = f"{len(kept)} of {len(runs)} runs are listed, all {min(lost, len(kept))} that failed among them; runs.csv has every one."
    few = [k for k, name in enumerate(names, 1) if name in (*IDENTITY, "status") and 1 < len({row[k].text for row in rows}) <= 24]
    return PageTable(headings, rows, "", note, few)


def _path(run: RunRecord, links: Mapping[str, str]) -> str:
    return "" if str(run.run_id) in links else run.source or ""


def _run_cell(run: RunRecord, name: str) -> Cell:
    value = getattr(run, name)
    if name == "status":
        text = ": ".join(part for part in (run.status or "not said", run.reason if failed(run) else None) if part)
        return Cell(text, mark=f"status {run.status if run.status in STATUSES else 'unsaid'}")
    if value is None or (name in FIGURES and failed(run)):
        return Cell()
    return Cell(shown(RUN_COLUMNS[name], value), None if isinstance(value, str) else value)


@dataclass(frozen=True)
class Compared:
    """One column compared: a line a metric, then cell by cell, what chance says and what speaks against it."""

    by: str
    summary: PageTable
    details: list[PageTable]
    verdict: str
    cautions: list[str]
    remarks: list[str]


def comparisons(runs: Sequence[RunRecord], links: Mapping[str, str]) -> list[Compared]:
    """Every column that can be compared in these runs."""
    found = []
    for by in BY:
        try:
            comparison = match(runs, by)
        except UserError:  # fewer than two values, or no cell in common
            continue
        found.append(_compared(comparison, links))
    return found


def _compared(comparison: Comparison, links: Mapping[str, str]) -> Compared:
    metrics = metrics_of(comparison)
    remarks = []
    tests = len(comparison.cells) * len(metrics) * (len(comparison.levels) - 1)
    tested: list[Tested] = []
    if tests <= TESTED_CELLS or not _has_repeats(comparison):
        tested = significance(comparison, metrics)
        says = verdict(comparison, metrics, tested)
    else:
        says = f"{tests} differences were not tested for chance here: `yoloperf compare --by {comparison.by} --metrics A` tests those of A"
    if not same_kernels(comparison):
        remarks.append("The biggest kernel is not the same kernel on all sides, so its time compares nothing.")
    if comparison.alone:
        remarks.append(f"Left out: {comparison.alone} run{'s' * (comparison.alone > 1)} without a counterpart.")
    details = [_cell_table(comparison, metric, links) for metric in metrics]
    if tested:
        details.append(plain(repeats_table(comparison, tested)))
    return Compared(comparison.by, _summary(comparison, metrics), details, says, comparison.cautions, remarks)


def _has_repeats(comparison: Comparison) -> bool:
    return any(len(runs) > 1 for cell in comparison.cells for runs in cell.runs.values())


def _summary(comparison: Comparison, metrics: Sequence[str]) -> PageTable:
    """A line a metric: the middle of the ratios of the cells, and how many cells each level wins."""
    others = [level for level in comparison.levels if level != comparison.baseline]
    rows = []
    for metric in metrics:
        score = wins(comparison, metric)
        cells = [Cell(title(metric)), Cell({"lower": "less", "higher": "more"}.get(BETTER.get(metric, ""), ""))]
        for level in others:
            cells.append(replace(_middle(comparison, level, metric), mark=_side(metric, median_ratio(comparison, level, metric))))
        judged = metric in BETTER
        cells += [Cell(str(score[level]) if judged else "", score[level] if judged else None) for level in comparison.levels]
        cells.append(Cell(str(contested(comparison, metric)), contested(comparison, metric)))
        rows.append(cells)
    headings = [("metric", "", False, True), ("better is", "", False, True)]
    doc = "Median of the ratios of the cells; n is their number where others have none, since the value to divide by is 0."
    headings += [(f"{level} / {comparison.baseline}", doc, True, True) for level in others]
    headings += [(f"{level} best in", "Cells in which it has the best value.", True, True) for level in comparison.levels]
    return PageTable([*headings, ("cells", "Cells in which two or more have a value.", True, True)], rows)


def _side(metric: str, ratio: float | None) -> str:
    if ratio is None or metric not in BETTER or f"{ratio:.2f}" == "1.00":
        return ""
    return "good" if (ratio < 1) == (BETTER[metric] == "lower") else "bad"


def _cell_table(comparison: Comparison, metric: str, links: Mapping[str, str]) -> PageTable:
    """The table of `yoloperf compare`, each value leading to the logs of its runs."""
    keys, levels = len(comparison.keys), comparison.levels
    room = max(20, min(MAX_LINES, MAX_CELLS // (keys + 2 * len(levels))))
    cut = replace(comparison, cells=comparison.cells[:room])
    plain_table = comparison_table(cut, metric)
    rows = []
    for i, (row, cell) in enumerate(zip(plain_table.rows, cut.cells, strict=False)):  # the last row is the median
        cells = []
        for j, text in enumerate(row.cells):
            if keys <= j < keys + len(levels):
                level = levels[j - keys]
                values, part = cell.values(level, metric), cell.runs.get(level, [])
                middle = median(values) if values else None
                hrefs = [links[name] for run in part if (name := str(run.run_id)) in links][:8]
                cells.append(Cell(text, middle, hrefs, "best" if (i, j) in plain_table.best else _lost(text) if not values else ""))
            else:
                cells.append(Cell(text, magnitude(text) if plain_table.numeric[j] else None))
        rows.append(cells)
    whole = [_middle(comparison, level, metric) for level in levels if level != comparison.baseline]
    foot = [Cell("median of all"), *[Cell()] * (keys + len(levels) - 1), *whole]
    count = len(comparison.cells)
    note = f"{len(rows)} of {count} cells are listed; `yoloperf compare --by {comparison.by}` prints all." if len(rows) < count else ""
    return PageTable(_headings(plain_table.headings, plain_table.numeric), rows, plain_table.title, note, foot=foot)


def _lost(text: str) -> str:
    return f"status {text if text in STATUSES else 'failed'}" if text else ""


def _middle(comparison: Comparison, level: object, metric: str) -> Cell:
    value = median_ratio(comparison, level, metric)
    if value is None:
        return Cell()
    return Cell((f"{value:.2f}" if value < 100 else f"{value:.0f}") + count_said(comparison, level, metric), value)


def plain(table: Table) -> PageTable:
    """A table of the command line on the page."""
    width = len(table.headings)
    rows = [
        [
            Cell(text, magnitude(text) if table.numeric[j] else None, (), "best" if (i, j) in table.best else "")
            for j, text in enumerate([*row.kept(), *([row.note] if row.note else []), *[""] * width][:width])
        ]
        for i, row in enumerate(table.rows)
    ]
    note = f"{MAX_LINES} of {len(rows)} lines are shown." if len(rows) > MAX_LINES else ""
    return PageTable(_headings(table.headings, table.numeric), rows[:MAX_LINES], table.title, note)


def _headings(words: Sequence[str], numeric: Sequence[bool]) -> list[tuple[str, str, bool, bool]]:
    return [(word, "", kind, True) for word, kind in zip(words, numeric, strict=True)]


_UNITS = {"us": 1e-6, "ms": 1e-3, "min": 60, "h": 3600, "kJ": 1e3, "MJ": 1e6}
_UNITS |= {"kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
_UNITS |= {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}


def magnitude(text: str) -> float | None:
    """The number by which a text such as "12:05", "1.31 GiB" or "USD 0.12" sorts; None where it begins with none."""
    clock = re.match(r"(?:(\d+):)?(\d+):(\d\d)(?!\d)", text)
    if clock:
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return float(3600 * hours + 60 * minutes + seconds)
    number = re.match(r"(?:[A-Z]{3} )?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: (\S+)|$)", text)
    return float(number[1]) * _UNITS.get(number[2], 1) if number else None


def overview(runs: Sequence[RunRecord]) -> PageTable:
    """A row a platform and sweep: how many runs, and how they ended."""
    ends = [status for status in (*STATUSES, None) if any(run.status == status for run in runs)]
    parts: dict[tuple[str, str], Counter[str | None]] = {}
    for run in runs:
        parts.setdefault((run.platform or "not recorded", run.sweep or "none"), Counter())[run.status] += 1
    rows = []
    for (platform, sweep), counts in sorted(parts.items()):
        numbers = [
            Cell(str(counts[end]), counts[end], (), "" if counts[end] == 0 or end == "ok" else f"status {end or 'unsaid'}") for end in ends
        ]
        rows.append([Cell(platform), Cell(sweep), Cell(str(counts.total()), counts.total()), *numbers])
    headings = [("platform", "", False, True), ("sweep", "", False, True), ("runs", "", True, True)]
    note = f"{MAX_LINES} of {len(rows)} sweeps are listed." if len(rows) > MAX_LINES else ""
    return PageTable([*headings, *((end or "not said", "", True, True) for end in ends)], rows[:MAX_LINES], note=note)
