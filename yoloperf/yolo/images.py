"""Pixels: decoding, scaling to the network's size, and a cache of decoded images that every run of a sweep shares."""

import contextlib
import fcntl
import glob
import shutil
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.core.rundir import atomic_stream
from yoloperf.datasets.cache import fingerprint
from yoloperf.datasets.images import decode
from yoloperf.datasets.labels import Split

_PATIENCE_S = 3600.0  # another process may decode COCO for long; who waits in vain decodes for itself
_AHEAD = 8  # images a thread may have decoded before they are written
PAD = 114  # grey of the border, the field's habit since the 2018 PyTorch ports

Pixels = NDArray[Any]  # uint8 [height, width, 3], RGB


class Images(Protocol):
    """A split's images by number, their longer side scaled to the network's."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Pixels: ...


def read_image(path: Path) -> Pixels:
    """Decode a file to RGB, turned as its EXIF says. Raises UserError where it cannot be read or OpenCV cannot decode it."""
    try:
        image = decode(path.read_bytes())  # not by its name, of which OpenCV takes only UTF-8
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if image is None:
        raise UserError(f"{path} is no readable image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


@dataclass(frozen=True)
class Letterbox:
    """How an image was fitted into the square input: its longer side scaled to `size`, then moved by (left, top)."""

    size: int
    left: int
    top: int

    def undo(self, boxes: NDArray[np.float32], width: int, height: int, clip: bool = True) -> NDArray[np.float32]:
        """Boxes [n, 4 + k] whose first columns are x1, y1, x2, y2 in the square -> in pixels of the image of that width and
        height, cut at its edges."""
        corners = (boxes[:, :4] - (self.left, self.top) * 2) / (self.size / max(width, height))
        if clip:
            corners = corners.clip(0, (width, height) * 2)
        return np.hstack((corners, boxes[:, 4:])).astype(np.float32)


def scaled_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height with the longer side scaled to `size`."""
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def letterbox(image: Pixels, size: int) -> tuple[Pixels, Letterbox]:
    """Scale the longer side to `size` and centre the image on a grey square [size, size, 3]."""
    height, width = image.shape[:2]
    wide, high = scaled_size(width, height, size)
    if (wide, high) != (width, height):
        image = cv2.resize(image, (wide, high), interpolation=cv2.INTER_LINEAR)
    left, top = (size - wide) // 2, (size - high) // 2
    square = np.full((size, size, 3), PAD, np.uint8)
    square[top : top + high, left : left + wide] = image
    return square, Letterbox(size, left, top)


class DecodedEachTime:
    """Images of a split, decoded and scaled at every access."""

    def __init__(self, split: Split, size: int) -> None:
        self.paths, self.size = split.images, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        image = read_image(self.paths[index])
        height, width = image.shape[:2]
        return cv2.resize(image, scaled_size(width, height, self.size), interpolation=cv2.INTER_LINEAR)


class DecodedOnce:
    """The same images from one memory-mapped file of raw pixels, which processes share through the page cache."""

    def __init__(self, split: Split, size: int, file: Path) -> None:
        self.sizes = [scaled_size(int(width), int(height), size) for width, height in split.sizes]
        self.starts = np.concatenate(([0], np.cumsum([3 * width * height for width, height in self.sizes])))
        self.pixels = np.memmap(file, np.uint8, "r")
        used = file.open("rb")
        weakref.finalize(self, used.close)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(used, fcntl.LOCK_SH)  # `_remove_older` leaves images that are in use

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Pixels:
        width, height = self.sizes[index]
        return self.pixels[self.starts[index] : self.starts[index + 1]].reshape(height, width, 3)


def open_images(split: Split, name: str, size: int, cache: str, folder: Path, threads: int) -> Images:
    """Images of a split with their longer side scaled to `size`; cache "disk" decodes them once into `folder`, however many
    processes ask for them at a time, and removes what was decoded for the same name (of data set and split) and size before."""
    images = DecodedEachTime(split, size)
    total = sum(3 * wide * high for wide, high in (scaled_size(int(w), int(h), size) for w, h in split.sizes))
    if cache == "none":
        return images
    file = folder / f"pixels-{name}-{size}-{fingerprint(size, split.images)[:12]}.u8"
    if not _whole(file, total):
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(UserError):  # a file system without locks
                stack.enter_context(lock.held(file.with_suffix(".lock"), f"the decoding of {file}", _PATIENCE_S))
            if not _whole(file, total):
                folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(folder).free < 1.1 * total:
                    print(f"no room for {total / 2**30:.1f} GiB of decoded images in {folder}: decoding them at every use (--cache none)")
                    return images
                _decode_to(file, images, total, threads)
                _remove_older(file)
    return DecodedOnce(split, size, file)


def _whole(file: Path, total: int) -> bool:
    return file.is_file() and file.stat().st_size == total


def _decode_to(file: Path, images: DecodedEachTime, total: int, threads: int) -> None:
    with atomic_stream(file) as stream:
        for pixels in tqdm(_decoded(images, threads), "decoding", len(images), unit="image", disable=None):
            stream.write(pixels.data)
        assert stream.tell() == total, "image headers and decoded sizes disagree"


def _decoded(images: DecodedEachTime, threads: int) -> Iterator[Pixels]:
    """All of them in order; only so many wait in memory for a disk that is slower than the threads."""
    waiting: deque[Future[Pixels]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for index in range(len(images)):
            waiting.append(pool.submit(images.__getitem__, index))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _remove_older(file: Path) -> None:
    """Remove what was decoded from an earlier state of the same split, unless somebody still trains with it."""
    same = file.name.rpartition("-")[0]
    for older in set(file.parent.glob(f"{glob.escape(same)}-*.u8")) - {file}:
        with contextlib.suppress(OSError), older.open("r+b") as stream:  # in use; a file system without locks; removed already
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            older.unlink()
            older.with_suffix(".lock").unlink()
