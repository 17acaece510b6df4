import contextlib
import errno
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.datasets.labels import Split
from yoloperf.yolo.images import PAD, DecodedEachTime, letterbox, open_images, read_image

sides = st.integers(20, 300)


@given(sides, sides, st.sampled_from((64, 96, 416)))
def test_undone_letterbox_gives_the_image_back(width: int, height: int, size: int) -> None:
    """The corners of what is not padding are those of the image, to the pixel that scaling may round away."""
    square, placed = letterbox(np.zeros((height, width, 3), np.uint8), size)
    rows, columns = (np.flatnonzero((square != PAD).any((axis, 2))) for axis in (1, 0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, 0.5, 7]], np.float32)
    back = placed.undo(found, width, height)[0]
    assert back.tolist() == pytest.approx([0, 0, width, height, 0.5, 7], abs=max(width, height) / size + 1e-3)


def test_undone_boxes_are_clipped_to_the_image() -> None:
    _, placed = letterbox(np.zeros((50, 100, 3), np.uint8), 64)
    assert placed.undo(np.array([[-8, 0, 72, 32]], np.float32), 100, 50).tolist() == [[0, 0, 100, 25]]


def _split(folder: Path) -> Split:
    paths = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((30, 40 + number, 3), 10 * number, np.uint8))
    sizes = np.array([[40 + number, 30] for number in range(3)], np.int32)
    return Split(paths, sizes, [np.zeros((0, 5), np.float32)] * 3, [], "")


def test_images_are_decoded_once_and_anew_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, decoded = _split(tmp_path), []
    decode = DecodedEachTime.__getitem__
    monkeypatch.setattr(DecodedEachTime, "__getitem__", lambda images, index: decoded.append(index) or decode(images, index))
    cache = tmp_path / "cache"
    for _ in range(2):
        assert [int(image.max()) for image in open_images(split, "shapes-train", 64, "disk", cache, 1)] == [0, 10, 20]
    assert decoded == [0, 1, 2]
    cv2.imwrite(str(split.images[1]), np.full((30, 41, 3), 99, np.uint8))
    os.utime(split.images[1], ns=(1, 1))
    assert open_images(split, "shapes-train", 64, "disk", cache, 1)[1].max() == 99
    assert len(decoded) == 6


def test_only_the_newest_decoding_of_a_split_is_kept(tmp_path: Path) -> None:
    """Of another split or size, and what a training still uses, is left."""
    split, cache = _split(tmp_path), tmp_path / "cache"

    def kept(touched_ns: int, name: str = "shapes-train", size: int = 64) -> list[str]:
        os.utime(split.images[0], ns=(touched_ns, touched_ns))
        open_images(split, name, size, "disk", cache, 1)
        return sorted(path.name.rpartition("-")[0] for path in cache.iterdir())

    assert kept(1) == kept(2) == ["pixels-shapes-train-64"] * 2  # the pixels and their lock
    assert len(kept(2, "shapes-val")) == 4 and len(kept(2, size=96)) == 6
    used = open_images(split, "shapes-train", 64, "disk", cache, 1)
    assert len(kept(3)) == 8
    del used
    assert len(kept(4)) == 6


def test_decoding_does_not_run_far_ahead_of_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, decoded = _split(tmp_path), []
    split = Split(split.images * 100, np.tile(split.sizes, (100, 1)), split.boxes * 100, [], "")
    decode, ahead = DecodedEachTime.__getitem__, []
    monkeypatch.setattr(DecodedEachTime, "__getitem__", lambda images, index: decoded.append(index) or decode(images, index))

    @contextlib.contextmanager
    def slow(file: Path) -> Iterator[BinaryIO]:
        with file.open("wb") as stream:
            written: list[bytes] = []

            def write(pixels: memoryview) -> None:
                time.sleep(0.001)
                written.append(b"")
                ahead.append(len(decoded) - len(written))
                stream.write(pixels)

            yield SimpleNamespace(write=write, tell=stream.tell)  # type: ignore[misc]

    monkeypatch.setattr("yoloperf.yolo.images.atomic_stream", slow)
    assert len(open_images(split, "shapes-train", 64, "disk", tmp_path / "cache", 2)) == 300
    assert max(ahead) <= 16 + 1


def test_any_file_name_is_read_and_turned_as_its_exif_says(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert read_image(path).shape == (40, 30, 3)
    with pytest.raises(UserError, match=r"^cannot read .*gone\.jpg: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_a_broken_image_leaves_no_cache(tmp_path: Path) -> None:
    split = _split(tmp_path)
    split.images[2].write_bytes(b"\x89PNG no picture")
    with pytest.raises(UserError, match=r"2\.png is no readable image"):
        open_images(split, "shapes-train", 64, "disk", tmp_path / "cache", 1)
    assert not list((tmp_path / "cache").glob("*.u8*"))


def test_more_pixels_than_opencv_takes_are_no_image(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 9), b"IEND"]
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    with pytest.raises(UserError, match=r"bomb\.png is no readable image"):
        read_image(path)


def test_who_waited_for_another_process_finds_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both see a cold cache; the second gets the lock when the first is done, and decodes nothing."""
    split, decoded, cache = _split(tmp_path), [], tmp_path / "cache"
    decode, held = DecodedEachTime.__getitem__, lock.held
    monkeypatch.setattr(DecodedEachTime, "__getitem__", lambda images, index: decoded.append(index) or decode(images, index))

    @contextlib.contextmanager
    def after_the_first(*given: object) -> Iterator[int]:
        monkeypatch.setattr(lock, "held", held)
        open_images(split, "shapes-train", 64, "disk", cache, 1)
        with held(*given) as descriptor:  # type: ignore[arg-type]
            yield descriptor

    monkeypatch.setattr(lock, "held", after_the_first)
    assert [int(image.max()) for image in open_images(split, "shapes-train", 64, "disk", cache, 1)] == [0, 10, 20]
    assert decoded == [0, 1, 2]


def test_nobody_decodes_while_another_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, cache = _split(tmp_path), tmp_path / "cache"
    decode, free = DecodedEachTime.__getitem__, []

    def look(images: DecodedEachTime, index: int) -> object:
        free.extend(path for path in cache.glob("*.lock") if not lock.is_held(path))
        return decode(images, index)

    monkeypatch.setattr(DecodedEachTime, "__getitem__", look)
    open_images(split, "shapes-train", 64, "disk", cache, 1)
    assert len(list(cache.glob("*.lock"))) == 1 and not free


def test_a_file_system_without_locks_is_decoded_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    open_images(_split(tmp_path), "shapes-train", 64, "disk", tmp_path / "cache", 1)
    assert len(list((tmp_path / "cache").glob("*.u8"))) == 1
