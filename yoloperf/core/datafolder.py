"""Where a data set lies and how many images it has, as far as a look at its YAML and its lists tells.

Nothing here raises or reads labels: it is for rooms that only want to know where they stand. Training reads data sets with
the datasets room, whose checks say what is wrong.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class DataFolder:
    """A data set on this machine: its root, and the images of its splits where they can be counted."""

    root: Path
    train_images: int | None
    val_images: int | None


def look(data: str) -> DataFolder | None:
    """The data set of a data YAML, by path or by its name in data/; None where it is not on this machine."""
    file = _yaml(data)
    try:
        content = yaml.safe_load(file.read_text()) if file else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    if file is None or not isinstance(content, dict):
        return None
    root = next((folder for folder in _roots(content.get("path"), file.resolve().parent) if folder.is_dir()), None)
    return None if root is None else DataFolder(root.resolve(), *(_count(root, content.get(split)) for split in ("train", "val")))


def _yaml(data: str) -> Path | None:
    given = Path(data)
    named = [folder / name for folder in (Path("data"), _REPOSITORY / "data") for name in (given, f"{given}.yaml")]
    return next((path for path in (given, *named) if path.is_file()), None)


def _roots(path: Any, own: Path) -> list[Path]:
    """As docs/log-format.md has it: $YOLOPERF_DATA, then datasets/ of the working folder; "." is the YAML's own folder."""
    if path is None or str(path).startswith("."):
        return [own / str(path or "")]
    given = os.environ.get("YOLOPERF_DATA")
    return [folder / Path(str(path)).expanduser() for folder in ([Path(given)] if given else []) + [Path("datasets")]]


def _count(root: Path, entries: Any) -> int | None:
    """Images in folders, names in lists; None where an entry is neither."""
    total = 0
    for entry in entries if isinstance(entries, list) else [entries]:
        path = root / str(entry)
        try:
            if path.is_dir():
                total += sum(Path(name).suffix.lower() in _SUFFIXES for _, _, names in os.walk(path) for name in names)
            else:
                total += sum(1 for line in path.read_text().splitlines() if line.strip())
        except (OSError, UnicodeDecodeError):
            return None
    return total
