"""How large an image claims to be, read from its first bytes by code that allocates nothing.

An imaging library would do, but some set up their decoder, canvas included, to tell a size.
"""

import io
import re
import struct

from yoloperf.datasets.images import MOST_SEGMENTS, PNG, START_OF_SCAN, header_size

FORMATS = "JPEG, PNG, WebP, BMP or TIFF"

# of a JPEG: those that a length follows, and the start and the end of a picture; in a scan's data 00 follows every FF (ITU-T T.81, B.1)
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
_START, _END = b"\xd8", b"\xd9"

_TIFF_SIDES = {256: 0, 257: 1, 322: 0, 323: 1}  # ImageWidth, ImageLength, TileWidth, TileLength (TIFF 6.0) -> width or height
_TIFF_TYPES = {3: "H", 4: "I"}  # SHORT, LONG


def claimed_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG, PNG, WebP, BMP or TIFF; of a tiled TIFF at least those of a tile. None for anything else."""
    try:
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"BM":
            return _bmp(data)
        if data[:8] == PNG:
            return _png(data)
        if data[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(data)
        return header_size(io.BytesIO(data))
    except struct.error:  # ends within the header
        return None


def jpeg_scans(data: bytes) -> int | None:
    """Scans of a JPEG, none counted of what may follow its picture (another one, a film); None where its segments are too many to look at.

    0 for anything else, and where the file ends within the header.
    """
    count, place = 0, 2
    if data[:2] != b"\xff\xd8":
        return count
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or found[1] in (_START, _END) or found.end() + 2 > len(data):
            return count
        count += found[1][0] == START_OF_SCAN
        # a marker in the content of a segment is none
        place = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649 (container, lossless) and RFC 6386 section 9.1 (lossy): the first chunk has the size."""
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        return low_w + (high_w << 16) + 1, low_h + (high_h << 16) + 1
    if kind == b"VP8L" and data[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _png(data: bytes) -> tuple[int, int] | None:
    """OpenCV takes the memory that a chunk says it fills before it looks whether the file is that long: all chunks must be there."""
    place, kind = len(PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > len(data):
            return None
        place += 12 + length
    return header_size(io.BytesIO(data))


def _bmp(data: bytes) -> tuple[int, int]:
    """A negative height means that the topmost row comes first. A header of 12 bytes, OS/2's, has 16 bits a side."""
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def _tiff(data: bytes) -> tuple[int, int] | None:
    """From the first directory; of tags that occur twice the larger."""
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    sides = [0, 0]
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, place)
        if tag in _TIFF_SIDES:
            if kind not in _TIFF_TYPES or count != 1:
                return None
            (value,) = struct.unpack_from(order + _TIFF_TYPES[kind], data, place + 8)
            sides[_TIFF_SIDES[tag]] = max(sides[_TIFF_SIDES[tag]], value)
    return sides[0], sides[1]
