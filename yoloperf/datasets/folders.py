"""Where data sets are written, and how: a folder appears whole or not at all."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.units import show_bytes


def writable(folder: Path) -> bool:
    """Whether files may be made in a folder. A mode that forbids it to everyone binds root too, whom no mode stops."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))


def data_home() -> Path:
    """Folder for new data sets: $YOLOPERF_DATA if it is there and can be written, else datasets/ of the working folder."""
    given = os.environ.get("YOLOPERF_DATA")
    return Path(given) if given and Path(given).is_dir() and writable(Path(given)) else Path("datasets")


def weights_folders() -> list[Path]:
    """Where weights are looked for by name: here, weights/, and beside or in the folder of YOLOPERF_DATA."""
    data = os.environ.get("YOLOPERF_DATA")
    return [Path(), Path("weights"), *([Path(data), Path(data) / "weights", Path(data).parent / "weights"] if data else [])]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends, and goes away when it fails.

    What was at `target` is replaced. Raises UserError for a full or read-only disk.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            building.chmod(0o755)
            yield building
            if target.exists():
                old = building.with_name(building.name + ".old")
                target.rename(old)
                building.rename(target)
                shutil.rmtree(old)
            else:
                building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; choose another folder or make room") from error


def need_room(folder: Path, wanted_bytes: int) -> None:
    """Raise UserError if the disk of `folder`, which need not be there yet, has less free space than that."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < wanted_bytes:
        raise UserError(f"{folder} needs {show_bytes(wanted_bytes)} and its disk has {show_bytes(free)}: make room or set YOLOPERF_DATA")
