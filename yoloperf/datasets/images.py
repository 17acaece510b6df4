"""Image files of a split and their sizes, read from the headers."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))

# JPEG start-of-frame markers; C4, C8 and CC lie among them and are none (ITU-T T.81, table B.1)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN = 0xDA
# Profiles and depth maps of a phone take some hundred segments of 64 KiB; a file of nothing but segments would take seconds to walk.
MOST_SEGMENTS = 4096  # fill bytes among them

PNG = b"\x89PNG\r\n\x1a\n"


def list_images(entry: Path) -> list[Path]:
    """Images of one entry of a split: all below a folder, sorted, or those that a .txt list names, in its order.

    A list gives one path a line, relative to the list's own folder. Raises UserError where there is none.
    """
    if entry.is_dir():
        found = sorted(path for path in entry.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise UserError(f"no images in {entry}: looked for {', '.join(sorted(SUFFIXES))}")
        return found
    return [entry.parent / line for line in read_list(entry)]


def read_list(entry: Path) -> list[str]:
    """Lines of a list file, blank ones left out. Raises UserError where there is none."""
    try:
        lines = [line.strip() for line in entry.read_text().splitlines()]
    except FileNotFoundError as error:
        raise UserError(f"no image folder or list {entry}: correct the data YAML") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{entry} is no image folder and no text file with one image a line") from error
    if not any(lines):
        raise UserError(f"the image list {entry} is empty")
    return [line for line in lines if line]


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the pixels as stored (EXIF orientation not applied: annotations do not know of it).

    JPEG and PNG are not decoded. Raises UserError for a file that is no readable image.
    """
    try:
        with path.open("rb") as stream:
            size = header_size(stream)
            if size:
                return size
            stream.seek(0)
            image = decode(stream.read(), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except FileNotFoundError as error:
        raise UserError(f"no image {path}") from error
    if image is None:
        raise UserError(f"{path} is no readable image: `yoloperf data check` finds all such files")
    return image.shape[1], image.shape[0]


def decode(content: bytes, flags: int = cv2.IMREAD_COLOR) -> NDArray[Any] | None:
    """Pixels of an image file's content, BGR; None for what is no image, and for more pixels than OpenCV takes (a billion)."""
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None
    return image


def header_size(stream: BinaryIO) -> tuple[int, int] | None:
    """Size from a JPEG or PNG header, None for anything else."""
    head = stream.read(24)
    if head[:8] == PNG and head[12:16] == b"IHDR" and len(head) == 24:
        return struct.unpack(">II", head[16:24])
    for marker, place in jpeg_segments(stream):
        if marker in _FRAMES:
            stream.seek(place)
            frame = stream.read(5)
            if len(frame) < 5:
                return None
            height, width = struct.unpack(">xHH", frame)
            return width, height
    return None


def jpeg_segments(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Marker and place of the content of each segment of a JPEG up to the scan; fewer where the file is broken, none, or all header."""
    stream.seek(0)
    if stream.read(2) != b"\xff\xd8":
        return
    place = 2
    for _ in range(MOST_SEGMENTS):
        stream.seek(place)
        head = stream.read(4)
        if len(head) < 4 or head[0] != 0xFF:
            return
        marker, length = head[1], struct.unpack(">H", head[2:])[0]
        if marker == 0xFF:  # a fill byte before a marker
            place += 1
            continue
        yield marker, place + 4
        if marker == START_OF_SCAN:
            return
        place += 2 + length
