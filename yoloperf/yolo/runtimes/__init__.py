"""Runtimes: what computes a network's predictions once it is trained. Each is a module of its own, imported when it is asked for."""

import argparse
import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, choose
from yoloperf.core.spec import check_img_size
from yoloperf.yolo.device import Compute, prepare
from yoloperf.yolo.weights import Checkpoint

# runtime -> the packages that it needs beside those of every installation
PACKAGES: dict[str, tuple[str, ...]] = {"torch": (), "onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
RUNTIMES = ("auto", *PACKAGES)


class Runtime(Protocol):
    """A network that is ready to predict, by as many threads at a time as it has streams."""

    name: str
    precision: str  # "fp32", "bf16" or "fp16": of the convolutions
    img_size: int
    streams: int

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Letterboxed RGB pictures [B, S, S, 3] -> decoded predictions [B, P, 5 + C]: centre x, y, width, height in input pixels,
        objectness, class probabilities, in the order of `boxes.decode_heads`. The array is the caller's own."""
        ...


def make_runtime(
    checkpoint: Checkpoint,
    name: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    img_size: int | None = None,
    streams: int = 1,
) -> Runtime:
    """The checkpoint's network in a runtime; img_size: side of its input, by default that of the training, else 416.

    streams: into how many parts to divide the threads, each of which predicts by itself; runtimes that cannot have one.

    Sets the process up as `device.prepare` does. Raises UserError where runtime, device, precision or image size cannot be had.
    """
    choose(name, RUNTIMES, "runtime")
    img_size = (checkpoint.img_size or 416) if img_size is None else img_size
    check_img_size(img_size)
    compute = prepare(device, precision, threads)
    name = _fastest(compute) if name == "auto" else name
    require(f"runtime {name}", PACKAGES[name])
    module: Any = importlib.import_module(f"yoloperf.yolo.runtimes.{name}")
    runtime: Runtime = module.make(checkpoint.build().fuse(), compute, img_size, precision, streams)
    return runtime


def add_runtime_flag(parser: argparse.ArgumentParser, default: str) -> None:
    text = f"what computes the network; auto takes the fastest that is installed (default: {default})"
    parser.add_argument("--runtime", default=default, choices=RUNTIMES, help=text)


def require(what: str, packages: Iterable[str]) -> None:
    """Raises UserError with the line that installs what is missing of the packages."""
    missing = _missing(packages)
    if missing:
        raise UserError(f"{what} needs packages that are not installed: pip install {' '.join(missing)}")


def _missing(packages: Iterable[str]) -> list[str]:
    return [package for package in packages if importlib.util.find_spec(package) is None]


def _fastest(compute: Compute) -> str:
    """By the measurement in docs/decisions.md, all being equal in mAP."""
    return "openvino" if compute.device.type == "cpu" and not _missing(PACKAGES["openvino"]) else "torch"
