"""Records for a report: from the CSV files that `yoloperf parse` wrote, or parsed on the fly."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.record import SCHEMA_VERSION, EpochRecord, KernelRecord, Record, RunRecord, columns, from_csv
from yoloperf.core.tables import RUNS, beside
from yoloperf.parsing.parse import parse_paths

_READING = {"source", "format", "schema_version", "rejected_lines", "unknown_lines", "notes"}


@dataclass(frozen=True)
class Records:
    """Runs with the epochs and kernels that belong to them (joined by run_id).

    `unread` counts what the parser rejected, `twice` the rows of runs that another path had given already; `bases` are the
    folders to which a run's `source` may be relative.
    """

    runs: list[RunRecord]
    epochs: list[EpochRecord]
    kernels: list[KernelRecord]
    unread: int = 0
    twice: int = 0
    bases: tuple[Path, ...] = ()


def load(paths: Sequence[Path]) -> Records:
    """Read tables of runs (their epochs and kernels come along, see `read_beside`), run folders, single logs, and folders of all these.

    In a folder the raw logs count: a runs.csv there is read only where no log lies at or below its own folder. A run that
    two paths give counts once, with what either knows of it. Raises UserError where a path is missing, cannot be read or
    holds no run, or where one identity stands for two runs that contradict each other.
    """
    runs: dict[str, RunRecord] = {}
    epochs: list[EpochRecord] = []
    kernels: list[KernelRecord] = []
    unread = twice = 0
    for path in paths:
        for part in _load_one(path):
            with_epochs, with_kernels = {record.run_id for record in epochs}, {record.run_id for record in kernels}
            for number, run in enumerate(part.runs, 1):
                name = run.run_id or f"{path} row {number}"
                twice += name in runs
                runs[name] = _united(runs[name], run, path) if name in runs else run
            epochs += [record for record in part.epochs if record.run_id not in with_epochs]
            kernels += [record for record in part.kernels if record.run_id not in with_kernels]
            unread += part.unread
    if not runs:
        raise UserError(f"no run in {', '.join(map(str, paths))}: give a {RUNS}, a run folder or a log; `yoloperf sweep` makes runs")
    bases = tuple(dict.fromkeys(path if path.is_dir() else path.parent for path in paths))
    return Records(list(runs.values()), epochs, kernels, unread, twice, bases)


def _united(first: RunRecord, second: RunRecord, path: Path) -> RunRecord:
    """What two rows of one run know together. What the reader says about its own reading may differ."""
    values = {}
    for name in columns(RunRecord):
        one, other = getattr(first, name), getattr(second, name)
        if None not in (one, other) and one != other and name not in _READING:
            what = f"{name} {one} and {other}"
            raise UserError(f"{path}: the run {first.run_id!r} is there twice with different facts ({what}): give each run its own run_id")
        values[name] = other if one is None else one
    return RunRecord(**values)


def is_table(path: Path) -> bool:
    """Whether a path that was given names a table of runs, whatever that is called; in a folder only runs.csv is one.

    The results.csv of yolov5 and ultralytics, which begins with the epoch, is a log.
    """
    if path.suffix != ".csv" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return not stream.read(64).lstrip().startswith(b"epoch")


def read_beside(table: Path) -> tuple[Path | None, Path | None]:
    """The epochs and kernels that are read with a table: its own, or else epochs.csv and kernels.csv beside it."""
    common = beside(table.with_name(RUNS))
    epochs, kernels = (next(filter(Path.is_file, pair), None) for pair in zip(beside(table), common, strict=True))
    return epochs, kernels


def _load_one(path: Path) -> Iterator[Records]:
    if is_table(path):
        yield _load_tables(path)
        return
    result = parse_paths([path])
    yield Records(result.runs, result.epochs, result.kernels, len(result.rejected))
    logs = [Path(run.source) for run in result.runs if run.source]
    for table in result.aside:
        if table.name == RUNS and not any(log.is_relative_to(table.parent) for log in logs):
            yield _load_tables(table)


def _load_tables(path: Path) -> Records:
    epochs, kernels = read_beside(path)
    return Records(
        read_csv(RunRecord, path),
        _once(read_csv(EpochRecord, epochs)) if epochs else [],
        read_csv(KernelRecord, kernels) if kernels else [],
    )


def _once(epochs: list[EpochRecord]) -> list[EpochRecord]:
    """Every epoch of a run once: two tables joined by hand have it twice, and its time would count twice."""
    return list({(record.run_id, record.epoch): record for record in epochs}.values())


def read_csv(kind: type[Record], path: Path) -> list[Record]:
    """The records in a CSV file that `yoloperf parse` wrote.

    Raises UserError where the file is no such CSV, a cell cannot be read, or a newer version wrote it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # a spreadsheet puts a mark before the first column
        header = next(csv.reader(io.StringIO(text)), [])
        if "run_id" in ";".join(header).split(";") and "run_id" not in header:
            raise UserError(f"{path} is separated by semicolons: save it with commas and decimal points, as `yoloperf parse` writes it")
        if "run_id" not in header:
            raise UserError(f"{path} has no column run_id and is no table of runs: `yoloperf parse LOGS -o {RUNS}` writes one")
        records = from_csv(kind, text)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; `yoloperf parse LOGS -o {RUNS}` writes it anew") from error
    newest = max((getattr(record, "schema_version", None) or 0 for record in records), default=0)
    if newest > SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {newest}, this yoloperf reads up to {SCHEMA_VERSION}: update yoloperf, or parse again")
    return records
