"""Darknet .cfg text -> nn.Module, and the same text with another number of classes.

A network is its list of sections; the text is kept with every checkpoint, so a checkpoint needs no other file.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from yoloperf.core.errors import UserError, choose
from yoloperf.yolo.convolution import Conv2d

CFG_FOLDER = Path(__file__).resolve().parents[2] / "cfg"

# Darknet adds 1e-6 to the standard deviation (batchnorm_layer.c); adding it to the variance is what OpenCV's importer does
# and agrees with the official weights to float tolerance.
BATCH_NORM_EPS = 1e-6
BATCH_NORM_MOMENTUM = 0.03
LEAKY_SLOPE = 0.1  # activations.h of Darknet


@dataclass(frozen=True)
class Section:
    """One [kind] block of a .cfg with its key=value lines."""

    kind: str
    values: dict[str, str]

    def integer(self, key: str, default: int | None = None) -> int:
        text = self.values.get(key)
        if text is None:
            if default is None:
                raise UserError(f"cfg: [{self.kind}] has no {key}=")
            return default
        try:
            return int(text)
        except ValueError:
            raise UserError(f"cfg: [{self.kind}] {key}={text} is no whole number") from None

    def numbers(self, key: str) -> list[float]:
        try:
            return [float(part) for part in self.values[key].split(",")]
        except (KeyError, ValueError):
            raise UserError(f"cfg: [{self.kind}] needs {key}= with numbers separated by commas") from None


@dataclass(frozen=True)
class Head:
    """What a [yolo] section says about decoding. anchors: [A, 2] width and height in input pixels."""

    anchors: Tensor
    classes: int
    new_coords: bool  # xy = 2 sigmoid - 0.5, wh = (2 sigmoid)^2 anchor, as AlexeyAB's key of that name; else sigmoid and exp


def parse_cfg(text: str) -> list[Section]:
    """Sections of a Darknet .cfg. Raises UserError with the line that cannot be read."""
    sections: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), {}))
        elif "=" in line and sections:
            key, value = (part.strip() for part in line.split("=", 1))
            sections[-1].values[key] = value
        else:
            raise UserError(f"cfg line {number} is neither [section] nor key=value: {line!r}")
    if not sections or sections[0].kind not in ("net", "network"):
        raise UserError("cfg does not begin with a [net] section")
    return sections


def cfg_text(sections: list[Section]) -> str:
    return "\n".join(
        "\n".join([f"[{section.kind}]", *(f"{key}={value}" for key, value in section.values.items()), ""]) for section in sections
    )


def load_cfg(name: str) -> str:
    """Text of a .cfg by path or by its name in cfg/. Raises UserError with the names there are."""
    path = Path(name)
    if path.is_file():
        return path.read_text()
    if path.parent != Path():
        raise UserError(f"no cfg file {name}; give a path, or one of {', '.join(known_cfgs())}")
    stem = choose(path.stem, known_cfgs(), "cfg")
    return (CFG_FOLDER / f"{stem}.cfg").read_text()


def known_cfgs() -> list[str]:
    return sorted(path.stem for path in CFG_FOLDER.glob("*.cfg"))


def with_classes(text: str, classes: int, keep_decoding: bool = False) -> str:
    """The cfg with heads for another number of classes.

    The heads' last convolutions get their filter count, and `new_coords=1` unless `keep_decoding`: where their weights start
    afresh, they may as well use the bounded box decoding that trains better (docs/decisions.md); heads that keep their weights
    keep their decoding.
    """
    sections = parse_cfg(text)
    for index, section in enumerate(sections):
        if section.kind == "yolo" and section.integer("classes") != classes:
            section.values["classes"] = str(classes)
            if not keep_decoding:
                section.values["new_coords"] = "1"
            sections[index - 1].values["filters"] = str(len(section.numbers("mask")) * (5 + classes))
    return cfg_text(sections)


class MaxPool(nn.Module):
    """Darknet's max pooling: a stride of 1 keeps the size by padding with minus infinity at the right and below."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            x = functional.pad(x, (0, self.size - 1, 0, self.size - 1), value=-math.inf)
        return functional.max_pool2d(x, self.size, self.stride)


class Convolution(nn.Sequential):
    """conv, then batch_norm and activation where the section asks for them; the names are those of the weight files."""

    def __init__(self, section: Section, channels: int) -> None:
        super().__init__()
        filters, size = section.integer("filters"), section.integer("size")
        normalised = section.integer("batch_normalize", 0) == 1
        padding = size // 2 if section.integer("pad", 0) else 0
        self.conv = Conv2d(channels, filters, size, section.integer("stride", 1), padding, bias=not normalised)
        if normalised:
            self.batch_norm = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPS, momentum=BATCH_NORM_MOMENTUM)
        activation = choose(section.values.get("activation", "linear"), ("leaky", "linear"), "cfg activation")
        if activation == "leaky":
            self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)


class Darknet(nn.Module):
    """The network of a .cfg.

    forward: images [B, 3, S, S] in 0..1, S a multiple of 32 -> one raw tensor [B, S/stride, S/stride, A, 5 + C] for every
    [yolo] section in the order of the cfg: x, y, w, h, objectness, classes, before any activation.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cfg = text
        sections = parse_cfg(text)
        channels = [sections[0].integer("channels", 3)]  # of the input, then of every layer's output
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []  # absolute indices of the earlier layers that a route or shortcut reads
        self.heads: list[Head] = []
        self.kinds = [section.kind for section in sections[1:]]
        for index, section in enumerate(sections[1:]):
            module: nn.Module = nn.Identity()
            sources: list[int] = []
            out = channels[-1]
            if section.kind == "convolutional":
                module, out = Convolution(section, out), section.integer("filters")
            elif section.kind == "maxpool":
                module = MaxPool(section.integer("size"), section.integer("stride", 1))
            elif section.kind == "upsample":
                module = nn.Upsample(scale_factor=section.integer("stride"), mode="nearest")
            elif section.kind == "route":
                sources = [_absolute(int(number), index) for number in section.numbers("layers")]
                out = sum(channels[source + 1] for source in sources)
            elif section.kind == "shortcut":
                sources = [index - 1, _absolute(section.integer("from"), index)]
            elif section.kind == "yolo":
                self.heads.append(_head(section))
            else:
                raise UserError(f"cfg: no support for [{section.kind}]; use the layers of yolov3.cfg and yolov3-tiny.cfg")
            self.layers.append(module)
            self.sources.append(sources)
            channels.append(out)
        if not self.heads:
            raise UserError("cfg has no [yolo] section: it is no detector")
        self._needed = {source for sources in self.sources for source in sources}
        self._initialise_heads()

    @property
    def classes(self) -> int:
        return self.heads[0].classes

    def convolutions(self) -> list[Convolution]:
        return [layer for layer in self.layers if isinstance(layer, Convolution)]

    def head_convolutions(self) -> list[nn.Conv2d]:
        """The last convolution of every head: the one whose size depends on the number of classes."""
        return [self.layers[index - 1].conv for index, kind in enumerate(self.kinds) if kind == "yolo"]  # type: ignore[misc]

    def forward(self, x: Tensor) -> list[Tensor]:
        kept: dict[int, Tensor] = {}
        outputs: list[Tensor] = []
        for index, (kind, layer, sources) in enumerate(zip(self.kinds, self.layers, self.sources, strict=True)):
            if kind == "yolo":
                head = self.heads[len(outputs)]
                rows = x.permute(0, 2, 3, 1)
                outputs.append(rows.reshape(*rows.shape[:3], len(head.anchors), 5 + head.classes))
            elif kind == "route":
                x = torch.cat([kept[source] for source in sources], 1) if len(sources) > 1 else kept[sources[0]]
            elif kind == "shortcut":
                x = kept[sources[0]] + kept[sources[1]]
            else:
                x = layer(x)
            if index in self._needed:
                kept[index] = x
        return outputs

    def _initialise_heads(self) -> None:
        """Objectness starts rare (8 objects in a 640 px picture) and classes at 0.6 / C, so that the first steps do not waste
        themselves on pushing thousands of empty cells down (focal loss paper, section 3.3, arXiv:1708.02002)."""
        for head, conv in zip(self.heads, self.head_convolutions(), strict=True):
            assert conv.bias is not None
            bias = conv.bias.detach().view(len(head.anchors), -1)
            bias[:, :4] = 0
            bias[:, 4] = math.log(8 / 40**2)
            bias[:, 5:] = math.log(0.6 / (head.classes - 0.6)) if head.classes > 1 else 0

    def fuse(self) -> "Darknet":
        """Fold every batch norm into its convolution, for inference; the network cannot be trained afterwards."""
        for layer in self.convolutions():
            if hasattr(layer, "batch_norm"):
                layer.conv = nn.utils.fusion.fuse_conv_bn_eval(layer.conv.eval(), layer.batch_norm.eval())
                del layer.batch_norm
        return self

    def flops(self, img_size: int) -> float:
        """Floating-point operations of the convolutions in one forward pass of one image, 2 per multiply-add."""
        return sum(self._flops_by_layer(img_size))

    def training_flops(self, img_size: int) -> float:
        """The same for one training image: the gradients of inputs and of weights cost a forward pass each, except that
        nothing asks for the gradient of the picture."""
        by_layer = self._flops_by_layer(img_size)
        return 3 * sum(by_layer) - by_layer[0]

    def _flops_by_layer(self, img_size: int) -> list[float]:
        """In the order of the cfg, from the sides of their outputs."""
        by_layer: list[float] = []
        sides: list[int] = []
        side = img_size
        for kind, layer, sources in zip(self.kinds, self.layers, self.sources, strict=True):
            if isinstance(layer, Convolution):
                (kernel, _), (stride, _), padding = layer.conv.kernel_size, layer.conv.stride, layer.conv.padding[0]
                side = (side + 2 * int(padding) - kernel) // stride + 1
                by_layer.append(2.0 * layer.conv.weight.numel() * side**2)
            elif isinstance(layer, MaxPool) and layer.stride > 1:
                side = (side - layer.size) // layer.stride + 1
            elif isinstance(layer, nn.Upsample):
                side *= int(layer.scale_factor)  # type: ignore[arg-type]
            elif kind == "route":
                side = sides[sources[0]]
            sides.append(side)
        return by_layer


def _absolute(index: int, here: int) -> int:
    absolute = index if index >= 0 else here + index
    if not 0 <= absolute < here:
        raise UserError(f"cfg: layer {here} refers to layer {index}, which does not come before it")
    return absolute


def _head(section: Section) -> Head:
    anchors = torch.tensor(section.numbers("anchors")).view(-1, 2)
    mask = [int(number) for number in section.numbers("mask")]
    if max(mask) >= len(anchors):
        raise UserError(f"cfg: [yolo] mask={section.values['mask']} names more anchors than the {len(anchors)} given")
    return Head(anchors[mask], section.integer("classes"), section.integer("new_coords", 0) == 1)
