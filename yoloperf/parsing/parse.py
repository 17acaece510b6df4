"""From paths to records: every run below them, and everything that could not be read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord
from yoloperf.core.rundir import RunDir
from yoloperf.parsing.draft import Draft, Rejected, Run
from yoloperf.parsing.filename import take_file_name
from yoloperf.parsing.files import Unknown, read_file
from yoloperf.parsing.runfolder import read_run_folder
from yoloperf.parsing.sources import Source, duplicates, find, shown


@dataclass
class ParseResult:
    """Everything below the given paths. `rejected` is what claims to be a log or a line of one and could not be read."""

    runs: list[RunRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    kernels: list[KernelRecord] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: dict[Path, Path] = field(default_factory=dict)  # file -> the earlier one with the same content
    aside: list[Path] = field(default_factory=list)  # files in folders that are plainly no logs


def parse_paths(paths: Iterable[Path | str], unknown: Unknown | None = None) -> ParseResult:
    """Read run folders, logs, and folders of them into memory. Raises UserError where a path does not exist.

    `unknown` is called with the path, number and text of every line of a log that no format knows.
    """
    found = find(Path(path) for path in paths)
    result = ParseResult(aside=found.aside, duplicates=duplicates(found.sources), rejected=list(found.unreadable))
    for source in found.sources:
        if source in result.duplicates:
            continue
        for item in read_source(source, unknown):
            if isinstance(item, Rejected):
                result.rejected.append(item)
            else:
                result.runs.append(item.record)
                result.epochs += item.epochs
                result.kernels += item.kernel_records()
    return result


def read_source(source: Source, unknown: Unknown | None = None) -> Iterator[Run | Rejected]:
    """Runs of one run folder or file, each as soon as it is read, and what could not be read."""
    if isinstance(source, RunDir):
        yield from read_run_folder(source, unknown)
        return
    read = rejected = 0
    name = shown(source)
    for item in read_file(source, lambda: Draft(name), unknown):
        if isinstance(item, Rejected):
            rejected += 1
            yield item
            continue
        rejected += len(item.rejected)
        if not item.empty:
            read += 1
            take_file_name(item, source)
            run = item.finish(name if read == 1 else f"{name}#{read}")
            yield from item.rejected
            yield run
        else:
            yield from item.rejected
    if not read and not rejected:
        yield Rejected(name, None, "no line of a known format (`yoloperf parse --formats` lists them)")
