"""Brings one file here, from the web or a folder: resumed where it broke off, checked by size and SHA-256."""

import fcntl
import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from yoloperf import __version__
from yoloperf.core.errors import UserError
from yoloperf.datasets.folders import need_room
from yoloperf.datasets.sources import Piece

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60
TRIES = 5  # connections without a single new byte before giving up


def local_mirror(mirror: str | None) -> Path | None:
    """The path that a mirror means if it is one of this machine, None for a web address."""
    if mirror is None or urlsplit(mirror).scheme in ("http", "https"):
        return None
    return Path(unquote(urlsplit(mirror).path)) if mirror.startswith("file:") else Path(mirror).expanduser()


@contextmanager
def obtain(piece: Piece, folder: Path, mirror: str | None = None) -> Iterator[Path]:
    """The checked file. What was downloaded into `folder` goes away when the block ends well; a part of it stays to be resumed.

    mirror: a web address, folder or file:// address that holds a file of the piece's name, or that file itself.
    Raises UserError for an address that does not answer, a broken connection and a wrong size or checksum.
    """
    here = local_mirror(mirror)
    if here is not None:
        file = here / piece.name if here.is_dir() else here
        if not file.is_file():
            raise UserError(f"no file {file}: --mirror takes a folder that holds {piece.name}")
        _verify(piece, file)
        yield file
        return
    url = piece.url if mirror is None else mirror if mirror.endswith(piece.name) else f"{mirror.rstrip('/')}/{piece.name}"
    part = folder / f".{piece.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = part.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {part}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is downloading {piece.name} to {folder}: wait for it") from error
        if piece.size_bytes is not None:
            # an archive and what is in it are there at the same time; pictures do not shrink
            need_room(folder, piece.size_bytes * (2 if piece.members else 1) - stream.tell())
        _download(url, stream, piece)
        try:
            _verify(piece, part)
        except UserError:
            part.unlink()
            raise
        yield part
        part.unlink()


def _download(url: str, stream: BinaryIO, piece: Piece) -> None:
    """Append what is missing to the stream, over as many connections as it takes while each brings something."""
    if piece.size_bytes is None or stream.tell() > piece.size_bytes:
        _empty(stream)  # without a known size nobody can tell whether the part is one of the same file
    failures = 0
    bar: tqdm[Any]
    with tqdm(total=piece.size_bytes, desc=piece.name, unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:
        while piece.size_bytes is None or stream.tell() < piece.size_bytes:
            before = stream.tell()
            try:
                if _transfer(url, stream, piece.size_bytes, bar):
                    return
                cause = "the connection broke"
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise UserError(f"{url} answers {error.code} {error.reason}: name another place with --mirror URL or FOLDER") from error
                cause = f"it answers {error.code} {error.reason}"
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                cause = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 0 if stream.tell() > before else failures + 1
            if failures == TRIES:
                raise UserError(f"{url}: {cause} after {stream.tell()} bytes; run the command again to go on, or name another --mirror")


def _transfer(url: str, stream: BinaryIO, size_bytes: int | None, bar: "tqdm[Any]") -> bool:
    """One connection; true when the file is whole."""
    request = urllib.request.Request(url, headers={"User-Agent": f"yoloperf/{__version__}"})
    start = stream.tell()
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _empty(stream)  # a server that knows no ranges sends all of it
        announced = response.headers.get("Content-Length")
        total = size_bytes or (stream.tell() + int(announced) if announced else None)
        bar.total, bar.n = total, stream.tell()
        while chunk := response.read(CHUNK_BYTES):
            try:
                stream.write(chunk)
                stream.flush()
            except OSError as error:
                raise UserError(f"cannot write {stream.name}: {error.strerror}; make room and run the command again to go on") from error
            bar.update(len(chunk))
            if size_bytes is not None and stream.tell() > size_bytes:
                return True  # not the file that was asked for: the check says so
    return total is None or stream.tell() >= total


def _empty(stream: BinaryIO) -> None:
    stream.truncate(0)
    stream.seek(0)


def _verify(piece: Piece, file: Path) -> None:
    size = file.stat().st_size
    if piece.size_bytes is not None and size != piece.size_bytes:
        raise UserError(f"{piece.name} has {size} bytes instead of {piece.size_bytes}: it is another file; name another --mirror")
    if piece.sha256 is None:
        return
    digest = hashlib.sha256()
    with (
        file.open("rb") as stream,
        tqdm(total=size, desc=f"checking {piece.name}", unit="B", unit_scale=True, unit_divisor=1024, delay=1, disable=None) as bar,
    ):
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != piece.sha256:
        found = f"{digest.hexdigest()[:12]}... instead of {piece.sha256[:12]}..."
        raise UserError(f"{piece.name} has the SHA-256 {found}: it is damaged or another file; fetch again or name another --mirror")
