"""From a run to the raw log that it was read from."""

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from yoloperf.core.record import RunRecord
from yoloperf.core.rundir import RunDir


def log_of(run: RunRecord, bases: Iterable[Path]) -> Path | None:
    """The file that a run was read from: the console of a run folder, or the log itself; None where it is not on this machine.

    `source` is relative to where the logs were parsed: the working folder, or one of `bases`, the folders of the tables (Records.bases).
    """
    if not run.source:
        return None
    for base in (Path(), *bases):
        path = base / run.source
        if path.is_dir():
            path = RunDir(path).console
        if path.is_file():
            return path
    return None


def link(log: Path | None, page: Path) -> str | None:
    """A relative address of a log that lies in the page's folder or below; None elsewhere: the two would not travel together."""
    if log is None:
        return None
    folder, target = page.resolve().parent, log.resolve()
    return quote(target.relative_to(folder).as_posix()) if target.is_relative_to(folder) else None
