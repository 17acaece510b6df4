"""Weights in bf16 without the bias that rounding each by itself gives."""

import torch
from torch import Tensor

from yoloperf.yolo.darknet import Darknet


@torch.no_grad()
def round_to_bf16(network: Darknet) -> Darknet:
    """Make every convolution's weights ones that bf16 holds exactly; the network stays in fp32."""
    for layer in network.convolutions():
        layer.conv.weight.copy_(carried(layer.conv.weight))
    return network


def carried(weight: Tensor) -> Tensor:
    """Weights [out, in, h, w] rounded to bf16, as float32, the sum of each h x w kernel kept.

    What rounding one weight leaves over is carried to the next smaller one of the kernel. Neighbouring pixels are alike, so a
    kernel's sum decides most of what it gives: the heads' error falls by a third and their bias goes (docs/decisions.md).
    """
    kernels = weight.flatten(2)
    order = kernels.abs().argsort(2, descending=True)
    falling = kernels.gather(2, order)
    rest = torch.zeros_like(falling[..., 0])
    for tap in falling.unbind(2):  # views: written in place
        wanted = tap + rest
        tap.copy_(wanted.bfloat16())
        rest = wanted - tap
    return torch.empty_like(kernels).scatter_(2, order, falling).view_as(weight)
