"""The data YAML: where a data set's images are, how they are labelled and what the classes are called."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yoloperf.core.errors import UserError, choose
from yoloperf.datasets.sources import SOURCES

SPLITS = ("train", "val", "test")
FORMATS = ("yolo", "voc", "coco")


@dataclass(frozen=True)
class DataConfig:
    """A data YAML with its root folder found.

    splits: split -> its entries as written: a folder or a .txt list, relative to root unless absolute.
    annotations: split -> COCO JSON file, for format "coco" only.
    """

    name: str
    root: Path
    splits: dict[str, list[str]]
    names: tuple[str, ...]
    format: str = "yolo"
    annotations: dict[str, str] = field(default_factory=dict)

    def entries(self, split: str) -> list[Path]:
        """Absolute paths of a split's entries. Raises UserError naming the splits there are.

        Where there is no ../X beside the root, X below it is meant: exports for ultralytics, which reads them so, have it.
        """
        if split in SPLITS and split not in self.splits:
            hint = f"choose from {', '.join(self.splits)}, or add `{split}:` with a folder or a .txt list to its YAML"
            raise UserError(f"{self.name} has no split {split}: {hint}")
        choose(split, self.splits, f"split of {self.name}")
        return [self._place(entry) for entry in self.splits[split]]

    def _place(self, entry: str) -> Path:
        below = self.root / entry.removeprefix("../")
        return self.root / entry if (self.root / entry).exists() or not below.exists() else below


def load_data_config(name_or_path: str | Path) -> DataConfig:
    """Read the data YAML at a path, or of that name in data/ of the working folder or of the repository.

    `path` is looked for in $YOLOPERF_DATA, then in datasets/ of the working folder; where it starts with "." or
    is left out, it is the YAML's own folder. Raises UserError for an unknown name, a YAML that is none, and a
    data set that is not on this machine.
    """
    file = find_yaml(name_or_path)
    content = _read(file)
    name = file.stem
    names = _names(content, file)
    style = content.get("format", "yolo")
    choose(str(style), FORMATS, f"format in {file}")
    splits = {split: _entries(content[split], split, file) for split in SPLITS if content.get(split)}
    if not splits:
        raise UserError(f"{file} names no images: add train: and val: with a folder or a .txt list")
    annotations = _annotations(content.get("annotations"), splits, file) if style == "coco" else {}
    return DataConfig(name, _root(content.get("path"), file), splits, names, style, annotations)


def class_names(name_or_path: str | Path) -> tuple[str, ...]:
    """Class names of a data YAML, whether or not its images are on this machine. Raises UserError as load_data_config."""
    file = find_yaml(name_or_path)
    return _names(_read(file), file)


def find_yaml(name_or_path: str | Path) -> Path:
    """The YAML file that a path or a name means. Raises UserError listing the names there are."""
    given = Path(name_or_path)
    if given.is_file():
        return given
    for folder in _yaml_folders():
        for candidate in (folder / given, folder / f"{given}.yaml"):
            if candidate.is_file():
                return candidate
    known = {file.stem for folder in _yaml_folders() for file in folder.glob("*.yaml")}
    choose(given.stem if given.suffix in (".yaml", ".yml") else str(given), known, "data set")
    raise UserError(f"no file {given}; the data set {given.stem} is known by its name alone: --data {given.stem}.yaml")


def data_sets_here() -> list[DataConfig]:
    """Every data set that is known by its name and can be trained with here: it has training and validation images on this machine."""
    found: dict[str, DataConfig] = {}
    for file in (file for folder in _yaml_folders() for file in sorted(folder.glob("*.yaml"))):
        try:
            config = load_data_config(file)
        except UserError:
            continue
        if {"train", "val"} <= config.splits.keys():
            found.setdefault(config.name, config)
    return list(found.values())


def _yaml_folders() -> list[Path]:
    return [Path("data"), Path(__file__).parents[2] / "data"]


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise UserError(f"{file} line {line} is no YAML: {error.problem}") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file} is no YAML text file") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no data YAML: it needs the keys path, train, val and names (see data/README.md)")
    return content


def _names(content: dict[str, Any], file: Path) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise UserError(f"{file}: names must number the classes 0 to {len(names) - 1} without a gap")
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names:
        raise UserError(f"{file} has no class names: add names: as a list or as a map from 0")
    if "nc" in content and str(content["nc"]) != str(len(names)):
        raise UserError(f"{file} says nc: {content['nc']} but names {len(names)} classes: make them agree")
    return tuple(str(name) for name in names)


def _entries(value: Any, split: str, file: Path) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"{file}: {split} must be a folder, a .txt list, or a list of them, not {value!r}")
    return entries


def _annotations(value: Any, splits: dict[str, list[str]], file: Path) -> dict[str, str]:
    if not isinstance(value, dict) or set(splits) - set(value):
        wanted = ", ".join(f"{split}: annotations/instances_....json" for split in splits)
        raise UserError(f"{file}: format coco needs the JSON file of every split: add annotations: {{{wanted}}}")
    return {split: str(value[split]) for split in splits}


def _root(value: Any, file: Path) -> Path:
    own = file.resolve().parent
    if value is None:
        return own
    try:
        path = Path(str(value)).expanduser()
    except RuntimeError as error:  # ~ of a user that this machine does not know
        raise UserError(f"{file} says path: {value}, and there is no such user here: correct `path`") from error
    if path.is_absolute():
        candidates = [path]
    elif str(value).startswith("."):
        candidates = [own / path]
    else:
        candidates = [folder / path for folder in data_folders()]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate.resolve()
    if file.stem == "smear":
        hint = "run `yoloperf data synth`"
    elif file.stem in SOURCES:
        hint = f"run `yoloperf data fetch {file.stem}`"
    else:
        hint = "put it there, or correct `path` in the YAML"
    raise UserError(f"the data set {file.stem} is not on this machine (no folder {' or '.join(map(str, candidates))}): {hint}")


def data_folders() -> list[Path]:
    """Folders in which data sets are looked for, in this order."""
    given = os.environ.get("YOLOPERF_DATA")
    return [*([Path(given)] if given else []), Path("datasets")]
