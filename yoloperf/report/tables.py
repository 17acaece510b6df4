"""Runs -> the comparison table: which rows, which columns, in which order, and a failed cell as such."""

import csv
import io
from collections.abc import Callable, Sequence

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import (
    FIGURES,
    GRID,
    IDENTITY,
    RUN_COLUMNS,
    STUDY,
    differing,
    distinct,
    failed,
    in_order,
    label,
    place,
    present,
    require,
    title,
    varying,
)
from yoloperf.report.render import Row, Table


def select(runs: Sequence[RunRecord], filters: Sequence[str]) -> list[RunRecord]:
    """Rows that fulfil every filter `column=value[,value...]`; `column=` asks for rows without a value.

    Raises UserError for an unknown column, a value that the column's type cannot hold, and when no row is left.
    """
    kept = list(runs)
    for condition in filters:
        name, equals, text = condition.partition("=")
        if not equals:
            raise UserError(f"filter {condition!r} is not column=value, such as model=yolov3-tiny or batch_size=4,8")
        wanted = {_value(require(name), word) for word in text.split(",")}
        left = [run for run in kept if getattr(run, name) in wanted]
        if not left:
            there = ", ".join(str(value) for value in distinct(kept, name)[:12]) or "none"
            raise UserError(f"no run with {condition}: {name} is {there}")
        kept = left
    return kept


def _value(name: str, word: str) -> object:
    kind: Callable[[str], object] = {"int": int, "float": float}.get(str(RUN_COLUMNS[name].type).split(" ")[0], str)
    try:
        return kind(word) if word else None
    except ValueError as error:
        raise UserError(f"{name} is a number, not {word!r}") from error


def order(runs: Sequence[RunRecord], by: str | None = None, descending: bool = False) -> list[RunRecord]:
    """Rows sorted by a column (absent last), or by what identifies them: platform, model, ..., batch size, epochs."""
    ranked = in_order(runs, [*IDENTITY, *GRID, "seed", "run_id"])
    if by is None:
        return ranked
    have = [run for run in ranked if getattr(run, require(by)) is not None]
    have.sort(key=lambda run: getattr(run, by), reverse=descending)
    return have + [run for run in ranked if getattr(run, by) is None]


def default_columns(runs: Sequence[RunRecord]) -> list[str]:
    """The 2020 study's columns after whatever else varies; columns without any value are left out."""
    keys = [*differing(runs, IDENTITY), *GRID]
    if any(run.batch_size is None for run in runs):
        keys = ["run_id", *keys]
    elif len({tuple(getattr(run, name) for name in keys) for run in runs}) < len(runs):
        keys += varying(runs, ["seed", "sweep"]) or ["run_id"]
    kinds = {run.biggest_kernel_domain for run in runs if run.biggest_kernel_avg_s is not None}
    figures = [name for name in STUDY if name not in GRID]
    if len(kinds) > 1:
        figures.insert(figures.index("biggest_kernel_avg_s"), "biggest_kernel_domain")
    return present(runs, [*keys, *figures]) or ["run_id"]


def table(runs: Sequence[RunRecord], names: Sequence[str], heading: str = "") -> Table:
    """Rows as people read them. A run that is not ok shows its status and reason in place of its figures.

    Where the figures are not the last columns, or there are none, that stands in columns of its own.
    """
    figures = [name for name in names if name in FIGURES]
    keys = len(names) - len(figures)
    inline = "status" not in names and bool(figures) and list(names[keys:]) == figures
    if not inline:
        names = with_status(runs, names)
    rows = []
    for run in runs:
        cells = [shown(RUN_COLUMNS[name], getattr(run, name)) for name in names]
        note = ": ".join(part for part in (run.status, run.reason) if part) if inline and failed(run) else ""
        rows.append(Row(cells, note, keys))
    numeric = [not str(RUN_COLUMNS[name].type).startswith("str") for name in names]
    return Table([title(name, runs) for name in names], numeric, rows, heading, keys if inline else 1)


def with_status(runs: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """The columns, and status and reason behind them where a run is not ok."""
    more = ("status", "reason") if any(map(failed, runs)) else ()
    return [*names, *(name for name in more if name not in names)]


def tables(runs: Sequence[RunRecord], names: Sequence[str] | None = None, study: bool = False) -> list[Table]:
    """One table, or, where both platform and model vary (or `study` asks for it), the study's layout: one for each pair of the two."""
    split = ("platform", "model")
    if names is not None or not (study or len(differing(runs, split)) == len(split)):
        return [table(runs, names or default_columns(runs))]
    parts: dict[tuple[str | None, ...], list[RunRecord]] = {}
    for run in runs:
        parts.setdefault(tuple(getattr(run, name) for name in split), []).append(run)
    apart = [name for name in differing(runs, IDENTITY) if name not in split]
    made = []
    for part in parts.values():
        common = [name for name in apart if len(distinct(part, name)) == 1]
        heading = ", ".join([place(part), *([label(part[0], common)] if common else [])])
        made.append(table(part, default_columns(part), heading))
    return made


def raw_csv(runs: Sequence[RunRecord], names: Sequence[str]) -> str:
    """Chosen columns as runs.csv holds them; status and reason come along where a run is not ok."""
    names = with_status(runs, names)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(run, name) for name in names] for run in runs)
    return out.getvalue()
