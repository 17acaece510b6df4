"""TrialSpec: everything that decides what one training run computes, and nothing that does not.

One dataclass is the flags of train.py, the keys of a sweep file and the identity of a cell, so that the
three can never disagree.
"""

import argparse
import hashlib
import json
import math
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose

STRIDE = 32  # YOLOv3 halves the picture five times, so its sides must be multiples of 2**5
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
CACHES = ("disk", "none")
ENGINES = ("yoloperf", "ultralytics")
_OF_A_RUN = ("best.pt", "last.pt")  # in weights/ of the folder of a run, whichever network it trained


def _option(
    default: Any, help: str, *aliases: str, choices: tuple[str, ...] | None = None, const: str | None = None, flag: bool = True
) -> Any:
    return field(default=default, metadata={"help": help, "aliases": aliases, "choices": choices, "const": const, "flag": flag})


@dataclass(frozen=True)
class TrialSpec:
    """One grid cell. Raises UserError when a value cannot be trained with."""

    data: str = _option("smear.yaml", "data set YAML: a path, or a name in data/")
    weights: str = _option("", "initial weights, .weights or .pt: a path or a known name; '' trains from scratch")
    cfg: str = _option("", "architecture, Darknet .cfg: a path or a name in cfg/ (default: the one that the weights name)")
    img_size: int = _option(416, "side of the square network input in pixels, a multiple of 32", "img", "imgsz")
    batch_size: int = _option(
        16, "images in a batch, over all devices; a batch is an optimiser step unless --accumulate says otherwise", "batch"
    )
    epochs: int = _option(10, "passes over the training images")
    accumulate: int = _option(1, "batches whose gradients are averaged into one optimiser step")
    lr_scale: float = _option(1.0, "factor on the learning rate of the recipe", "lr")
    seed: int = _option(0, "seed of the initial head, the image order and the augmentation")
    hyp: str = _option("default", "recipe YAML: a path, or a name in cfg/hyp/")
    precision: str = _option(
        "auto", "arithmetic of the convolutions, validation's included; auto is the fastest that the device does well", choices=PRECISIONS
    )
    device: str = _option("auto", "auto, cpu, or the index of a CUDA device such as 0; several, such as 0,1, train together (torchrun)")
    threads: int | None = _option(None, "CPU threads (default: every core this process may use)")
    workers: int | None = _option(None, "threads that load images (default: one a core)")
    cache: str = _option("disk", "where decoded images are kept between epochs and runs", choices=CACHES, const="disk")
    engine: str = _option("yoloperf", "trainer", choices=ENGINES, flag=False)

    def __post_init__(self) -> None:
        check_img_size(self.img_size)
        for name in ("batch_size", "epochs", "accumulate"):
            _at_least(name, getattr(self, name), 1)
        _at_least("seed", self.seed, 0)
        for name in ("threads", "workers"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        if not 0 < self.lr_scale < math.inf:
            raise UserError(f"lr_scale must be a number greater than 0, not {self.lr_scale}")
        choose(self.precision, PRECISIONS, "precision")
        choose(self.cache, CACHES, "cache")
        choose(self.engine, ENGINES, "engine")
        if not self.weights and not self.cfg:
            raise UserError("weights '' trains from scratch and needs a cfg: add --cfg yolov3-tiny or --cfg yolov3")

    @property
    def model(self) -> str:
        """Short name of the architecture: the cfg's stem, else that of the weights. Checkpoints of a run are called as its folder."""
        file = Path(self.cfg or self.weights)
        run = file.parent.parent.name if file.parent.name == "weights" and file.name in _OF_A_RUN else ""
        return run or file.stem

    @property
    def hash(self) -> str:
        """Identity of the cell: first 12 hex digits of the SHA-256 of its fields as canonical JSON.

        Our own engine is left out: cells that ran before there was another keep their identity.
        """
        values = {name: value for name, value in asdict(self).items() if (name, value) != ("engine", "yoloperf")}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def argv(self) -> list[str]:
        """The flags of train.py that give this spec, defaults left out; the engine is the command that they are given to."""
        flags = []
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default and item.metadata["flag"]:
                flags += [_flag(item.name), str(value)]
        return flags


def check_img_size(img_size: int) -> None:
    """Raises UserError for a side that the network cannot take, with the nearest that it can."""
    _at_least("img_size", img_size, 1)
    if img_size % STRIDE:
        below = img_size // STRIDE * STRIDE
        nearest = f"{below} or {below + STRIDE}" if below else STRIDE
        raise UserError(f"img_size {img_size} is not a multiple of {STRIDE}: choose {nearest}")


def _at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _type(item: Field[Any]) -> type:
    if item.name in ("threads", "workers"):
        return int
    assert item.default is not MISSING
    return type(item.default)


def field_names() -> dict[str, str]:
    """Every accepted key of a sweep file (fields and their aliases) -> the field it means."""
    names = {}
    for item in fields(TrialSpec):
        for name in (item.name, *item.metadata["aliases"]):
            names[name] = item.name
    return names


def from_mapping(values: dict[str, Any], where: str = "spec") -> TrialSpec:
    """Build a spec from a mapping keyed by fields or aliases. Raises UserError naming the nearest valid key."""
    names = field_names()
    items = {item.name: item for item in fields(TrialSpec)}
    given = {}
    for key, value in values.items():
        name = names[choose(str(key), names, f"key in {where}")]
        if name in given:
            raise UserError(f"{where} gives {name} twice (once as {key!r})")
        given[name] = _convert(items[name], value, where)
    return TrialSpec(**given)


def _convert(item: Field[Any], value: Any, where: str) -> Any:
    """Check a YAML value against the field's type: 4 is a float too, 4.5 is no batch size, 0 is the device "0"."""
    if value is None and item.default is None:
        return None
    kind = _type(item)
    if kind is str and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UserError(f"{item.name} in {where} must be {'text' if kind is str else f'a number ({kind.__name__})'}, not {value!r}")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Give the parser one flag for every field of TrialSpec that a trainer is told, its aliases included."""
    for item in filter(lambda item: item.metadata["flag"], fields(TrialSpec)):
        flags = [_flag(name) for name in (item.name, *item.metadata["aliases"])]
        extra = {"nargs": "?", "const": item.metadata["const"]} if item.metadata["const"] else {}
        parser.add_argument(
            *flags,
            dest=item.name,
            type=_type(item),
            default=item.default,
            choices=item.metadata["choices"],
            help=item.metadata["help"] + (f" (default: {item.default})" if item.default not in ("", None) else ""),
            **extra,
        )


def from_args(args: argparse.Namespace) -> TrialSpec:
    """The spec that parsed flags ask for."""
    return TrialSpec(**{item.name: getattr(args, item.name) for item in fields(TrialSpec) if item.metadata["flag"]})
