"""From paths to records: every run below them, and everything that could not be read."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord
from yoloperf.core.rundir import RunDir
from yoloperf.parsing.content import DAMAGED, chunks, is_binary, open_content, peek
from yoloperf.parsing.draft import Draft, Rejected, Run
from yoloperf.parsing.filename import take_file_name
from yoloperf.parsing.formats import file_formats
from yoloperf.parsing.lines import LogReader
from yoloperf.parsing.runfolder import read_run_folder
from yoloperf.parsing.sources import Source, duplicates, find

Unknown = Callable[[str, int, bytes], None]


@dataclass
class ParseResult:
    """Everything below the given paths. `rejected` is what claims to be a log or a line of one and could not be read."""

    runs: list[RunRecord] = field(default_factory=list)
    epochs: list[EpochRecord] = field(default_factory=list)
    kernels: list[KernelRecord] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    duplicates: dict[Path, Path] = field(default_factory=dict)
    aside: list[Path] = field(default_factory=list)


def parse_paths(paths: Iterable[Path | str], unknown: Unknown | None = None) -> ParseResult:
    """Read run folders, logs, and folders of them into memory. Raises UserError where a path does not exist.

    `unknown` is called with the path, number and text of every line of a log that no format knows.
    """
    sources, aside = find(Path(path) for path in paths)
    result = ParseResult(aside=aside, duplicates=duplicates(sources))
    for source in sources:
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
        yield from read_run_folder(source)
        return
    path = str(source)
    try:
        with open_content(source) as stream:
            head = peek(stream)
            if not head:
                yield Rejected(path, None, "the file is empty")
                return
            for kind in file_formats():
                if kind.sniff(head):
                    drafts = kind.read(source, stream, lambda: Draft(path))
                    break
            else:
                if is_binary(head):
                    yield Rejected(path, None, "a binary file of no known format")
                    return
                listener = (lambda number, line: unknown(path, number, line)) if unknown else None
                drafts = LogReader(lambda: Draft(path), listener).read(chunks(stream))
            yield from _runs(source, drafts)
    except DAMAGED as error:
        yield Rejected(path, None, getattr(error, "strerror", None) or str(error))
    except ValueError as error:
        yield Rejected(path, None, str(error))


def _runs(source: Path, drafts: Iterable[Draft]) -> Iterator[Run | Rejected]:
    number = 0
    for draft in drafts:
        yield from draft.rejected
        if draft.empty:
            continue
        number += 1
        take_file_name(draft, source)
        yield draft.finish(str(source) if number == 1 else f"{source}#{number}")
    if not number:
        yield Rejected(str(source), None, "no line of a known format (`yoloperf parse --formats` lists them)")
