"""COCO: one instances_*.json for all images of a split."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, choose


def read_boxes(file: Path, names: tuple[str, ...]) -> dict[str, tuple[NDArray[np.float64], tuple[int, int] | None]]:
    """Image file name -> boxes [n, 5] of class index, xmin, ymin, xmax, ymax in pixels, and width and height of the image that
    they are for, None where the file does not say; every image has an entry.

    A sparse category id (COCO: 80 of 1 to 90) becomes the index of its name in `names`; with COCO's own names
    that is the order of the categories. Crowds (iscrowd) are left out: their box holds many objects, and the
    field trains without them. Raises UserError naming file and cause.
    """
    try:
        content = json.loads(file.read_bytes())
        images = {item["id"]: item["file_name"] for item in content["images"]}
        objects = [item for item in content["annotations"] if not item.get("iscrowd")]
        categories = {item["id"]: item["name"] for item in content["categories"]}
        used = {item["category_id"] for item in objects}
        label = {key: names.index(choose(categories[key], names, f"category in {file}")) for key in used}
        boxes: dict[str, list[tuple[float, ...]]] = {name: [] for name in images.values()}
        for item in objects:
            left, top, width, height = item["bbox"]
            boxes[images[item["image_id"]]].append((label[item["category_id"]], left, top, left + width, top + height))
        sizes = {item["file_name"]: (item["width"], item["height"]) for item in content["images"] if {"width", "height"} <= item.keys()}
        return {name: (np.array(rows, np.float64).reshape(-1, 5), sizes.get(name)) for name, rows in boxes.items()}
    except FileNotFoundError as error:
        raise UserError(f"no annotation file {file}: correct `annotations` in the data YAML") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is no COCO instances file: {type(error).__name__} {error}") from error


def match(images: list[Path], names: Iterable[str], file: Path) -> dict[Path, str]:
    """Image -> its file name in a COCO file: the longest that its path ends with, else the only one left with the same last part.

    Images without one are left out. Raises UserError where one could be that of two images, or an image's one of two.
    """
    known = set(names)
    found: dict[Path, str] = {}
    for image in images:
        ends = ("/".join(image.parts[place:]) for place in range(len(image.parts)))
        if (name := next((end for end in ends if end in known), None)) is not None:
            found[image] = name
    left = defaultdict(list)
    for name in known - set(found.values()):
        left[PurePosixPath(name).name].append(name)
    for image in images:
        same = left[image.name] if image not in found else []
        if len(same) > 1:
            both = " and ".join(sorted(same)[:2])
            raise UserError(f"{file} has {both}, and either may be {image}: give file_name as the path below the image folder")
        if same:
            found[image] = same[0]
    first: dict[str, Path] = {}
    for image, name in found.items():
        if first.setdefault(name, image) != image:
            wanted = "/".join(image.parts[-2:])
            raise UserError(f"{name} in {file} may be {first[name]} or {image}: give file_name with the folder, such as {wanted}")
    return found
