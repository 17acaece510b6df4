"""A small network for keywords: depthwise separable convolutions as in Zhang et al., Hello Edge (2017, arXiv:1711.07128), section 4.3."""

from typing import cast

import torch
from torch import Tensor, nn

from yoloperf.workloads.spectrogram import FRAMES, MELS

WIDTH = 64  # channels; that of the paper's smallest DS-CNN
_BLOCKS = 4


def _after(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _separable(channels: int, stride: int) -> nn.Sequential:
    deep = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
    return nn.Sequential(deep, *_after(channels), nn.Conv2d(channels, channels, 1, bias=False), *_after(channels))


class KeywordNetwork(nn.Module):
    """Log-mel spectrograms [B, 98, 40] -> scores [B, C] before the softmax.

    As the paper's DS-CNN with 64 channels, but for finer spectrograms: the first convolution steps by 4 in time and 2 in pitch,
    the first block by 2 in both, so that the blocks see 13 x 10 places (the paper's: 25 x 5).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        # of the training clips, per mel band
        self.register_buffer("mean", torch.zeros(MELS))
        self.register_buffer("deviation", torch.ones(MELS))
        stem = nn.Conv2d(1, WIDTH, (10, 4), (4, 2), (5, 1), bias=False)
        blocks = [_separable(WIDTH, 2 if number == 0 else 1) for number in range(_BLOCKS)]
        self.body = nn.Sequential(stem, *_after(WIDTH), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, spectrograms: Tensor) -> Tensor:
        assert spectrograms.shape[1:] == (FRAMES, MELS)
        return cast(Tensor, self.head(self.body(((spectrograms - self.mean) / self.deviation)[:, None])))
