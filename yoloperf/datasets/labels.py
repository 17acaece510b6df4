"""A split of a data set: image paths, sizes and boxes, whatever format the labels have; read once, then cached."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.datasets import cache, coco, voc, yolo_txt
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import DataConfig
from yoloperf.datasets.images import image_size, is_turned, list_images, printable, read_list

# Corners may lie this far outside, as a share of the side, before a box is called outside: labels have six decimals
TOLERANCE = 1e-4

# Faults of boxes that are mended, and how
MENDED = {
    "box without area inside the image": "dropped",
    "same box again": "dropped",
    "box reaching outside the image": "clipped",
}

Boxes = NDArray[np.float32]
Annotated = tuple[NDArray[np.float64], tuple[int, int] | None]  # class and corners in pixels [n, 5]; width and height they are for
BoxReader = Callable[[Path, Path, tuple[int, int]], NDArray[np.float64] | None]


class OtherFrame(UserError):
    """The labels are for the picture as stored, which its EXIF orientation turns."""


@dataclass(frozen=True)
class Split:
    """Images and boxes of one split.

    sizes: int32 [N, 2] of width and height, upright as EXIF says. boxes: for each image float32 [n, 5] of class, centre x, centre y, width,
    height, normalised to the image; [0, 5] for an image without objects. problems: what was mended while reading,
    one line each. hash: SHA-256 over file names, sizes and boxes, the same for any format and order of the images.
    """

    images: list[Path]
    sizes: NDArray[np.int32]
    boxes: list[Boxes]
    problems: list[str]
    hash: str


def load_split(config: DataConfig, split: str) -> Split:
    """Read a split, from the cache where nothing changed since. Raises UserError for input that cannot be used."""
    pairs = find_files(config, split)
    images = [image for image, _ in pairs]
    store = cache_folder(config) / f"labels-{config.name}-{split}.npz"
    key = cache.fingerprint((config, split), [*images, *dict.fromkeys(label for _, label in pairs)])
    arrays = cache.read_arrays(store, key)
    if arrays is not None:
        boxes = np.split(arrays["boxes"], np.cumsum(arrays["counts"])[:-1])
        images = [images[index] for index in arrays["kept"]]
        return Split(images, arrays["sizes"], boxes, arrays["problems"].tolist(), str(arrays["hash"]))
    found = _read(config, split, pairs)
    place = {path: index for index, path in enumerate(images)}
    cache.write_arrays(
        store,
        key,
        kept=np.array([place[path] for path in found.images]),
        sizes=found.sizes,
        boxes=np.concatenate(found.boxes),
        counts=np.array([len(item) for item in found.boxes]),
        problems=np.array(found.problems, dtype=str),
        hash=np.array(found.hash),
    )
    return found


def find_files(config: DataConfig, split: str) -> list[tuple[Path, Path]]:
    """Images of a split, each with the file of its labels, which may be missing (for coco: the same JSON for all)."""
    entries = config.entries(split)
    if config.format == "voc":
        return [pair for entry in entries for pair in _find_voc(entry)]
    images = [image for entry in entries for image in list_images(entry)]
    if config.format == "coco":
        return [(image, config.root / config.annotations[split]) for image in images]
    return [(image, yolo_txt.label_path(image)) for image in images]


def _find_voc(entry: Path) -> list[tuple[Path, Path]]:
    """Images that <devkit>/ImageSets/Main/<split>.txt names by their stems, behind which VOC's lists of a class have a number."""
    if len(entry.parents) < 3:
        raise UserError(f"{entry} is no VOC list: it lies in ImageSets/Main, with JPEGImages and Annotations beside ImageSets")
    devkit = entry.parents[2]
    files = {file.stem: file for file in list_images(devkit / "JPEGImages")}
    stems = [line if line in files else line.split()[0] for line in read_list(entry)]
    missing = [stem for stem in stems if stem not in files]
    if missing:
        raise UserError(f"{entry} names {len(missing)} images that are not in {devkit / 'JPEGImages'}, the first is {missing[0]}")
    return [(files[stem], devkit / "Annotations" / f"{stem}.xml") for stem in stems]


def box_reader(config: DataConfig, pairs: list[tuple[Path, Path]]) -> BoxReader:
    """A function of image, label file and image size that gives normalised boxes as written, None where there are no labels."""
    if config.format == "coco":
        files = {label: coco.read_boxes(label, config.names) for label in {label for _, label in pairs}}
        found = {
            (image, label): annotated[name]
            for label, annotated in files.items()
            for image, name in coco.match([image for image, its in pairs if its == label], annotated, label).items()
        }
        return lambda image, label, size: _normalise(image, found.get((image, label)), size)
    if config.format == "voc":
        return lambda image, label, size: _normalise(image, voc.read_boxes(label, config.names) if label.is_file() else None, size)
    return lambda image, label, size: yolo_txt.read_boxes(label, config.names) if label.is_file() else None


def _normalise(image: Path, annotated: Annotated | None, size: tuple[int, int]) -> NDArray[np.float64] | None:
    """Class and pixel corners -> class, centre, width and height as fractions of the image. Raises OtherFrame."""
    if annotated is None:
        return None
    corners, labelled = annotated
    if labelled is not None and labelled != size and labelled == size[::-1] and is_turned(image):
        raise OtherFrame(
            f"{image}: its labels are for {labelled[0]} x {labelled[1]} pixels as stored, and its EXIF orientation turns it: "
            "take that out of the file (exiftool -Orientation= FILE), or label it as it is shown"
        )
    low, high = corners[:, 1:3] / size, corners[:, 3:5] / size
    return np.hstack([corners[:, :1], (low + high) / 2, high - low])


def _read(config: DataConfig, split: str, pairs: list[tuple[Path, Path]]) -> Split:
    read_boxes = box_reader(config, pairs)
    images, sizes, boxes, problems, unlabelled, other = [], [], [], [], [], []
    for image, label in tqdm(pairs, f"reading {config.name} {split}", unit="image", delay=1, disable=None, leave=False):
        size = image_size(image)
        try:
            rows = read_boxes(image, label, size)
        except OtherFrame as error:
            other.append(error)
            continue
        if rows is None:
            unlabelled.append(image)
            if config.format == "coco":
                continue
            rows = np.zeros((0, 5))
        tidy, faults = tidy_boxes(rows, config.names)
        problems += [f"{image.name}: {fault} {MENDED[fault]}: {box}" for fault, box in faults]
        images.append(image)
        sizes.append(size)
        boxes.append(tidy)
    if other:
        problems.append(f"left out {len(other)} of {len(pairs)} images, the first is {other[0]}")
    if not any(len(item) for item in boxes):
        why = problems[0] if problems else f"looked in {pairs[0][1]} and so on"
        raise UserError(f"{config.name} {split} has {len(pairs)} images but no labels: {why}")
    if unlabelled:
        fate = "left out" if config.format == "coco" else "taken as background"
        problems.append(f"no labels for {len(unlabelled)} of {len(pairs)} images, {fate}; the first is {unlabelled[0].name}")
    array = np.array(sizes, np.int32).reshape(-1, 2)
    return Split(images, array, boxes, [printable(problem) for problem in problems], _hash(images, array, boxes))


def tidy_boxes(rows: NDArray[np.float64], names: tuple[str, ...]) -> tuple[Boxes, list[tuple[str, str]]]:
    """Clip boxes to the image and drop those without area and repeated ones; also returns (a key of MENDED, the box) for each."""
    low = rows[:, 1:3] - rows[:, 3:5] / 2
    high = rows[:, 1:3] + rows[:, 3:5] / 2
    outside = np.any((low < -TOLERANCE) | (high > 1 + TOLERANCE), axis=1)
    left_top, right_bottom = low.clip(0, 1), high.clip(0, 1)
    clipped = np.hstack([rows[:, :1], (left_top + right_bottom) / 2, right_bottom - left_top])
    boxes = np.where(outside[:, None], clipped, rows).astype(np.float32)
    empty = ~np.all((rows[:, 3:5] > 0) & (boxes[:, 3:5] > 0), axis=1)  # what is no number is not greater either
    _, first = np.unique(boxes, axis=0, return_index=True)
    repeated = ~np.isin(np.arange(len(boxes)), first)
    faults = []
    for index in np.flatnonzero(outside | empty | repeated):
        what = f"{names[int(rows[index, 0])]} at {low[index, 0]:.4f},{low[index, 1]:.4f}"
        if empty[index]:
            faults.append(("box without area inside the image", what))
        elif repeated[index]:
            faults.append(("same box again", what))
        else:
            faults.append(("box reaching outside the image", what))
    return boxes[~(empty | repeated)], faults


def _hash(images: list[Path], sizes: NDArray[np.int32], boxes: list[Boxes]) -> str:
    digest = hashlib.sha256()
    for name, size, box in sorted((path.name, size.tobytes(), box.tobytes()) for path, size, box in zip(images, sizes, boxes, strict=True)):
        digest.update(os.fsencode(name) + b"\n" + size + box + b"\n")
    return digest.hexdigest()
