"""The weight gradient as one matrix product against torch's own convolution."""

import pytest
import torch
from torch import nn

from yoloperf.yolo import convolution
from yoloperf.yolo.convolution import Conv2d, weight_gradient


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "height", "width"),
    [(3, 1, 1, 13, 13), (3, 2, 1, 26, 13), (1, 1, 0, 7, 9), (3, 1, 0, 8, 8), (2, 2, 0, 9, 9)],
)
def test_the_weight_gradient_is_torchs(
    kernel: int, stride: int, padding: int, height: int, width: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, height, width, dtype=torch.float64).to(memory_format=memory_format)
    weight = torch.randn(7, 5, kernel, kernel, dtype=torch.float64, requires_grad=True)
    out = nn.functional.conv2d(x, weight, None, stride, padding)
    gradient = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, weight, gradient)
    torch.testing.assert_close(weight_gradient(gradient, x, kernel, stride, padding), expected)


@pytest.mark.parametrize("bias", [False, True])
def test_a_deep_layer_in_bf16_learns_what_torchs_own_would(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    taken = []
    monkeypatch.setattr(convolution, "weight_gradient", lambda *args: taken.append(args) or weight_gradient(*args))
    own = Conv2d(16, 64, 3, 2, 1, bias=bias).to(memory_format=torch.channels_last)
    torchs = nn.Conv2d(16, 64, 3, 2, 1, bias=bias).to(memory_format=torch.channels_last)
    torchs.load_state_dict(own.state_dict())
    pictures = torch.randn(2, 16, 20, 20).to(memory_format=torch.channels_last)
    found = []
    for layer in (own, torchs):
        x = pictures.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(x)
        assert out.dtype == torch.bfloat16
        (out.float() ** 2).mean().backward()
        found.append([out, x.grad, *(parameter.grad for parameter in layer.parameters())])
    assert len(taken) == 1
    for mine, theirs in zip(*found, strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("case", ["fp32", "no gradient", "shallow"])
def test_elsewhere_it_is_torchs_own(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution._Convolution, "apply", lambda *args: pytest.fail("the product does not pay here"))
    layer = Conv2d(16, 64, 3, 1, 1)
    side = 12 if case == "shallow" else 11  # 144 pixels are more than twice the channels
    with torch.autocast("cpu", torch.bfloat16, enabled=case != "fp32"), torch.set_grad_enabled(case != "no gradient"):
        assert layer(torch.randn(1, 16, side, side)).shape == (1, 64, side, side)
