"""Records for a report: from the CSV files that `yoloperf parse` wrote, or parsed on the fly."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.record import SCHEMA_VERSION, EpochRecord, KernelRecord, Record, RunRecord, columns, from_csv
from yoloperf.parsing.parse import parse_paths

RUNS, EPOCHS, KERNELS = "runs.csv", "epochs.csv", "kernels.csv"
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
    """Read runs.csv files (epochs.csv and kernels.csv beside them come along), run folders, single logs, and folders of all these.

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


def _load_one(path: Path) -> Iterator[Records]:
    if path.suffix == ".csv" and path.is_file():
        yield _load_tables(path)
        return
    result = parse_paths([path])
    yield Records(result.runs, result.epochs, result.kernels, len(result.rejected))
    logs = [Path(run.source) for run in result.runs if run.source]
    for table in result.aside:
        if table.name == RUNS and not any(log.is_relative_to(table.parent) for log in logs):
            yield _load_tables(table)


def _load_tables(path: Path) -> Records:
    epochs, kernels = path.with_name(EPOCHS), path.with_name(KERNELS)
    return Records(
        read_csv(RunRecord, path),
        read_csv(EpochRecord, epochs) if epochs.is_file() else [],
        read_csv(KernelRecord, kernels) if kernels.is_file() else [],
    )


def read_csv(kind: type[Record], path: Path) -> list[Record]:
    """The records in a CSV file that `yoloperf parse` wrote. A NaN or infinity is absent.

    Raises UserError where the file is no such CSV, a cell cannot be read, or a newer version wrote it.
    """
    try:
        text = path.read_text()
        header = next(csv.reader(io.StringIO(text)), [])
        if "run_id" not in header:
            raise UserError(f"{path} has no column run_id and is no table of runs: `yoloperf parse LOGS -o {RUNS}` writes one")
        records = from_csv(kind, text)
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; `yoloperf parse LOGS -o {RUNS}` writes it anew") from error
    numbers = [name for name, item in columns(kind).items() if str(item.type).startswith("float")]
    newest = max((getattr(record, "schema_version", None) or 0 for record in records), default=0)
    if newest > SCHEMA_VERSION:
        raise UserError(f"{path} has schema version {newest}, this yoloperf reads up to {SCHEMA_VERSION}: update yoloperf, or parse again")
    return [_finite(record, numbers) for record in records]


def _finite(record: Record, numbers: list[str]) -> Record:
    absent = {name: None for name in numbers if (value := getattr(record, name)) is not None and not math.isfinite(value)}
    return replace(record, **absent) if absent else record
