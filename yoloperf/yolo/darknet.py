"""Darknet .cfg text -> nn.Module.

A network is its list of sections; the text is kept with every checkpoint, so a checkpoint needs no other file.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from yoloperf.core.errors import UserError, choose
from yoloperf.yolo.cfg import Section, check_keys, head_filters, parse_cfg
from yoloperf.yolo.convolution import Conv2d

# Darknet adds 1e-6 to the standard deviation (batchnorm_layer.c); adding it to the variance is what OpenCV's importer does
# and agrees with the official weights to float tolerance.
BATCH_NORM_EPS = 1e-6
BATCH_NORM_MOMENTUM = 0.03
LEAKY_SLOPE = 0.1  # activations.h of Darknet


@dataclass(frozen=True)
class Head:
    """What a [yolo] section says about decoding. anchors: [A, 2] width and height in input pixels."""

    anchors: Tensor
    classes: int
    new_coords: bool  # xy = 2 sigmoid - 0.5, wh = (2 sigmoid)^2 anchor, as AlexeyAB's key of that name; else sigmoid and exp


class MaxPool(nn.Module):
    """Darknet's max pooling: size - 1 rows and columns of minus infinity are added, the smaller half of them above and to the left."""

    def __init__(self, size: int, stride: int) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        before = (size - 1) // 2
        self.before, self.after = (before, size - 1 - before) if (size, stride) != (2, 2) else (0, 0)  # where it would change nothing

    def forward(self, x: Tensor) -> Tensor:
        if self.after:
            x = functional.pad(x, (self.before, self.after) * 2, value=-math.inf)
        return functional.max_pool2d(x, self.size, self.stride)


class Convolution(nn.Sequential):
    """conv, then batch_norm and activation where the section asks for them; the names are those of the weight files."""

    def __init__(self, section: Section, channels: int) -> None:
        super().__init__()
        filters, size = section.integer("filters"), section.integer("size")
        normalised = section.integer("batch_normalize", 0) != 0  # 2 differs in training alone
        padding = size // 2 if section.integer("pad", 0) else section.integer("padding", 0)
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
        if sections[0].integer("channels", 3) != 3:
            raise UserError(f"cfg: no support for channels={sections[0].values['channels']}: pictures are read in colour, write channels=3")
        channels = [3]  # of the input, then of every layer's output
        self.layers = nn.ModuleList()
        self.sources: list[list[int]] = []  # absolute indices of the earlier layers that a route or shortcut reads
        self.heads: list[Head] = []
        self.kinds = [section.kind for section in sections[1:]]
        for index, section in enumerate(sections[1:]):
            module: nn.Module = nn.Identity()
            sources: list[int] = []
            out = channels[-1]
            check_keys(section)
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
            else:
                self.heads.append(_head(section, self.layers[-1] if index else None))
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
            elif isinstance(layer, MaxPool):
                side = (side + layer.before + layer.after - layer.size) // layer.stride + 1
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


def _head(section: Section, before: nn.Module | None) -> Head:
    """before: the layer whose output the section reads."""
    filters = head_filters(section)
    if not isinstance(before, Convolution) or before.conv.bias is None:
        raise UserError("cfg: before [yolo] there must be a [convolutional] without batch_normalize, whose output it reads")
    if before.conv.out_channels != filters:
        where = f"mask={section.values['mask']} and classes={section.integer('classes')}"
        raise UserError(f"cfg: the [convolutional] before [yolo] has filters={before.conv.out_channels}, {where} need filters={filters}")
    anchors = torch.tensor(section.numbers("anchors")).view(-1, 2)
    mask = [int(number) for number in section.numbers("mask")]
    if max(mask) >= len(anchors):
        raise UserError(f"cfg: [yolo] mask={section.values['mask']} names more anchors than the {len(anchors)} given")
    return Head(anchors[mask], section.integer("classes"), section.integer("new_coords", 0) == 1)
