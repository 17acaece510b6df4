"""Files as streams of UTF-8 bytes: unpacks gzip, turns UTF-16 into UTF-8, drops byte order marks."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16
_GZIP = b"\x1f\x8b"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
DAMAGED = (OSError, EOFError, zlib.error)


def open_content(path: Path) -> BinaryIO:
    """Binary content of a file, unpacked where it is gzip. Raises OSError."""
    stream = path.open("rb")
    if stream.read(2) == _GZIP:
        stream.seek(0)
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    stream.seek(0)
    return stream


def is_binary(head: bytes) -> bool:
    """Whether the beginning of a file is no text in UTF-8, ASCII or UTF-16."""
    return b"\0" in head and head[:2] not in _UTF16


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The rest of the stream as UTF-8 bytes, a MiB at a time. Raises what is in DAMAGED where a packed file is damaged."""
    decoder: codecs.IncrementalDecoder | None = None
    first = True
    while True:
        chunk = stream.read(CHUNK_BYTES)
        if not chunk:
            break
        if first:
            first = False
            if chunk[:2] in _UTF16:
                decoder = codecs.getincrementaldecoder(_UTF16[chunk[:2]])("replace")
                chunk = chunk[2:]
            elif chunk[:3] == codecs.BOM_UTF8:
                chunk = chunk[3:]
        yield decoder.decode(chunk).encode() if decoder else chunk


def peek(stream: BinaryIO) -> bytes:
    """The first 64 KiB; the stream is at its beginning before and after. Raises OSError, EOFError or zlib.error on damage."""
    head = stream.read(HEAD_BYTES)
    stream.seek(0, io.SEEK_SET)
    return head
