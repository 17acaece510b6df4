"""The pictures of a study with their labels: their files as they are, and scaled down and encoded anew as JPEG."""

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from yoloperf.core.errors import UserError
from yoloperf.datasets.config import DataConfig, load_data_config
from yoloperf.datasets.images import decode, image_size
from yoloperf.datasets.labels import Boxes, OtherFrame, box_reader, find_files, tidy_boxes
from yoloperf.offload.study import Study
from yoloperf.service.limits import Limits, check_image
from yoloperf.service.refusal import Refused
from yoloperf.yolo.images import Pixels

FULL = "full"  # the size of a picture whose file is sent as it is
LARGEST = 65_500  # pixels a side, of a JPEG


@dataclass(frozen=True)
class Picture:
    """A picture as the service sees it, which turns it as its EXIF says.

    name: path below the data set's root, unique; content: the file; boxes: float32 [n, 5] of class, centre x, centre y, width,
    height, normalised to the picture as it is shown, for which its labels are.
    """

    name: str
    content: bytes
    width: int
    height: int
    boxes: Boxes

    def encoded(self, size: int | str, quality: int | None) -> bytes:
        """The file, for size FULL; else a JPEG of that quality (1 to 100) whose longer side has `size` pixels, or its own number
        where that is smaller: nothing is gained by sending pixels that were made up."""
        if size == FULL:
            return self.content
        image = _decoded(self.content)
        scale = min(1.0, int(size) / max(self.width, self.height))
        wide, high = max(1, round(self.width * scale)), max(1, round(self.height * scale))
        if scale < 1:
            image = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality or 95])
        return data.tobytes()


@dataclass(frozen=True)
class Pictures:
    """Pictures of a study, the names of their classes, and a line for each one that cannot be used."""

    pictures: list[Picture]
    names: tuple[str, ...]
    unusable: list[str]

    def digest(self) -> str:
        """Equal for the same files with the same boxes in the same order."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(picture.name.encode() + b"\n" + picture.content + picture.boxes.tobytes())
        return digest.hexdigest()


def load_pictures(study: Study) -> list[Picture]:
    """Those of `find_pictures`, for who needs no more. Raises UserError as it does."""
    return find_pictures(study).pictures


def find_pictures(study: Study) -> Pictures:
    """`study.images` pictures of the split, drawn by the study's seed where there are more. What the service would not read is left
    out and told of. Raises UserError where none is left, or where the labels cannot be read."""
    config = load_data_config(study.data)
    pairs = find_files(config, study.split)
    if len(pairs) > study.images:
        pairs = [pairs[place] for place in sorted(random.Random(study.seed).sample(range(len(pairs)), study.images))]
    read_boxes = box_reader(config, pairs)
    pictures, unusable = [], []
    for image, label in pairs:
        name = Path(os.path.relpath(image, config.root)).as_posix()
        try:
            content, size = _content(image, name), image_size(image)
        except UserError as error:
            unusable.append(str(error))
            continue
        try:
            rows = read_boxes(image, label, size)
        except OtherFrame as error:
            unusable.append(str(error))
            continue
        if rows is None and config.format == "coco":
            unusable.append(f"{name} has no labels")
            continue
        boxes, _ = tidy_boxes(np.zeros((0, 5)) if rows is None else rows, config.names)
        pictures.append(Picture(name, content, *size, boxes))
    if not pictures:
        raise UserError(_none_left(config, study.split, unusable))
    return Pictures(pictures, config.names, unusable)


def _content(image: Path, name: str) -> bytes:
    """Raises UserError for what the service would refuse, or cannot be read at all."""
    try:
        content = image.read_bytes()
        check_image(content, Limits(), name)
        _decoded(content)
        return content
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from error
    except Refused as refused:
        raise UserError(f"{name}: {refused.message}") from refused
    except ValueError as error:
        raise UserError(f"{name}: OpenCV cannot decode it") from error


def _decoded(content: bytes) -> Pixels:
    """Raises ValueError for what is no image."""
    image = decode(content)
    if image is None:
        raise ValueError
    return image


def _none_left(config: DataConfig, split: str, unusable: Sequence[str]) -> str:
    return f"no picture of {config.name} {split} can be used: {unusable[0]}{f' (and {len(unusable) - 1} more)' if unusable[1:] else ''}"
