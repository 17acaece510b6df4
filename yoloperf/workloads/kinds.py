"""Which kind of work a file of weights is for, told from what it holds."""

from pathlib import Path
from typing import Any

import torch

from yoloperf.core.errors import UserError
from yoloperf.workloads.keywords import KIND as KEYWORDS
from yoloperf.workloads.keywords import Keywords
from yoloperf.workloads.photos import Photos, is_mobilenet
from yoloperf.yolo.device import prepare

DETECTION = "detection"  # the yolo room's own
KINDS = {
    DETECTION: "Darknet .weights or a .pt of train.py",
    Photos.kind: "a .pth with the state dict of torchvision's mobilenet_v2",
    Keywords.kind: "a .pt of `yoloperf keywords train`",
}


def kind_of(path: Path) -> str:
    """A key of KINDS. Raises UserError that names them."""
    return _kind(path, None if path.suffix == ".weights" else _read(path))


def load(path: Path, device: str = "auto", threads: int | None = None) -> Photos | Keywords:
    """Weights of any kind but detection. Sets the process up as `device.prepare` does. Raises UserError."""
    content = _read(path)
    kind = _kind(path, content)
    if kind == DETECTION:
        raise UserError(f"{path} is a detector: give weights of one of {', '.join(kind for kind in KINDS if kind != DETECTION)}")
    compute = prepare(device, "fp32", threads)
    return (Photos if kind == Photos.kind else Keywords).load(path, content, compute.device)


def _kind(path: Path, content: Any) -> str:
    if content is None:
        return DETECTION
    if isinstance(content, dict):
        if "cfg" in content:
            return DETECTION
        if content.get("kind") == KEYWORDS:
            return KEYWORDS
        if is_mobilenet(content):
            return Photos.kind
    raise _unknown(path)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken or foreign file
        raise _unknown(path) from error


def _unknown(path: Path) -> UserError:
    each = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    return UserError(f"{path} holds no weights of a kind known here: {each}")
