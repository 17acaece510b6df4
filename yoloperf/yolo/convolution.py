"""A convolution whose weight gradient, in bf16 on a CPU, is one matrix product where that is faster."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_backward = torch.ops.aten.convolution_backward


class Conv2d(nn.Conv2d):
    """nn.Conv2d, with the same results but for rounding.

    oneDNN sums the gradient of the weights in memory, picture by picture. Where the weights are larger than a picture's
    activations, in the deep layers, that traffic is most of the work, and a matrix product over all pictures does without it
    (docs/decisions.md has the measurements).
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu") and self._deep(x):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
            out: Tensor = _Convolution.apply(x, weight, bias, self.stride[0], self.padding[0])
            return out
        return super()._conv_forward(x, weight, bias)  # type: ignore[no-any-return]

    def _deep(self, x: Tensor) -> bool:
        """Whether the output has so many channels, and so few pixels, that the product pays."""
        sides = [(side + 2 * int(self.padding[0]) - self.kernel_size[0]) // self.stride[0] + 1 for side in x.shape[2:]]
        return sides[0] * sides[1] <= 2 * self.out_channels


class _Convolution(torch.autograd.Function):
    """x [B, I, H, W], weight [O, I, K, K], bias [O] or None, all of one dtype -> [B, O, H', W']."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        wanted = [ctx.needs_input_grad[0], False, ctx.needs_input_grad[2]]
        to_x, _, to_bias = _backward(gradient, x, weight, [len(weight)], stride, padding, [1, 1], False, [0, 0], 1, wanted)
        return to_x, weight_gradient(gradient, x, weight.shape[2], ctx.stride, ctx.padding), to_bias, None, None


def weight_gradient(gradient: Tensor, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's weights [O, I, K, K] from that of its output [B, O, H', W'] and its input [B, I, H, W].

    The output's gradient times the patches that each of its pixels saw, as one matrix product over B x H' x W'.
    """
    batch, out, height, width = gradient.shape
    pixels = x.permute(0, 2, 3, 1)
    if padding:
        pixels = functional.pad(pixels, (0, 0, padding, padding, padding, padding))
    pixels = pixels.contiguous()
    by_picture, by_row, by_column, _ = pixels.stride()
    row_of_patch = kernel * x.shape[1]  # the pixels of a patch's row lie side by side
    patches = pixels.as_strided(
        (batch, height, width, kernel, row_of_patch), (by_picture, by_row * stride, by_column * stride, by_row, 1)
    ).reshape(batch * height * width, kernel * row_of_patch)
    product = gradient.permute(0, 2, 3, 1).reshape(-1, out).t() @ patches
    return product.view(out, kernel, kernel, x.shape[1]).permute(0, 3, 1, 2)
