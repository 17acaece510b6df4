"""Unpacks a zip that may come from anywhere, and tells the content of a folder by one hash."""

import hashlib
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from yoloperf.core.errors import UserError

# A data set is pictures, which hardly shrink, or JSON, which shrinks to a fifth: more is a decompression bomb
MOST_GROWTH = 20


def wanted_members(archive: zipfile.ZipFile, members: dict[str, str]) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """Files of the archive below one of the prefixes, each with its path below the target; hidden files are left out.

    Raises UserError for an archive with a path that leads out, a link or special file, or far more bytes than it
    has packed.
    """
    wanted = []
    for info in archive.infolist():
        path = PurePosixPath(info.filename)
        # names come with / only: zipfile has turned the system's own separator into it
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in path.parts[0]:
            raise UserError(f"{archive.filename} is not safe to unpack: it holds the path {info.filename!r}")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UserError(f"{archive.filename} is not safe to unpack: {info.filename!r} is a link or a special file")
        prefix = next((prefix for prefix in members if info.filename.startswith(prefix)), None)
        if prefix is not None and not info.is_dir() and not path.name.startswith("."):
            wanted.append((info, PurePosixPath(members[prefix] + info.filename.removeprefix(prefix))))
    packed = Path(str(archive.filename)).stat().st_size
    if unpacked_bytes(wanted) > MOST_GROWTH * packed:
        raise UserError(f"{archive.filename} is not safe to unpack: {packed} bytes would become {unpacked_bytes(wanted)}")
    if not wanted:
        raise UserError(f"{archive.filename} holds none of {', '.join(members)}: it is another archive than expected")
    return wanted


def unpacked_bytes(wanted: list[tuple[zipfile.ZipInfo, PurePosixPath]]) -> int:
    return sum(info.file_size for info, _ in wanted)


def unpack(archive: zipfile.ZipFile, wanted: list[tuple[zipfile.ZipInfo, PurePosixPath]], folder: Path) -> None:
    """Write the wanted members below a folder. Raises UserError for damaged content."""
    for info, place in tqdm(wanted, f"unpacking {Path(str(archive.filename)).name}", unit="file", disable=None, leave=False):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # zipfile gives no more bytes than the declared size and checks their CRC
            with archive.open(info) as packed, path.open("xb") as plain:
                shutil.copyfileobj(packed, plain)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise UserError(f"{archive.filename} is damaged at {info.filename}: {error}; remove it and fetch again") from error


def manifest_hash(folder: Path) -> str:
    """SHA-256 over the sorted lines "sha256  path" of all files in the sub-folders, hidden ones left out."""
    places = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [place for place in places if "/" in place and not any(part.startswith(".") for part in place.split("/"))]
    lines = [f"{hashlib.sha256((folder / file).read_bytes()).hexdigest()}  {file}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
