"""Where derived files of a data set are kept, how a change of its files is noticed, and the cache of its labels."""

import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.datasets.config import DataConfig
from yoloperf.datasets.folders import writable

# 1: first version; 2: pictures as their EXIF orientation shows them. Raise it when the same files give other boxes or pixels.
VERSION = 2


def cache_folder(config: DataConfig) -> Path:
    """Folder for derived files, made if need be: .yoloperf in the data set's root.

    Where the root is read-only it lies in $XDG_CACHE_HOME or ~/.cache.
    """
    folder = config.root / ".yoloperf"
    if not writable(folder if folder.exists() else config.root):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = home / "yoloperf" / f"{config.name}-{hashlib.sha256(str(config.root).encode()).hexdigest()[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache folder {folder} ({error.strerror}): set XDG_CACHE_HOME to another folder") from error
    return folder


def fingerprint(subject: object, files: list[Path]) -> str:
    """Changes when a file, the list of files or the repr of `subject` does. A file that cannot be found counts as such."""
    digest = hashlib.sha256(repr((VERSION, subject)).encode())
    for file in files:
        try:
            status = file.stat()
            digest.update(os.fsencode(file) + f" {status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(os.fsencode(file) + b" -\n")
    return digest.hexdigest()


def read_arrays(file: Path, key: str) -> dict[str, Any] | None:
    """Arrays stored under `key`, None where there are none, others, or a file that cannot be read."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            return dict(stored) if stored["key"] == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_arrays(file: Path, key: str, **arrays: Any) -> None:
    """Store arrays under `key`. A disk that takes no cache costs time, not the run: one line on stderr."""
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array(key), **arrays)
    try:
        write_atomic(file, buffer.getvalue())
    except UserError as error:
        print(f"no label cache: {error}", file=sys.stderr)
