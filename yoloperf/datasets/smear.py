"""The embedded data set: synthetic blood smears with BCCD's class frequencies, box sizes and crowding.

All figures below were measured on BCCD (364 images of 640 x 480, commit d272fb14cdff6e473fafeeeba32aba5f560e9e43,
its two boxes without area left out); sizes are geometric means of width and height of boxes that touch no edge.
"""

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.datasets import stain, voc
from yoloperf.datasets.folders import new_folder

# 1: first version. Raise it when the same settings give other pictures.
VERSION = 1

NAMES = ("WBC", "RBC", "Platelets")
SIZE = (640, 480)
SPLITS = {"train": 96, "val": 24, "test": 24}
SIDES = range(32, 16385)  # smaller ones hold no platelet
MOST_OBLONG = 4  # longer side over shorter: cells are as large as the area tells, and a white one must fit between the longer sides

# Images of BCCD with 0, 1, 2 ... objects of the class
WBC_COUNTS = (6, 344, 14)
RBC_COUNTS = (15, 0, 0, 4, 1, 10, 8, 7, 20, 30, 44, 44, 35, 39, 39, 23, 15, 9, 8, 4, 0, 3, 2, 2, 0, 1, 0, 1)
PLATELET_COUNTS = (163, 96, 69, 21, 12, 2, 1)

RBC_SIZE_PX, RBC_SIZE_STD_BETWEEN, RBC_SIZE_STD_WITHIN = 103.9, 5.0, 9.8  # spread between and within images
PLATELET_SIZE_PX, PLATELET_SIZE_STD = 40.5, 7.9
# WBC: 184.8 +- 41.1 over all kinds, with a shoulder of small lymphocytes at 103 to 130; kind -> share, mean, standard deviation
WBC_KINDS = {"neutrophil": (0.60, 208.0, 28.0), "eosinophil": (0.22, 204.0, 26.0), "lymphocyte": (0.18, 126.0, 12.0)}

# Standard deviation of ln(width / height) of the boxes
WBC_ASPECT_STD, RBC_ASPECT_STD, PLATELET_ASPECT_STD = 0.103, 0.154, 0.149

# Centres keep this share of the diameter from the border, tried until the border cuts the measured shares of boxes:
# 30 % of the white cells, 25 % of the red ones, 11 % of the platelets
WBC_MARGIN, RBC_MARGIN, PLATELET_MARGIN = 0.36, 0.28, 0.35

# Share of the red cells laid against another one, tried (as the distances in _place) until crowding is as measured:
# 70 % of the RBC boxes overlap another one, 24 % by an IoU above 0.1, 5 % by more than 0.3
RBC_CLUSTERED = 0.4


@dataclass(frozen=True)
class Cell:
    """What is where: label is the index in NAMES, kind the look of a white cell."""

    label: int
    shape: stain.Shape
    kind: str = ""


def generate(folder: Path, splits: dict[str, int] | None = None, size: tuple[int, int] = SIZE, seed: int = 0) -> bool:
    """Write a data set in Pascal VOC layout; False where the same one is there already.

    splits: images of each split, taken in turn. size: width and height; cells scale with it. Image i depends on seed,
    size and i alone. A smear with other settings is replaced; raises UserError where the folder is something else, and for a
    size that holds no smear.
    """
    if not all(side in SIDES for side in size) or max(size) > MOST_OBLONG * min(size):
        limits = f"from {SIDES[0]} to {SIDES[-1]} pixels, the longer one at most {MOST_OBLONG} times the shorter"
        raise UserError(f"no smear of {size[0]} x {size[1]} can be drawn: take sides {limits}")
    splits = splits or SPLITS
    settings = json.dumps({"version": VERSION, "seed": seed, "size": size, "splits": splits}) + "\n"
    made = folder / "smear.json"
    if made.is_file() and made.read_text() == settings:
        return False
    if folder.exists() and not made.is_file():
        raise UserError(f"{folder} exists and is no synthetic smear: remove it or choose another folder with --to")
    stems = [f"smear_{index:05}" for index in range(sum(splits.values()))]
    with new_folder(folder) as building:
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (building / part).mkdir(parents=True)
        for index, stem in enumerate(tqdm(stems, "drawing blood smears", unit="image", disable=None, leave=False)):
            image, boxes = draw(seed, index, size)
            _, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 88])
            (building / "JPEGImages" / f"{stem}.jpg").write_bytes(jpeg.tobytes())
            objects = [(NAMES[label], corners) for label, corners in boxes]
            (building / "Annotations" / f"{stem}.xml").write_text(voc.write_boxes(f"{stem}.jpg", size, objects))
        rest = iter(stems)
        for split, count in splits.items():
            (building / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in islice(rest, count)))
        (building / made.name).write_text(settings)
    return True


def write_yaml(folder: Path, splits: dict[str, int]) -> Path:
    """The data YAML of a data set that `generate` wrote outside the data folders, kept where it is there already; its path."""
    file = folder / "smear.yaml"
    if not file.exists():
        lists = {split: f"ImageSets/Main/{split}.txt" for split in splits}
        write_atomic(file, yaml.safe_dump({"format": "voc", **lists, "names": list(NAMES)}, sort_keys=False))
    return file


def draw(seed: int, index: int, size: tuple[int, int] = SIZE) -> tuple[NDArray[np.uint8], list[tuple[int, tuple[int, int, int, int]]]]:
    """One smear: BGR image [height, width, 3] and its boxes as (index in NAMES, (xmin, ymin, xmax, ymax)) in pixels."""
    rng = np.random.default_rng([seed, index])
    scale = float(np.sqrt(size[0] * size[1] / (SIZE[0] * SIZE[1])))
    absorbance = np.zeros((size[1], size[0], 3), np.float32)
    boxes = []
    for cell in scene(rng, size, scale):
        patch = stain.outline(rng, cell.shape, size, roughness=(0.025, 0.018, 0.10)[cell.label])
        if cell.label == 0:
            layer = stain.white_cell(rng, patch, cell.kind)
        elif cell.label == 1:
            layer = stain.red_cell(rng, patch)
        else:
            layer = stain.platelet(rng, patch)
        below = absorbance[patch.rows, patch.columns]
        # cells that lie on each other press each other thinner
        below += layer * (1 - 0.4 * np.clip(below[..., 1:2] / 0.2, 0, 1))
        boxes.append((cell.label, patch.box()))
    for _ in range(rng.integers(2, 9)):
        shape = stain.Shape(rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(8, 15) * scale, 1.0, 0.0)
        patch = stain.outline(rng, shape, size, 0.02)
        absorbance[patch.rows, patch.columns] += stain.speck(patch)
    return stain.expose(rng, absorbance, scale), boxes


def scene(rng: np.random.Generator, size: tuple[int, int], scale: float) -> list[Cell]:
    """Which cells an image holds and where they lie; white cells first, as the others make way for them."""
    cells: list[Cell] = []
    reds = _count(rng, RBC_COUNTS)
    whites = _count(rng, WBC_COUNTS)
    kinds = rng.choice(list(WBC_KINDS), p=[share for share, _, _ in WBC_KINDS.values()], size=whites if reds else max(1, whites))
    for kind in kinds:
        _, mean, deviation = WBC_KINDS[kind]
        cells.append(Cell(0, _place(rng, size, cells, rng.normal(mean, deviation) * scale, WBC_ASPECT_STD, WBC_MARGIN), kind))
    usual = rng.normal(RBC_SIZE_PX, RBC_SIZE_STD_BETWEEN)
    for _ in range(reds):
        diameter = rng.normal(usual, RBC_SIZE_STD_WITHIN) * scale
        cells.append(Cell(1, _place(rng, size, cells, diameter, RBC_ASPECT_STD, RBC_MARGIN, RBC_CLUSTERED)))
    for _ in range(_count(rng, PLATELET_COUNTS)):
        diameter = max(20.0, rng.normal(PLATELET_SIZE_PX, PLATELET_SIZE_STD)) * scale
        cells.append(Cell(2, _place(rng, size, cells, diameter, PLATELET_ASPECT_STD, PLATELET_MARGIN)))
    return cells


def _count(rng: np.random.Generator, histogram: tuple[int, ...]) -> int:
    return int(rng.choice(len(histogram), p=np.array(histogram) / sum(histogram)))


def _place(
    rng: np.random.Generator,
    size: tuple[int, int],
    cells: list[Cell],
    diameter: float,
    aspect_std: float,
    margin: float,
    clustered: float = 0,
) -> stain.Shape:
    """A shape laid free of the others, or, with probability `clustered`, against a red cell; the best of 40 tries."""
    # a turned ellipse shows only part of its axis ratio in its box: ln(box aspect) ~ ln(ratio) * cos(2 angle)
    ratio = float(np.exp(abs(rng.normal(0, aspect_std * np.sqrt(2)))))
    edge = margin * diameter
    reds = [cell.shape for cell in cells if cell.label == 1]
    against = bool(reds) and rng.random() < clustered
    best, best_gap = (size[0] / 2, size[1] / 2), -np.inf
    for _ in range(40):
        x, y = rng.uniform(edge, size[0] - edge), rng.uniform(edge, size[1] - edge)
        if against:
            other = reds[rng.integers(len(reds))]
            angle, away = rng.uniform(0, 2 * np.pi), (1.12 - 0.7 * rng.beta(1, 5)) * (other.diameter + diameter) / 2
            x, y = other.x + away * np.cos(angle), other.y + away * np.sin(angle)
            if not (edge <= x <= size[0] - edge and edge <= y <= size[1] - edge):
                continue
        gap = min((_gap(cell, x, y, diameter, against) for cell in cells), default=1.0)
        if gap > best_gap:
            best, best_gap = (x, y), gap
        if gap >= 0:
            break
    return stain.Shape(*best, diameter, ratio, rng.uniform(0, np.pi))


def _gap(cell: Cell, x: float, y: float, diameter: float, against: bool) -> float:
    """Distance to a cell as a share of that of touching circles, less the least that is tolerated."""
    least = 0.45 if against and cell.label == 1 else 1.0
    return 2 * float(np.hypot(x - cell.shape.x, y - cell.shape.y)) / (cell.shape.diameter + diameter) - least
