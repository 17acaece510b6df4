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
from yoloperf.core.tables import RUNS, beside
from yoloperf.parsing.sources import Found, find, shown
from yoloperf.report.derived import derive
from yoloperf.report.load import is_table, load, read_beside

FORMAT, FORMAT_VERSION = "yoloperf bundle", 1
MANIFEST = "manifest.json"
LOGS, SPECS, CARDS, DERIVED = "logs", "specs", "cfg/platforms", "derived"
_TABLES = "tables"  # folder of LOGS in which a table has a folder of its own, since it is not read where logs lie
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
    links: int
    sha256: str


def bundle(paths: Sequence[Path], out: Path, specs: Sequence[Path] = ()) -> Bundled:
    """Write the bundle. Raises UserError where a path is missing or holds no run, and where the bundle would not hold them all.

    The derived files are made from the copies and not from the originals, so that names and paths in them are those that
    a verification will find.
    """
    files, weights, links = _files(find(path for path in paths if not is_table(path)), paths)
    there = load(paths)
    base = Path(os.path.commonpath([os.path.abspath(path) for path in paths]))
    base = base if base.is_dir() else base.parent
    with staging() as stage:
        for path in files:
            _copy(path, stage / LOGS / _within(base, path))
        for path in filter(is_table, paths):
            table = stage / LOGS / _TABLES / _within(base, path) / RUNS
            for own, target in zip((path, *read_beside(path)), (table, *beside(table)), strict=True):
                if own:
                    _copy(own, target)
        for path in specs:
            if (stage / SPECS / path.name).exists():
                raise UserError(f"two of --spec are named {path.name}: rename one")
            _copy(path, stage / SPECS / path.name)
        for card in cards():  # figures such as the MFU rest on them
            _copy(Path(card.file), stage / CARDS / Path(card.file).name)
        derived = derive_in(stage)
        for name, count in (("runs", len(there.runs)), ("epochs", len(there.epochs)), ("kernels", len(there.kernels))):
            if _rows(derived[f"{name}.csv"]) != count:
                raise UserError(
                    f"a bundle would hold {_rows(derived[f'{name}.csv'])} {name} where `yoloperf table` on the same paths reads {count}: "
                    "give every log once, and no table of logs that are given, or bundle the paths one by one"
                )
        for name, text in derived.items():
            (stage / DERIVED / name).parent.mkdir(exist_ok=True)
            (stage / DERIVED / name).write_bytes(text.encode("utf-8", "replace"))
        listed = {path.relative_to(stage).as_posix(): path for path in sorted(stage.rglob("*")) if path.is_file()}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "yoloperf": __version__,
            "schema_version": SCHEMA_VERSION,
            "left_out": {
                "weights": len(weights),
                "weights_bytes": sum(path.stat().st_size for path in weights),
                "links": links,
            },
            "files": {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in listed.items()},
        }
        digest = _write(out, manifest, listed)
        size = sum(path.stat().st_size for path in listed.values())
    left = manifest["left_out"]
    assert isinstance(left, dict)
    return Bundled(len(listed), size, len(there.runs), left["weights"], left["weights_bytes"], links, digest)


def _rows(table: str) -> int:
    return sum(1 for _ in csv.reader(io.StringIO(table, newline=""))) - 1


def _within(base: Path, path: Path) -> str:
    return shown(Path(os.path.abspath(path)).relative_to(base))


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


def _files(found: Found, paths: Sequence[Path]) -> tuple[list[Path], list[Path], int]:
    """Files of the logs; weights beside them, which are left out, and so are links out of the paths: their number."""
    every: list[Path] = []
    for source in found.sources:
        every += sorted(path for path in source.path.rglob("*") if path.is_file()) if isinstance(source, RunDir) else [source]
    every += [path for path in found.aside if path.suffix.lower() in BESIDE]
    every = [path for path in every if path.name not in _LEFT]
    weights = [path for path in every if path.suffix.lower() in WEIGHTS]
    tops = [path.resolve() for path in paths]
    logs = {source for source in found.sources if isinstance(source, Path)}  # read through a link, too
    links = [path for path in every if path.is_symlink() and path not in logs and not any(map(path.resolve().is_relative_to, tops))]
    return [path for path in every if path not in weights and path not in links], weights, len(links)


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
