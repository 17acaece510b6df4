"""Pascal VOC: one XML file an image."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, choose


def read_boxes(file: Path, names: tuple[str, ...]) -> tuple[NDArray[np.float64], tuple[int, int] | None]:
    """Boxes of one annotation file: [n, 5] of class index, xmin, ymin, xmax, ymax in pixels; width and height of the image
    that they are for, None where the file does not say.

    The four numbers are taken as the corners of a continuous rectangle, as the field's converters for BCCD do
    (VOC's own tools count pixels from 1 and include the last one; the difference is at most one pixel). Objects
    marked difficult are left out, as in VOC's training practice. Raises UserError naming file and cause.
    """
    root = parse(file)
    boxes = [_box(item, names, file) for item in root.iter("object") if item.findtext("difficult", "0").strip() != "1"]
    size = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    known = all(side.isdecimal() for side in size)
    return np.array(boxes, np.float64).reshape(-1, 5), (int(size[0]), int(size[1])) if known else None


def class_names(file: Path) -> set[str]:
    """Names of the objects of one annotation file. Raises UserError naming file and cause."""
    return {item.findtext("name", "").strip() for item in parse(file).iter("object")}


def parse(file: Path) -> ElementTree.Element:
    """Root of an annotation file. Raises UserError naming file and cause."""
    try:
        return ElementTree.parse(file).getroot()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{file} is no XML: {error}") from error
    except (ValueError, LookupError) as error:
        raise UserError(f"{file} is in an encoding that cannot be read ({error}): save it as UTF-8") from error


def _box(item: ElementTree.Element, names: tuple[str, ...], file: Path) -> list[float]:
    name = item.findtext("name", "").strip()
    choose(name, names, f"class in {file}")
    try:
        return [names.index(name), *(float(item.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))]
    except ValueError as error:
        raise UserError(f"{file}: an object {name} has no numbers for xmin, ymin, xmax, ymax") from error


def write_boxes(image: str, size: tuple[int, int], objects: list[tuple[str, tuple[int, int, int, int]]]) -> str:
    """Text of the annotation file of an image of `size` (width, height) with objects (name, (xmin, ymin, xmax, ymax))."""
    root = ElementTree.Element("annotation")
    _children(root, filename=image)
    _children(ElementTree.SubElement(root, "size"), width=size[0], height=size[1], depth=3)
    for name, (xmin, ymin, xmax, ymax) in objects:
        item = ElementTree.SubElement(root, "object")
        _children(item, name=name, difficult=0)
        _children(ElementTree.SubElement(item, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _children(parent: ElementTree.Element, **texts: str | int) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)
