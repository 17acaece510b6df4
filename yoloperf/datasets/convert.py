"""Writes any data set, or several as one, in YOLO layout: images/, labels/ and a data YAML beside them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from yoloperf.core.errors import UserError
from yoloperf.datasets.config import DataConfig, load_data_config
from yoloperf.datasets.folders import new_folder
from yoloperf.datasets.labels import Boxes, Split, load_split
from yoloperf.datasets.yolo_txt import write_boxes

_Labelled = tuple[str, Path, Boxes]  # new stem of an image, where it is, its boxes


def convert(config: DataConfig, folder: Path, copy: bool = False) -> dict[str, Split]:
    """Write images/<split>, labels/<split> and <name>.yaml to a new folder; returns the splits with what was mended.

    Images are linked, or copied with `copy`. The labels give back the same boxes bit for bit, so that the hash of a
    split stays. Raises UserError where the folder exists or two images of a split have one name.
    """
    _check_new(folder)
    splits = {split: load_split(config, split) for split in config.splits}
    _write(folder, config.name, config.names, {name: _labelled(split) for name, split in splits.items()}, copy)
    return splits


def join(configs: Sequence[DataConfig], folder: Path, copy: bool = False) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Write several data sets as one, in YOLO layout, so that one detector learns the classes of all; returns these and its splits.

    A class that several sets have is one class; the first set's classes come first, so that a detector of these keeps their
    numbers. Images are named SET_NAME. An object whose class only another set labels stays background where it is not labelled.
    Raises UserError as `convert` does, and for two sets of one name.
    """
    _check_new(folder)
    if len(configs) < 2 or len({config.name for config in configs}) < len(configs):
        raise UserError(f"join takes two or more data sets with names of their own, not {', '.join(config.name for config in configs)}")
    names = tuple(dict.fromkeys(name for config in configs for name in config.names))
    splits: dict[str, list[_Labelled]] = {}
    for config in configs:
        numbers = np.array([names.index(name) for name in config.names])
        for name in config.splits:
            for stem, path, boxes in _labelled(load_split(config, name)):
                renumbered = boxes.copy()
                renumbered[:, 0] = numbers[boxes[:, 0].astype(int)]
                splits.setdefault(name, []).append((f"{config.name}_{stem}", path, renumbered))
    _write(folder, folder.name, names, splits, copy)
    joined = load_data_config(folder / f"{folder.name}.yaml")
    return names, {name: load_split(joined, name) for name in splits}


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder} exists: remove it or choose another folder with --to")


def _labelled(split: Split) -> list[_Labelled]:
    return [(path.stem, path, boxes) for path, boxes in zip(split.images, split.boxes, strict=True)]


def _write(folder: Path, name: str, names: tuple[str, ...], splits: dict[str, list[_Labelled]], copy: bool) -> None:
    with new_folder(folder) as building:
        for split, items in splits.items():
            images, labels = building / "images" / split, building / "labels" / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for stem, path, boxes in items:
                label = labels / f"{stem}.txt"
                if label.exists():
                    raise UserError(f"two images of {name} {split} have the name {stem}: YOLO layout cannot tell them apart")
                label.write_text(write_boxes(boxes))
                image = images / f"{stem}{path.suffix}"
                if copy:
                    shutil.copyfile(path, image)
                else:
                    image.symlink_to(path.resolve())
        # without `path` the data set is where its YAML is, wherever the folder is moved
        content = {**{split: f"images/{split}" for split in splits}, "names": dict(enumerate(names))}
        (building / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
