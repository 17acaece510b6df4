"""device.csv of a run folder: what the harness sampled of GPUs, process tree and processors (yoloperf.core.samples)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from yoloperf.core.record import RunRecord, columns
from yoloperf.core.samples import COLUMNS, Totals, combine, parse_row
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import FileFormat
from yoloperf.parsing.formats.events import fits

_BEGINNING = ",".join(COLUMNS[:3]).encode() + b","
_RUN = columns(RunRecord)


class DeviceSamples(FileFormat):
    name = "device-samples"
    description = "device.csv of a run folder: GPUs, process tree and processors while the run lasted"

    @staticmethod
    def sniff(head: bytes) -> bool:
        return head.startswith(_BEGINNING)

    @staticmethod
    def read(path: Path, stream: IO[bytes], new_run: Callable[[], Draft]) -> Iterator[Draft]:
        run = new_run()
        take(run, combine([totals.resources() for totals in _by_attempt(stream, run).values()]))
        yield run


def take(run: Draft, resources: dict[str, Any]) -> None:
    """State the columns of the run among them; what the log itself says of them is worth more."""
    for name, value in resources.items():
        if fits(_RUN, name, value):
            run.default(name, value)


def read_attempts(path: Path, run: Draft) -> dict[int, Totals]:
    """Attempt -> what its samples come to; empty where the file is none of ours. Lines that cannot be read are rejected in `run`."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(_BEGINNING)) != _BEGINNING:
                return {}
            stream.seek(0)
            return _by_attempt(stream, run)
    except FileNotFoundError:
        return {}


def _by_attempt(stream: IO[bytes], run: Draft) -> dict[int, Totals]:
    run.formats[DeviceSamples.name] = None
    found: dict[int, Totals] = {}
    names: list[str] = []
    for number, line in enumerate(stream, 1):
        run.line = number
        if line.startswith(_BEGINNING):  # again, where another version went on
            names = line.decode("utf-8", "replace").strip().split(",")
            continue
        if not line.strip():
            continue
        try:
            if not line.endswith(b"\n"):
                raise ValueError("the last line has no end")
            sample = parse_row(names, line.decode("utf-8", "replace"))
            found.setdefault(int(sample["attempt"]), Totals()).add(sample)
        except (ValueError, OverflowError) as error:
            run.reject(f"not a sample: {error}")
    return found
