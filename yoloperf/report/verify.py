"""Take a bundle apart, derive its tables and findings anew, and say where they differ."""

import csv
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from yoloperf import __version__
from yoloperf.core.errors import UserError
from yoloperf.core.record import SCHEMA_VERSION
from yoloperf.core.units import show_bytes
from yoloperf.report.bundle import CARDS, DERIVED, FORMAT, FORMAT_VERSION, LOGS, MANIFEST, SPECS, derive_in, sha256, staging

MAX_BYTES = 8 << 30  # unpacked; more is asked for
MAX_MANIFEST = 64 << 20
CHUNK = 1 << 20
# what a zip's content says when it cannot be unpacked: broken, cut, locked, packed in a way that is not known here
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
SAME = 1e-9  # relative: sums and medians on another machine may differ in their last digits, and by no more


@dataclass
class Verified:
    """`wrong`: a file that is not the one that was bundled; `differs`: a derived value that does not follow from the logs."""

    files: int
    made_by: str
    wrong: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.wrong and not self.differs


def verify(path: Path, max_bytes: int = MAX_BYTES) -> Verified:
    """Check every hash, then derive everything anew from the logs and compare.

    Raises UserError for what is no bundle, what a newer version made, and what is built to harm who unpacks it.
    """
    with _opened(path) as archive, staging() as stage:
        manifest = _manifest(archive, path)
        _refuse_harm(archive, manifest, path, max_bytes)
        result = Verified(len(manifest["files"]), str(manifest.get("yoloperf")))
        result.wrong += _unpack(archive, manifest["files"], stage)
        if not result.wrong:
            result.differs += _compare(stage)
        return result


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: `yoloperf bundle LOGS -o {path}` makes one") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is no readable zip ({error}): make or fetch the bundle anew") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    what = f"{path} is no bundle of yoloperf"
    try:
        if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST:
            raise UserError(f"{what}: its {MANIFEST} is larger than {show_bytes(MAX_MANIFEST)}")
        with archive.open(MANIFEST) as stream:
            manifest = json.loads(stream.read(MAX_MANIFEST))
        files = manifest["files"]
        whole = all(isinstance(item["sha256"], str) and isinstance(item["bytes"], int) and item["bytes"] >= 0 for item in files.values())
    except KeyError as error:
        raise UserError(f"{what}: no {error.args[0]}" if error.args else what) from error
    except (ValueError, TypeError, AttributeError, RecursionError, *DAMAGE) as error:
        raise UserError(f"{what}: its {MANIFEST} cannot be read") from error
    if manifest.get("format") != FORMAT or not whole:
        raise UserError(f"{what}: its {MANIFEST} is of another kind")
    for name, ours in (("format_version", FORMAT_VERSION), ("schema_version", SCHEMA_VERSION)):
        if not isinstance(manifest.get(name), int) or manifest[name] > ours:
            made = f"{path} was made by yoloperf {manifest.get('yoloperf')}, {name} {manifest.get(name)}"
            raise UserError(f"{made}; this is {__version__}, which reads up to {ours}: update yoloperf")
    assert isinstance(manifest, dict)
    return manifest


def _refuse_harm(archive: zipfile.ZipFile, manifest: Mapping[str, Any], path: Path, max_bytes: int) -> None:
    """Names that lead out of the folder, entries twice, links, and more bytes than were announced or are bearable."""
    seen: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or parts[0] == "/" or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
            raise UserError(f"{path} is not safe to unpack: {name!r} is no name of a file in it")
        if name in seen:
            raise UserError(f"{path} is not safe to unpack: it holds {name!r} twice")
        if (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000):
            raise UserError(f"{path} is not safe to unpack: {name!r} is no plain file")
        seen.add(name)
    inside = {str(folder) for name in seen for folder in PurePosixPath(name).parents}
    if seen & inside:
        raise UserError(f"{path} is not safe to unpack: {min(seen & inside)!r} is both a file and a folder in it")
    total = sum(item["bytes"] for item in manifest["files"].values())
    if total > max_bytes:
        raise UserError(f"{path} unpacks to {show_bytes(total)}, more than {show_bytes(max_bytes)}: --max-gib allows more")


def _unpack(archive: zipfile.ZipFile, files: Mapping[str, Mapping[str, Any]], stage: Path) -> Iterator[str]:
    """Write the files that the manifest names, each no longer than announced; yields what is missing, added or altered."""
    there = {entry.filename for entry in archive.infolist()}
    for name in sorted(there - files.keys() - {MANIFEST}):
        yield f"{name} is in the bundle but not in its manifest"
    for name, said in tqdm(sorted(files.items()), desc="verify", unit=" files", leave=False, disable=None):
        if name not in there:
            yield f"{name} is missing"
            continue
        if not name.startswith((f"{LOGS}/", f"{SPECS}/", f"{CARDS}/", f"{DERIVED}/")):
            yield f"{name} is no file of a bundle"
            continue
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        left = said["bytes"]
        try:
            with archive.open(name) as source, target.open("wb") as stream:
                while left >= 0 and (part := source.read(CHUNK)):
                    left -= len(part)
                    stream.write(part if left >= 0 else b"")
        except DAMAGE as error:  # the zip's own checksum
            yield f"{name} is damaged: {error}"
            continue
        if left:
            yield f"{name} was altered: it is not {said['bytes']} bytes long"
        elif sha256(target) != said["sha256"]:
            yield f"{name} was altered: its SHA-256 is not that of the manifest"


def _compare(stage: Path) -> Iterator[str]:
    made = derive_in(stage)
    for name in sorted({path.name for path in (stage / DERIVED).glob("*")} - made.keys()):
        yield f"{name} is not a file that follows from the logs"
    for name, text in made.items():
        path = stage / DERIVED / name
        if not path.is_file():
            yield f"{name} is missing: the logs give one"
            continue
        bundled, anew = path.read_bytes().decode("utf-8", "replace"), text.encode("utf-8", "replace").decode()
        if bundled == anew:
            continue
        differ = {".csv": _csv_differences, ".json": _json_differences}.get(path.suffix, _line_differences)
        yield from (f"{name}: {difference}" for difference in differ(bundled, anew))


def _csv_differences(bundled: str, anew: str) -> Iterator[str]:
    """Row by row; a row of runs.csv is named by its run, one of the others by its run and what it has of it."""
    one, two = (list(csv.reader(io.StringIO(text))) for text in (bundled, anew))
    header, other = (rows[0] if rows else [] for rows in (one, two))
    if header != other:
        wanting = sorted(set(header) ^ set(other)) or ["in another order"]
        yield f"other columns: {', '.join(wanting)}"
        return
    if len(one) != len(two):
        yield f"{len(one) - 1} rows bundled, {len(two) - 1} follow from the logs"
    for number, (first, second) in enumerate(zip(one[1:], two[1:], strict=False), 1):
        if len(first) != len(second):
            yield f"row {number}: {len(first)} cells bundled, {len(second)} follow from the logs"
        for column, mine, theirs in zip(header, first, second, strict=False):
            if not _alike(mine, theirs):
                yield f"row {number} ({first[0]}), column {column}: bundled {_quoted(mine)}, from the logs {_quoted(theirs)}"


def _alike(first: str, second: str) -> bool:
    if first == second:
        return True
    try:
        return math.isclose(float(first), float(second), rel_tol=SAME)
    except ValueError:
        return False


def _quoted(cell: str) -> str:
    return repr(cell if len(cell) <= 60 else cell[:59] + "…") if cell else "nothing"


def _json_differences(bundled: str, anew: str) -> Iterator[str]:
    try:
        yield from _walk(json.loads(bundled), json.loads(anew), "")
    except ValueError:
        yield "cannot be read"


def _walk(first: Any, second: Any, where: str) -> Iterator[str]:
    """Differing leaves, each with the way to it; a list's item is named by its own name where it has one."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys()):
            if key in first and key in second:
                yield from _walk(first[key], second[key], f"{where}.{key}" if where else key)
            else:
                yield f"{where or 'it'} {'has' if key in first else 'lacks'} {key}"
    elif isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            yield f"{where}: {len(first)} items bundled, {len(second)} follow from the logs"
        for number, (one, two) in enumerate(zip(first, second, strict=False)):
            named = one.get("name") or one.get("metric") if isinstance(one, dict) else None
            yield from _walk(one, two, f"{where}[{named or number}]")
    elif first != second and not (_number(first) and _number(second) and math.isclose(first, second, rel_tol=SAME)):
        yield f"{where}: bundled {_quoted(str(first))}, from the logs {_quoted(str(second))}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line_differences(bundled: str, anew: str) -> Iterator[str]:
    one, two = bundled.splitlines(), anew.splitlines()
    if len(one) != len(two):
        yield f"{len(one)} lines bundled, {len(two)} follow from the logs"
    for number, (first, second) in enumerate(zip(one, two, strict=False), 1):
        if first != second:
            yield f"line {number}: bundled {_quoted(first)}, from the logs {_quoted(second)}"
