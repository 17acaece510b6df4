"""Files as streams of UTF-8 bytes: unpacks gzip, turns UTF-16 into UTF-8, drops byte order marks."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Content = io.BufferedReader | gzip.GzipFile
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16
_TEXT = bytes({*range(32, 256), *b"\a\b\t\n\f\r\v\x1b"})
_GZIP = b"\x1f\x8b"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
DAMAGED = (OSError, EOFError, zlib.error)


@contextmanager
def open_content(path: Path) -> Iterator[Content]:
    """Binary content of a file, unpacked where it is gzip. Raises OSError."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked


def is_binary(head: bytes) -> bool:
    """Whether the beginning of a file is no text in UTF-8, ASCII or UTF-16: a twentieth of it is control characters.

    A crash can leave zeros at the end of a log: they do not count.
    """
    text = head.rstrip(b"\0")
    return head[:2] not in _UTF16 and len(text.translate(None, _TEXT)) * 20 > len(text)


def chunks(stream: Content) -> Iterator[bytes]:
    """The rest of the stream as UTF-8 bytes, a MiB at a time. Raises what is in DAMAGED where a packed file is damaged."""
    decoder: codecs.IncrementalDecoder | None = None
    first = True
    while True:
        chunk = stream.read1(CHUNK_BYTES)  # which, unlike read, hands over what stands before a damage
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


def peek(stream: Content) -> bytes:
    """The first 64 KiB, less where the file is damaged there; the stream is at its beginning before and after."""
    head = b""
    try:
        while len(head) < HEAD_BYTES and (part := stream.read1(HEAD_BYTES - len(head))):
            head += part
    except DAMAGED:
        if not head:
            raise
    stream.seek(0, io.SEEK_SET)
    return head
