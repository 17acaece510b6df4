"""Write what logs hold into runs.csv, epochs.csv and kernels.csv, without ever holding it all: a log may be larger than memory."""

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path

from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, columns
from yoloperf.core.rundir import RunDir, atomic_stream
from yoloperf.core.tables import RUNS, beside
from yoloperf.parsing.draft import Rejected, Run
from yoloperf.parsing.parse import read_source
from yoloperf.parsing.sources import Source, duplicates, find, shown

TABLES = (RunRecord, EpochRecord, KernelRecord)
PARALLEL_BYTES = 32 << 20  # starting processes costs as much as reading this
_UNNAMED_GPU = "unnamed GPU"


@dataclass
class Totals:
    """What was read, apart from the records themselves."""

    runs: int = 0
    epochs: int = 0
    kernels: int = 0
    aside: int = 0  # files in folders that are plainly no logs
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    no_profile: list[tuple[str, str]] = field(default_factory=list)  # (run, why its profile is empty)
    named_kernel: dict[str, float | None] = field(default_factory=dict)  # run -> average of the kernel asked for
    unknown: list[tuple[str, int, str]] = field(default_factory=list)
    operator_s: Counter[tuple[str, str | None]] = field(default_factory=Counter)  # (GPU, operator) -> seconds

    def add(self, other: "Totals") -> None:
        self.runs += other.runs
        self.epochs += other.epochs
        self.kernels += other.kernels
        self.rejected += other.rejected
        self.no_profile += other.no_profile
        self.named_kernel |= other.named_kernel
        self.unknown += other.unknown
        self.operator_s.update(other.operator_s)

    def count(self, run: Run, kernel: str | None) -> None:
        record = run.record
        self.runs += 1
        self.epochs += len(run.epochs)
        self.kernels += len(run.kernels)
        if record.profile_reason:
            self.no_profile.append((str(record.run_id), record.profile_reason))
        if kernel:
            self.named_kernel[str(record.run_id)] = next((row[5] for row in run.kernels if row[2] == kernel), None)
        gpu = record.gpu_name or _UNNAMED_GPU
        for row in run.kernels:
            if row[1] == "gpu" and row[4]:
                self.operator_s[gpu, row[9]] += row[4]  # type: ignore[assignment]


def write_records(paths: Iterable[Path], out: Path, jobs: int | None = None, kernel: str | None = None, unknown: bool = False) -> Totals:
    """Read everything below the paths into `out` (runs) and, beside it, a table of their epochs and one of their kernels.

    Large inputs are read by `jobs` processes (default: one a core). Raises UserError where a path does not
    exist, the tables cannot be written or two of them have one name; then none of them is touched.
    """
    names = (out, *beside(out))
    if out in beside(out.with_name(RUNS)):
        raise UserError(f"{out.name} is the name of another table: give a name for runs.csv, such as -o {out.with_name('runs.csv')}")
    found = find(paths)
    same = duplicates(found.sources)
    sources = [source for source in found.sources if source not in same]
    twins = [(shown(path), shown(original)) for path, original in same.items()]
    totals = Totals(aside=len(found.aside), duplicates=twins, rejected=list(found.unreadable))
    with ExitStack() as stack:
        streams = [stack.enter_context(atomic_stream(path)) for path in names]
        for stream, table in zip(streams, TABLES, strict=True):
            stream.write((",".join(columns(table)) + "\n").encode())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".parse-", dir=out.parent)))
        for part, files in _parts(sources, folder, jobs, kernel, unknown):
            totals.add(part)
            for stream, path in zip(streams, files, strict=True):
                with path.open("rb") as content:
                    shutil.copyfileobj(content, stream)
                path.unlink()
    return totals


def _parts(sources: list[Source], folder: Path, jobs: int | None, kernel: str | None, unknown: bool) -> Iterator[tuple[Totals, list[Path]]]:
    """Totals and table files of groups of sources, in their order."""
    sizes = [_size(source) for source in sources]
    workers = min(jobs or available_cores(), len(sources))
    if workers < 2 or sum(sizes) < PARALLEL_BYTES:
        yield _write_part(sources, folder, kernel, unknown)
        return
    with ProcessPoolExecutor(workers) as pool, tqdm(total=sum(sizes), unit="B", unit_scale=True, desc="parse", disable=None) as bar:
        waiting = [pool.submit(_write_part, [source], folder, kernel, unknown) for source in sources]
        for future, size in zip(waiting, sizes, strict=True):
            yield future.result()
            bar.update(size)


def _size(source: Source) -> int:
    path = source.console if isinstance(source, RunDir) else source
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write_part(sources: list[Source], folder: Path, kernel: str | None, unknown: bool) -> tuple[Totals, list[Path]]:
    """Read some sources and write their rows, without headers, into files of their own."""
    totals = Totals()
    part = Path(tempfile.mkdtemp(dir=folder))
    files = [part / table.__name__ for table in TABLES]
    listen = (lambda path, number, line: totals.unknown.append((path, number, line.decode("utf-8", "replace")))) if unknown else None
    with ExitStack() as stack:
        streams = [stack.enter_context(path.open("w", newline="", encoding="utf-8")) for path in files]
        runs, epochs = (csv.writer(stream, lineterminator="\n") for stream in streams[:2])
        for source in sources:
            for item in read_source(source, listen):
                if isinstance(item, Rejected):
                    totals.rejected.append(item)
                    continue
                totals.count(item, kernel)
                runs.writerow(_RUN(item.record))
                epochs.writerows(map(_EPOCH, item.epochs))
                streams[2].write(_kernel_lines(item))
    return totals, files


def _kernel_lines(run: Run) -> str:
    """What csv.writer would write, in a third of its time: most of a large log's rows are kernels."""
    place = _quoted(str(run.record.run_id))
    return "".join(
        [
            f"{place},{profiler},{domain},{_quoted(name)},{_cell(calls)},{_cell(total)},{_cell(average)},{_cell(least)},{_cell(most)},"
            f"{_cell(share)},{what or ''}\n"
            for profiler, domain, name, calls, total, average, least, most, share, what in run.kernels
        ]
    )


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


@lru_cache(maxsize=1 << 15)
def _quoted(text: str) -> str:
    if any(character in text for character in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text


_RUN = attrgetter(*columns(RunRecord))
_EPOCH = attrgetter(*columns(EpochRecord))
