"""What there is to read below the paths that were given: run folders, single logs, each only once."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord, columns
from yoloperf.core.rundir import SUPERSEDED, RunDir

# Beginnings of files that lie beside logs and are none: pictures, documents, archives and weights, our own tables
_NO_LOG = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\x03\x04", b"<svg", b"<!DOCTYPE", b"<html", b"<?xml")
_TABLES = (",".join(columns(RunRecord)).encode()[:40], b"run_id,", b"platform,device,device_memory_mib,model,")
_DOCUMENTS = (".md", ".rst", ".py", ".sh", ".yaml", ".yml", ".ipynb", ".toml", ".cfg", ".tsv")

Source = RunDir | Path


def find(paths: Iterable[Path]) -> tuple[list[Source], list[Path]]:
    """Run folders and files at or below the paths, in order, and the files in folders that are left aside.

    A path that names a file is always a source. Raises UserError where a path does not exist.
    """
    sources: dict[Path, Source] = {}
    aside: dict[Path, None] = {}
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"{path} does not exist: give run folders, logs, or folders that hold them")
        if not path.is_dir():
            sources.setdefault(path.resolve(), path)
            continue
        for item in _walk(path):
            key = (item.path if isinstance(item, RunDir) else item).resolve()
            if isinstance(item, Path) and _is_no_log(item):
                aside[item] = None
            else:
                sources.setdefault(key, item)
    return list(sources.values()), list(aside)


def _walk(top: Path) -> Iterator[Source]:
    for folder, names, files in os.walk(top):
        if "run.json" in files:
            names.clear()
            yield RunDir(folder)
            continue
        names[:] = sorted(name for name in names if name != SUPERSEDED and not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(folder, name)


def _is_no_log(path: Path) -> bool:
    """Whether a file in a folder is plainly no log, so that it need not be reported as one that cannot be read."""
    if path.suffix.lower() in _DOCUMENTS:
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
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
