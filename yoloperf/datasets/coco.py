"""COCO: one instances_*.json for all images of a split."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, choose


def read_boxes(file: Path, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:
    """Image file name -> boxes [n, 5] of class index, xmin, ymin, xmax, ymax in pixels; every image has an entry.

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
        return {name: np.array(rows, np.float64).reshape(-1, 5) for name, rows in boxes.items()}
    except FileNotFoundError as error:
        raise UserError(f"no annotation file {file}: correct `annotations` in the data YAML") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no COCO instances file: {type(error).__name__} {error}") from error
