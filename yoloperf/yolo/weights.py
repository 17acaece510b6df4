"""Weight files: Darknet .weights, and .pt checkpoints that carry their cfg."""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.datasets.config import class_names
from yoloperf.yolo.cfg import load_cfg, parse_cfg, same_network
from yoloperf.yolo.darknet import Convolution, Darknet
from yoloperf.yolo.weight_files import find_weights as find_weights

CHECKPOINT_VERSION = 1


@dataclass
class Checkpoint:
    """A network with what is known about it. `training` holds the optimiser's side of a resumable checkpoint."""

    cfg: str
    state: dict[str, Tensor]
    names: list[str] | None = None  # class names; None where the file does not say (Darknet .weights)
    img_size: int | None = None
    training: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Darknet:
        """The network with these weights, in evaluation mode."""
        network = Darknet(self.cfg)
        network.load_state_dict(self.state)
        return network.eval()

    def class_names(self) -> list[str]:
        """Where the file does not say: COCO's for 80 classes, as Darknet's published weights have, else "class 0", ..."""
        if self.names:
            return list(self.names)
        classes = next(section.integer("classes") for section in parse_cfg(self.cfg) if section.kind == "yolo")
        return list(class_names("coco")) if classes == 80 else [f"class {number}" for number in range(classes)]

    @property
    def whole(self) -> bool:
        """Whether it holds the heads, too, and not the first layers alone."""
        heads = [index for index, section in enumerate(parse_cfg(self.cfg)[1:]) if section.kind == "yolo"]
        return f"layers.{heads[-1] - 1}.conv.weight" in self.state

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of architecture and weights, whichever file they came from."""
        content = hashlib.sha256(self.cfg.encode())
        for name in sorted(self.state):
            content.update(name.encode())
            content.update(self.state[name].cpu().contiguous().numpy().tobytes())
        return content.hexdigest()[:12]


def load_weights(path: Path, cfg: str = "", to_start: bool = False) -> Checkpoint:
    """Read .weights (with `cfg`, a path or name; default: the cfg named as the file) or .pt.

    to_start: a training begins with them. Then a .pt may be of another network than `cfg`, and there may be the first layers
    alone, as in darknet53.conv.74. Raises UserError where the file is truncated, is no checkpoint of this project, or does not
    fit the cfg.
    """
    first = re.fullmatch(r".*\.conv\.(\d+)", path.name)  # what `darknet partial` writes: so many layers
    if first and not to_start:
        raise UserError(f"{path} holds a network's first layers alone: begin with it, train.py --weights {path} --cfg yolov3")
    if first and not cfg:
        raise UserError(f"{path} does not say of which network it holds the first layers: add --cfg, such as --cfg yolov3")
    if first:
        return load_darknet(path, load_cfg(cfg), int(first[1]))
    if path.suffix == ".weights":
        return load_darknet(path, load_cfg(cfg or path.stem))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a broken or foreign file
        raise UserError(f"{path} is no readable checkpoint ({type(error).__name__}): give .weights or a .pt of train.py") from error
    if not isinstance(content, dict) or content.get("version") != CHECKPOINT_VERSION:
        raise UserError(f"{path} was not written by train.py; convert it to Darknet .weights with the tool that made it")
    if cfg and not to_start and not same_network(load_cfg(cfg), content["cfg"]):
        raise UserError(f"{path} carries its own cfg, which is not {cfg}: leave out --cfg")
    return Checkpoint(content["cfg"], content["state"], content["names"], content["img_size"], content["training"])


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a .pt as a whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"version": CHECKPOINT_VERSION, **vars(checkpoint)}, buffer)
    write_atomic(path, buffer.getvalue())


def load_darknet(path: Path, cfg: str, layers: int | None = None) -> Checkpoint:
    """Read Darknet .weights: int32 major, minor, revision, the images seen (8 bytes from version 0.2), then float32 values.

    layers: the file holds those of the first so many layers, and so does the checkpoint's state.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if len(data) < 16:
        raise UserError(f"{path} is truncated: {len(data)} bytes do not hold a header")
    major, minor, _ = np.frombuffer(data, "<i4", 3)
    header = 20 if major * 10 + minor >= 2 else 16
    network = Darknet(cfg)
    tensors = list(_in_file_order(network.layers[:layers]))
    expected = header + 4 * sum(tensor.numel() for tensor in tensors)
    if len(data) != expected:
        problem = "is truncated or belongs to another cfg" if len(data) < expected else "belongs to another cfg"
        raise UserError(f"{path} {problem}: expected {expected} bytes, found {len(data)}")
    values = torch.from_numpy(np.frombuffer(data, "<f4", offset=header).copy())
    position = 0
    for tensor in tensors:
        tensor.copy_(values[position : position + tensor.numel()].view_as(tensor))
        position += tensor.numel()
    read = tuple(f"layers.{number}." for number in range(len(network.layers[:layers])))
    return Checkpoint(cfg, {name: tensor for name, tensor in network.state_dict().items() if name.startswith(read)}, img_size=416)


def save_darknet(path: Path, network: Darknet, images_seen: int = 0) -> None:
    """Write Darknet .weights, version 0.2.0."""
    header = np.array([0, 2, 0], "<i4").tobytes() + np.array([images_seen], "<i8").tobytes()
    values = [tensor.cpu().float().numpy().astype("<f4").tobytes() for tensor in _in_file_order(network.layers)]
    write_atomic(path, header + b"".join(values))


def _in_file_order(layers: nn.ModuleList) -> Iterator[Tensor]:
    """Every convolution's bias (or its batch norm's bias, weight, mean, variance), then its weights [out, in, h, w]."""
    for layer in layers:
        if not isinstance(layer, Convolution):
            continue
        if hasattr(layer, "batch_norm"):
            values = dict(layer.batch_norm.named_parameters()) | dict(layer.batch_norm.named_buffers())
            yield from (values[name].detach() for name in ("bias", "weight", "running_mean", "running_var"))
        elif layer.conv.bias is not None:
            yield layer.conv.bias.detach()
        yield layer.conv.weight.detach()


def transfer(state: dict[str, Tensor], network: Darknet) -> tuple[int, int]:
    """Copy every tensor that has its name and shape in the network; returns (copied, of how many)."""
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    network.load_state_dict({**own, **fitting})
    return len(fitting), len(own)


@torch.no_grad()
def transfer_heads(checkpoint: Checkpoint, network: Darknet, names: Sequence[str]) -> None:
    """Give heads of more classes, `names`, what the checkpoint's heads know: boxes, objectness, and every class that these have.

    The other classes keep their fresh weights, as does an only class, which was never told from another. Both networks must decode
    boxes alike.
    """
    classes = checkpoint.class_names()
    rows = [*range(5), *(5 + names.index(name) for name in classes if len(classes) > 1)]
    known = checkpoint.build()
    for head, old, new in zip(network.heads, known.head_convolutions(), network.head_convolutions(), strict=True):
        assert old.bias is not None and new.bias is not None
        anchors = len(head.anchors)
        new.weight.view(anchors, 5 + len(names), -1)[:, rows] = old.weight.view(anchors, 5 + len(classes), -1)[:, : len(rows)]
        new.bias.view(anchors, 5 + len(names))[:, rows] = old.bias.view(anchors, 5 + len(classes))[:, : len(rows)]
