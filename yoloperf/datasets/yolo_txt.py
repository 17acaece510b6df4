"""YOLO labels: one text file an image, one line an object."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError


def label_path(image: Path) -> Path:
    """Label file of an image: the last `images` folder of its path replaced by `labels`; beside the image where there is none."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_boxes(file: Path, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Boxes of one label file: [n, 5] of class index, centre x, centre y, width, height, normalised to the image.

    Raises UserError naming file, line and cause.
    """
    boxes = []
    try:
        lines = file.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is no text: a label file has a line `class cx cy width height` an object") from error
    for number, line in enumerate(lines, 1):
        if words := line.split():
            boxes.append(_box(words, names, f"{file} line {number}"))
    return np.array(boxes, np.float64).reshape(-1, 5)


def _box(words: list[str], names: tuple[str, ...], where: str) -> list[float]:
    try:
        box = [float(word) for word in words]
    except ValueError as error:
        raise UserError(f"{where} holds something that is no number: expected `class cx cy width height`") from error
    if len(box) != 5:
        raise UserError(f"{where} has {len(box)} numbers: expected `class cx cy width height`")
    if not np.isfinite(box).all():
        raise UserError(f"{where} holds a number that is not finite")
    if box[0] not in range(len(names)):
        raise UserError(f"{where} has class {words[0]}: the data YAML names classes 0 to {len(names) - 1}")
    if max(box[1:]) > 2:
        raise UserError(f"{where} is not normalised: centre, width and height are fractions of the image's width and height")
    return box


def write_boxes(boxes: NDArray[np.float32]) -> str:
    """Text of a label file; nine digits give back the same 32-bit floats."""
    return "".join(f"{int(box[0])} " + " ".join(f"{value:.9g}" for value in box[1:]) + "\n" for box in boxes)
