"""Hold a published table of results against the logs that it was made from, cell by cell."""

import csv
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import KernelRecord, RunRecord
from yoloperf.parsing.parse import ParseResult

KEY = ("device", "model", "batch_size", "epochs")
KERNEL = "biggest_kernel_avg_us"
# Published column -> (column of runs.csv, factor to the published unit, significant digits that both sides print)
CELLS: dict[str, tuple[str, float, int]] = {
    "user_time_s": ("user_s", 1, 9),
    "cpu_percent": ("cpu_percent", 1, 9),
    "max_rss_kib": ("max_rss_bytes", 1 / 1024, 9),
    "precision": ("precision", 1, 3),
    "recall": ("recall", 1, 3),
    "objectness": ("obj_loss", 1, 4),
    "classification": ("cls_loss", 1, 4),
}
_KERNEL_DIGITS = 5


@dataclass(frozen=True)
class Difference:
    """A published cell that its log does not bear out; None where one side has no value."""

    row: str
    column: str
    published: float | None
    log: float | None
    run_id: str


@dataclass(frozen=True)
class NamedKernel:
    """The kernel whose average a device's kernel column gives: in `rows` rows, of which it is the biggest in `biggest_in`."""

    device: str
    name: str
    rows: int
    biggest_in: int


@dataclass(frozen=True)
class Misleading:
    """A row whose 'biggest GPU activity' is a named kernel, and not the biggest one."""

    row: str
    published_us: float
    published_kernel: str
    biggest_kernel: str
    biggest_us: float
    biggest_share: float | None


@dataclass
class Check:
    """Result of a comparison: `cells` were compared in `compared` of `rows` rows."""

    rows: int = 0
    compared: int = 0
    cells: int = 0
    differences: list[Difference] = field(default_factory=list)
    without_log: list[str] = field(default_factory=list)
    other_logs: list[str] = field(default_factory=list)
    named_kernels: list[NamedKernel] = field(default_factory=list)
    misleading: list[Misleading] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_published(path: Path) -> list[dict[str, str]]:
    """Rows of the published table. Raises UserError where it cannot be read or has no such columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # with the mark that spreadsheets put before it
            rows = list(csv.DictReader(stream, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise UserError(f"{path} holds no rows: give a CSV with the columns {', '.join(KEY)} and some of {', '.join(CELLS)}")
    missing = [name for name in KEY if name not in rows[0]]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}: a row is found by {', '.join(KEY)}")
    return rows


def check(published: Iterable[dict[str, str]], logs: ParseResult) -> Check:
    """Compare every published cell with its log."""
    result = Check()
    runs: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in logs.runs:
        runs[(str(run.gpu_name), str(run.model), str(run.batch_size), str(run.epochs))].append(run)
    kernels: dict[str | None, list[KernelRecord]] = defaultdict(list)
    for kernel in logs.kernels:
        if kernel.domain == "gpu":
            kernels[kernel.run_id].append(kernel)
    matched: list[tuple[dict[str, str], RunRecord]] = []
    for row in published:
        result.rows += 1
        candidates = runs.get(tuple(row[name].strip() for name in KEY), [])
        if not candidates:
            failed = row.get("status", "ok") != "ok"
            result.without_log.append(name_of(row) + (f" (published as {row['status']})" if failed else ""))
            continue
        said = _number(row.get(KERNEL, ""))
        best = min(candidates, key=lambda run: (len(list(_differences(row, run))), not _fitting(said, kernels[run.run_id])))
        result.other_logs += [str(run.run_id) for run in candidates if run is not best]
        result.compared += 1
        result.cells += sum(1 for column in CELLS if row.get(column))
        result.differences += _differences(row, best)
        matched.append((row, best))
    _check_kernels(result, matched, kernels)
    return result


def name_of(row: dict[str, str]) -> str:
    return f"{row['device']} {row['model']} batch {row['batch_size']} epochs {row['epochs']}"


def _differences(row: dict[str, str], run: RunRecord) -> Iterable[Difference]:
    for column, (name, factor, digits) in CELLS.items():
        if column not in row:
            continue
        said, value = _number(row[column]), getattr(run, name)
        found = None if value is None else value * factor
        if (said is None) != (found is None) or not (said is None or found is None or same(said, found, digits)):
            yield Difference(name_of(row), column, said, found, str(run.run_id))


def same(first: float, second: float, digits: int) -> bool:
    """Whether two numbers agree to `digits` significant digits, however the last one was rounded."""
    larger = max(abs(first), abs(second))
    unit = 10.0 ** (math.floor(math.log10(larger)) - digits + 1) if larger else 0.0
    return abs(first - second) <= 0.5 * unit * (1 + 1e-6)


def _number(cell: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _fitting(said_us: float | None, kernels: list[KernelRecord]) -> set[str]:
    """Names of the kernels with this average."""
    if said_us is None:
        return set()
    return {kernel.name or "" for kernel in kernels if kernel.avg_s and same(kernel.avg_s * 1e6, said_us, _KERNEL_DIGITS)}


def _check_kernels(result: Check, matched: list[tuple[dict[str, str], RunRecord]], kernels: dict[str | None, list[KernelRecord]]) -> None:
    """Find the kernel that each device's column is about: the name whose average fits the most rows."""
    fitting: dict[str, Counter[str]] = defaultdict(Counter)
    rows: dict[str, list[tuple[dict[str, str], RunRecord, float]]] = defaultdict(list)
    for row, run in matched:
        said = _number(row.get(KERNEL, ""))
        if said is None:
            continue
        rows[row["device"]].append((row, run, said))
        fitting[row["device"]].update(_fitting(said, kernels[run.run_id]))
    for device, group in rows.items():
        name = fitting[device].most_common(1)[0][0] if fitting[device] else None
        biggest = 0
        for row, run, said in group:
            result.cells += 1
            average = next((k.avg_s * 1e6 for k in kernels[run.run_id] if k.name == name and k.avg_s is not None), None)
            if average is None or not same(average, said, _KERNEL_DIGITS):
                result.differences.append(Difference(name_of(row), KERNEL, said, average, str(run.run_id)))
            elif run.biggest_kernel_name == name:
                biggest += 1
            elif run.biggest_kernel_name and run.biggest_kernel_avg_s is not None:
                top = (run.biggest_kernel_name, run.biggest_kernel_avg_s * 1e6, run.biggest_kernel_share)
                result.misleading.append(Misleading(name_of(row), said, name or "", *top))
        if name:
            result.named_kernels.append(NamedKernel(device, name, len(group), biggest))
