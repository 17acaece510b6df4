"""How fast the place is from which a training reads its images."""

import os
import re
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_MOST_BYTES = 64 * 2**20
_MOST_S = 0.3  # the probe must not be felt before a run
_PIECE = 2**20


@cache  # once a process: a sweep asks before each of its cells
def storage(folder: Path) -> dict[str, Any]:
    """File system below a data set's folder, and the rate at which its first files could be read.

    data_read_bytes_per_s is what a loader would get now: files that were read lately come from the page cache, at the speed of
    memory, and data_read_note says so. The rate is None where there is nothing to read.
    """
    read, seconds = _read_some(folder)
    note = f"{read / 2**20:.1f} MiB in {seconds:.3f} s, the page cache not emptied before" if read else "no file could be read"
    return {
        "data_folder": str(folder),
        "data_filesystem": filesystem(folder),
        "data_read_bytes_per_s": round(read / seconds) if read and seconds else None,
        "data_read_note": note,
    }


def filesystem(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Type of the file system that holds the folder, such as ext4, nfs4, lustre or tmpfs; None where it cannot be told."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    place, longest, kind = folder.resolve(), -1, None
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        mount = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[1]))  # blanks in it are \040
        if (place == mount or mount in place.parents) and len(mount.parts) >= longest:  # a later mount hides an earlier one
            longest, kind = len(mount.parts), words[2]
    return kind


def _read_some(folder: Path) -> tuple[int, float]:
    """Bytes read and the time that opening and reading them took; 64 MiB or 0.3 s at most."""
    buffer = bytearray(_PIECE)
    read, started = 0, time.perf_counter()
    for path in _files(folder):
        try:
            with path.open("rb", buffering=0) as stream:
                while (count := stream.readinto(buffer)) and read < _MOST_BYTES and time.perf_counter() - started < _MOST_S:
                    read += count
        except OSError:
            continue
        if read >= _MOST_BYTES or time.perf_counter() - started >= _MOST_S:
            break
    return read, time.perf_counter() - started


def _files(folder: Path) -> Iterator[Path]:
    """Files at or below the folder as the directory has them, without what this package derived from them."""
    for place, names, files in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            yield Path(place) / name
