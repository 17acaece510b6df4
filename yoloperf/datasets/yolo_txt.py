"""YOLO labels: one text file an image, one line an object."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError

EXPECTED = "expected `class cx cy width height`, or `class x1 y1 x2 y2 x3 y3 ...` for an outline"


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
    boxes, faults = parse(file, names)
    if faults:
        raise UserError(f"{file} {faults[0]}")
    return boxes


def parse(file: Path, names: tuple[str, ...]) -> tuple[NDArray[np.float64], list[str]]:
    """Boxes of the lines that can be used, and for each other line its number with what is wrong."""
    boxes, faults = [], []
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines, faults = [], [f"is no text: {EXPECTED}"]
    except OSError as error:
        lines, faults = [], [f"cannot be read: {error.strerror}"]
    for number, line in enumerate(lines, 1):
        if words := line.split():
            try:
                boxes.append(_box(words, len(names)))
            except ValueError as error:
                faults.append(f"line {number}: {error}")
    return np.array(boxes, np.float64).reshape(-1, 5), faults


def _box(words: list[str], classes: int) -> list[float]:
    """Numbers of one line. Raises ValueError with what is wrong."""
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        raise ValueError(f"{len(words)} words, {EXPECTED}")
    try:
        label, *places = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"not all are numbers, {EXPECTED}") from None
    if label not in range(classes):
        raise ValueError(f"class {words[0]} out of range, the data YAML names 0 to {classes - 1}")
    if not all(-1 <= value <= 2 for value in places):
        raise ValueError("not normalised, places and sides are fractions of the image's width and height")
    if len(places) > 4:  # an outline, of which the box is taken
        (left, right), (top, bottom) = ((min(side), max(side)) for side in (places[0::2], places[1::2]))
        places = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    return [label, *places]


def write_boxes(boxes: NDArray[np.float32]) -> str:
    """Text of a label file; nine digits give back the same 32-bit floats."""
    return "".join(f"{int(box[0])} " + " ".join(f"{value:.9g}" for value in box[1:]) + "\n" for box in boxes)
