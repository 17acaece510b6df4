import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

NAMES = ("WBC", "RBC", "Platelets")

MakeSet = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Every test works in its own folder with its own cache; only those that ask for real data see any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "real_data" in request.fixturenames:
        monkeypatch.setenv("YOLOPERF_DATA", str(request.getfixturevalue("real_data")))
    else:
        monkeypatch.delenv("YOLOPERF_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def write_image(path: Path, width: int = 40, height: int = 20, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def turned(image: bytes, orientation: int, order: str = "<") -> bytes:
    """A JPEG or PNG with EXIF's orientation in its header, which is all that EXIF says; in a PNG behind the pixels for ">"."""
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    if image.startswith(b"\xff\xd8"):
        return image[:2] + b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff + image[2:]
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
    place = 33 if order == "<" else len(image) - 12
    return image[:place] + chunk + image[place:]


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Writes a data set in YOLO layout: image stem -> text of its label file, None for none; returns its YAML."""

    def make(labels: dict[str, str | None], suffix: str = ".jpg") -> Path:
        root = tmp_path / "cells"
        for seed, (stem, text) in enumerate(labels.items()):
            write_image(root / "images" / "train" / (stem + suffix), seed=seed)
            if text is not None:
                label = root / "labels" / "train" / f"{stem}.txt"
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(text)
        file = root / "cells.yaml"
        file.write_text("train: images/train\nnames: [WBC, RBC, Platelets]\n")
        return file

    return make
