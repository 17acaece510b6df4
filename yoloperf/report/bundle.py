"""Evidence in one file: raw logs, hashes and everything derived from them, in a zip whose bytes follow from its content."""

import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from yoloperf import __version__
from yoloperf.core.errors import UserError
from yoloperf.core.platforms import cards
from yoloperf.core.record import SCHEMA_VERSION
from yoloperf.core.rundir import RunDir, atomic_stream
from yoloperf.parsing.sources import Found, find, shown
from yoloperf.report.derived import derive

FORMAT, FORMAT_VERSION = "yoloperf bundle", 1
MANIFEST = "manifest.json"
LOGS, SPECS, CARDS, DERIVED = "logs", "specs", "cfg/platforms", "derived"
WEIGHTS = (".pt", ".pth", ".weights", ".onnx", ".safetensors", ".ckpt")
BESIDE = (".md", ".rst", ".txt", ".csv", ".yaml", ".yml")  # what goes along of what lies beside logs: documents and tables
_LEFT = ("run.lock",)
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold: the same files give the same bytes


@dataclass(frozen=True)
class Bundled:
    """What went into a bundle, and what did not."""

    files: int
    bytes: int
    runs: int
    weights: int
    weights_bytes: int
    sha256: str


def bundle(paths: Sequence[Path], out: Path, specs: Sequence[Path] = ()) -> Bundled:
    """Write the bundle. Raises UserError where a path is missing or holds no run.

    The derived files are made from the copies and not from the originals, so that names and paths in them are those that
    a verification will find.
    """
    found = find(paths)
    files, weights = _files(found)
    if not files:
        raise UserError(f"no log in {', '.join(map(str, paths))}: give run folders, logs, or folders that hold them")
    base = Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
    with staging() as stage:
        for path in files:
            _copy(path, stage / LOGS / shown(Path(os.path.abspath(path)).relative_to(base if base.is_dir() else base.parent)))
        for path in specs:
            if (stage / SPECS / path.name).exists():
                raise UserError(f"two of --spec are named {path.name}: rename one")
            _copy(path, stage / SPECS / path.name)
        for card in cards():  # figures such as the MFU rest on them
            _copy(Path(card.file), stage / CARDS / Path(card.file).name)
        derived = derive_in(stage)
        for name, text in derived.items():
            (stage / DERIVED / name).parent.mkdir(exist_ok=True)
            (stage / DERIVED / name).write_bytes(text.encode("utf-8", "replace"))
        listed = {path.relative_to(stage).as_posix(): path for path in sorted(stage.rglob("*")) if path.is_file()}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "yoloperf": __version__,
            "schema_version": SCHEMA_VERSION,
            "left_out": {"weights": len(weights), "weights_bytes": sum(path.stat().st_size for path in weights)},
            "files": {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in listed.items()},
        }
        digest = _write(out, manifest, listed)
        size = sum(path.stat().st_size for path in listed.values())
    left = manifest["left_out"]
    assert isinstance(left, dict)
    runs = sum(1 for _ in csv.reader(io.StringIO(derived["runs.csv"], newline=""))) - 1
    return Bundled(len(listed), size, runs, left["weights"], left["weights_bytes"], digest)


@contextlib.contextmanager
def staging() -> Iterator[Path]:
    """A temporary folder in which a bundle is put together or taken apart."""
    with tempfile.TemporaryDirectory(prefix="yoloperf-bundle-") as folder:
        stage = Path(folder, "yoloperf", "bundle")  # a run's identity may rest on the names of three folders: none may be random
        stage.mkdir(parents=True)
        yield stage


def derive_in(stage: Path) -> dict[str, str]:
    """What follows from the logs in a bundle's folder, with the cards that are in it."""
    with contextlib.chdir(stage):  # run ids and paths of the records are relative to here, wherever here is
        return derive([Path(LOGS)])


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(found: Found) -> tuple[list[Path], list[Path]]:
    """Files of the logs, and weights beside them, which are left out."""
    every: list[Path] = []
    for source in found.sources:
        every += sorted(path for path in source.path.rglob("*") if path.is_file()) if isinstance(source, RunDir) else [source]
    every += [path for path in found.aside if path.suffix.lower() in BESIDE]
    weights = [path for path in every if path.suffix.lower() in WEIGHTS]
    return [path for path in every if path not in weights and path.name not in _LEFT], weights


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _write(out: Path, manifest: dict[str, Any], files: dict[str, Path]) -> str:
    """The zip, its manifest first. Returns its SHA-256."""
    with atomic_stream(out) as stream, zipfile.ZipFile(stream, "w") as archive:
        _add(archive, MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for name, path in tqdm(files.items(), desc="bundle", unit=" files", leave=False, disable=None):
            with path.open("rb") as source, archive.open(_entry(name, path.stat().st_size), "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
    return sha256(out)


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o644 << 16
    entry.file_size = size
    return entry


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(_entry(name, len(content)), content)
