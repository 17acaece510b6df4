"""What there is to read below the paths that were given: run folders, single logs, each only once."""

import codecs
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord, columns
from yoloperf.core.rundir import SUPERSEDED, RunDir
from yoloperf.parsing.draft import Rejected

# Beginnings of files that lie beside logs and are none: pictures, documents, archives and weights, our own tables
_NO_LOG = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\x03\x04", b"<svg", b"<!DOCTYPE", b"<html", b"<?xml")
_TABLES = (",".join(columns(RunRecord)).encode()[:40], b"run_id,", b"platform,device,device_memory_mib,model,")
_DOCUMENTS = (".md", ".rst", ".py", ".sh", ".yaml", ".yml", ".ipynb", ".toml", ".cfg", ".tsv")

Source = RunDir | Path


@dataclass
class Found:
    """What there is at and below some paths."""

    sources: list[Source] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)  # files in folders that are plainly no logs
    unreadable: list[Rejected] = field(default_factory=list)  # folders that may not be entered


def find(paths: Iterable[Path]) -> Found:
    """Run folders and files at or below the paths, in order, each once.

    A path that names a file is always a source. Raises UserError where a path does not exist.
    """
    found = Found()
    known: set[Path] = set()
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"{path} does not exist: give run folders, logs, or folders that hold them")
        for item in _walk(path, found) if path.is_dir() else [path]:
            key = (item.path if isinstance(item, RunDir) else item).resolve()
            if key not in known:
                known.add(key)
                found.sources.append(item)
    return found


def _walk(top: Path, found: Found) -> Iterator[Source]:
    def refuse(error: OSError) -> None:
        found.unreadable.append(Rejected(shown(Path(error.filename)), None, error.strerror or str(error)))

    for folder, names, files in os.walk(top, onerror=refuse):
        if "run.json" in files:
            names.clear()
            yield RunDir(folder)
            continue
        names[:] = sorted(name for name in names if name != SUPERSEDED and not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if name.startswith(".") or _is_pipe(path):
                continue
            if _is_no_log(path):
                found.aside.append(path)
            else:
                yield path


def _is_pipe(path: Path) -> bool:
    """Pipes, sockets and devices: reading one could wait for ever."""
    return path.exists() and not path.is_file()


def shown(path: Path) -> str:
    """A path as text that can be written, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def _is_no_log(path: Path) -> bool:
    """Whether a file in a folder is plainly no log, so that it need not be reported as one that cannot be read."""
    if path.suffix.lower() in _DOCUMENTS:
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(64).removeprefix(codecs.BOM_UTF8)  # a spreadsheet's
    except OSError:
        return False
    return head.startswith(_NO_LOG) or head.startswith(_TABLES)


def duplicates(sources: Iterable[Source]) -> dict[Path, Path]:
    """Files whose content is that of an earlier one: file -> the earlier one. Only files of equal size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for source in sources:
        if isinstance(source, Path):
            try:
                by_size[source.stat().st_size].append(source)
            except OSError:
                continue
    same: dict[Path, Path] = {}
    for size, files in by_size.items():
        if size == 0 or len(files) == 1:
            continue
        first: dict[str, Path] = {}
        for path in files:
            try:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError:
                continue
            if path is not first.setdefault(digest, path):
                same[path] = first[digest]
    return same
