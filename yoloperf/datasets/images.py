"""Image files of a split and their sizes, read from the headers."""

import os
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
_APP1 = 0xE1
# Profiles and depth maps of a phone take some hundred segments of 64 KiB; a file of nothing but segments would take seconds to walk.
MOST_SEGMENTS = 4096  # fill bytes among them

PNG = b"\x89PNG\r\n\x1a\n"

_EXIF = b"Exif\0\0"
_ORIENTATION = 0x112  # EXIF 2.32, table 4: 1 is upright, 2 to 4 mirror and turn by 180 degrees, 5 to 8 swap width and height as well
_SWAPPED = range(5, 9)


def list_images(entry: Path) -> list[Path]:
    """Images of one entry of a split: all below a folder, sorted, or those that a .txt list names, in its order.

    Links to folders are followed; hidden files and folders are left out, such as those of a Mac (._x.jpg). A list gives one
    path a line, relative to the list's own folder. Raises UserError where there is none.
    """
    if entry.is_dir():
        try:
            found = list(_below(entry))
        except OSError as error:
            raise UserError(f"cannot read the folder {error.filename}: {error.strerror}") from error
        if not found:
            raise UserError(f"no images in {entry}: looked for {', '.join(sorted(SUFFIXES))}")
        return found
    return [entry.parent / line for line in read_list(entry)]


def _below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """above: the real paths of the folders on the way, so that a link to one of them is not a way without end."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _below(folder / entry.name, (*above, here))
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                yield folder / entry.name


def read_list(entry: Path) -> list[str]:
    """Lines of a list file, blank ones left out. Raises UserError where there is none."""
    try:
        lines = [line.strip() for line in entry.read_text("utf-8-sig").splitlines()]
    except FileNotFoundError as error:
        raise UserError(f"no image folder or list {entry}: correct the data YAML") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{entry} is no image folder and no text file with one image a line") from error
    except OSError as error:
        raise UserError(f"cannot read the image list {entry}: {error.strerror}") from error
    if not any(lines):
        raise UserError(f"the image list {entry} is empty")
    return [line for line in lines if line]


def printable(text: str) -> str:
    """The text with what is not UTF-8 in its file names written as \\udc.., since a terminal takes no such names."""
    return text.encode(errors="backslashreplace").decode()


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as its EXIF orientation shows it, which is how OpenCV decodes it.

    JPEG and PNG are not decoded. Raises UserError for a file that is no readable image.
    """
    try:
        with path.open("rb") as stream:
            size = header_size(stream)
            if size:
                return size[::-1] if orientation(stream) in _SWAPPED else size
            stream.seek(0)
            image = decode(stream.read())
    except FileNotFoundError as error:
        raise UserError(f"no image {path}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if image is None:
        raise UserError(f"{path} is no readable image: `yoloperf data check` finds all such files")
    return image.shape[1], image.shape[0]


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of a JPEG or PNG swaps width and height of the pixels as they are stored."""
    with path.open("rb") as stream:
        return orientation(stream) in _SWAPPED


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


def orientation(stream: BinaryIO) -> int:
    """EXIF orientation of a JPEG or PNG, 1 to 8, read as OpenCV reads it; 1 where there is none."""
    stream.seek(0)
    if stream.read(8) == PNG:
        return next((_exif_orientation(stream.read(length)) for kind, length in _png_chunks(stream) if kind == b"eXIf"), 1)
    for marker, place in jpeg_segments(stream):
        if marker == _APP1:
            stream.seek(place - 2)
            content = stream.read(int.from_bytes(stream.read(2)) - 2)
            if content.startswith(_EXIF):
                return _exif_orientation(content[len(_EXIF) :])
    return 1


def _png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG, the stream at its content; fewer where the file ends early."""
    place = len(PNG)
    while True:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        yield kind, length
        place += 12 + length


def _exif_orientation(tiff: bytes) -> int:
    """From the first directory of EXIF's TIFF structure."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for place in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, value = struct.unpack_from(f"{order}H6xH", tiff, place)
            if tag == _ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # cut off
        pass
    return 1
