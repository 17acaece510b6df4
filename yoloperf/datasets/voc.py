"""Pascal VOC: one XML file an image."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, choose


def read_boxes(file: Path, names: tuple[str, ...]) -> NDArray[np.float64]:
    """Boxes of one annotation file: [n, 5] of class index, xmin, ymin, xmax, ymax in pixels.

    The four numbers are taken as the corners of a continuous rectangle, as the field's converters for BCCD do
    (VOC's own tools count pixels from 1 and include the last one; the difference is at most one pixel). Objects
    marked difficult are left out, as in VOC's training practice. Raises UserError naming file and cause.
    """
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no XML: {error}") from error
    boxes = [_box(item, names, file) for item in root.iter("object") if item.findtext("difficult", "0").strip() != "1"]
    return np.array(boxes, np.float64).reshape(-1, 5)


def _box(item: ElementTree.Element, names: tuple[str, ...], file: Path) -> list[float]:
    name = item.findtext("name", "").strip()
    choose(name, names, f"class in {file}")
    try:
        return [names.index(name), *(float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))]
    except ValueError as error:
        raise UserError(f"{file}: an object {name} has no numbers for xmin, ymin, xmax, ymax") from error
