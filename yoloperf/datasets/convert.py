"""Writes any data set in YOLO layout: images/, labels/ and a data YAML beside them."""

import shutil
from pathlib import Path

import yaml

from yoloperf.core.errors import UserError
from yoloperf.datasets.config import DataConfig
from yoloperf.datasets.folders import new_folder
from yoloperf.datasets.labels import Split, load_split
from yoloperf.datasets.yolo_txt import write_boxes


def convert(config: DataConfig, folder: Path, copy: bool = False) -> dict[str, Split]:
    """Write images/<split>, labels/<split> and <name>.yaml to a new folder; returns the splits with what was mended.

    Images are linked, or copied with `copy`. The labels give back the same boxes bit for bit, so that the hash of a
    split stays. Raises UserError where the folder exists or two images of a split have one name.
    """
    if folder.exists():
        raise UserError(f"{folder} exists: remove it or choose another folder with --to")
    splits = {split: load_split(config, split) for split in config.splits}
    with new_folder(folder) as building:
        for name, split in splits.items():
            images, labels = building / "images" / name, building / "labels" / name
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            for path, boxes in zip(split.images, split.boxes, strict=True):
                label = labels / f"{path.stem}.txt"
                if label.exists():
                    raise UserError(f"two images of {config.name} {name} have the name {path.stem}: YOLO layout cannot tell them apart")
                label.write_text(write_boxes(boxes))
                if copy:
                    shutil.copyfile(path, images / path.name)
                else:
                    (images / path.name).symlink_to(path.resolve())
        # without `path` the data set is where its YAML is, wherever the folder is moved
        content = {**{name: f"images/{name}" for name in splits}, "names": dict(enumerate(config.names))}
        (building / f"{config.name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return splits
