"""Images that live in the memory of the device, and pictures painted there: nothing crosses the bus but what was drawn."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloperf.yolo.augment import TILES, Pictures
from yoloperf.yolo.device import pinned
from yoloperf.yolo.images import PAD, DecodedOnce

_CHUNK_BYTES = 256 * 2**20
_ROOM = 0.4  # part of the free device memory that images may take: the larger rest is the network's


def fits(images: DecodedOnce, device: torch.device) -> bool:
    """Whether the device has room for the images and, beside them, for a training."""
    return device.type == "cuda" and len(images.pixels) < _ROOM * torch.cuda.mem_get_info(device)[0]


class ResidentImages:
    """Decoded images of a split on a device. Paints what augment.paint does, all pictures of a batch at once."""

    def __init__(self, images: DecodedOnce, device: torch.device) -> None:
        self.device = device
        self.sizes = torch.tensor(images.sizes, device=device)  # [N, 2] width, height
        self.starts = torch.from_numpy(images.starts).to(device)  # of every image in `pixels`
        self.pixels = torch.empty((len(images.pixels) // 3, 3), dtype=torch.uint8, device=device)
        flat = self.pixels.view(-1)
        for start in range(0, len(flat), _CHUNK_BYTES):
            chunk: NDArray[np.uint8] = np.array(images.pixels[start : start + _CHUNK_BYTES])
            flat[start : start + len(chunk)] = torch.from_numpy(chunk)

    @torch.no_grad()
    def paint(self, pictures: Pictures, size: int) -> Tensor:
        """uint8 [B, size, size, 3]; bilinear between pixel centres, grey beyond the images."""
        image = self._tensor(pictures.image)
        scale, shift = self._tensor(pictures.scale).float(), self._tensor(pictures.shift).float()
        low, high = self._tensor(pictures.low), self._tensor(pictures.high)
        axis = torch.arange(size, device=self.device)
        inside = (axis >= low[..., None]) & (axis < high[..., None])  # [B, 4, 2, S]
        inside = inside[:, :, 1, :, None] & inside[:, :, 0, None, :]  # [B, 4, S, S]
        covered, tile = inside.any(1), inside.byte().argmax(1)  # of every output pixel, [B, S, S]

        source = (axis + 0.5 - shift[..., None]) / scale[..., None] - 0.5  # [B, 4, 2, S]
        shape = (len(image), TILES, size, size)
        x = source[:, :, 0, None, :].expand(shape).gather(1, tile[:, None])[:, 0]
        y = source[:, :, 1, :, None].expand(shape).gather(1, tile[:, None])[:, 0]
        flat = tile.flatten(1)
        width, height = (self.sizes[image, side].gather(1, flat).view_as(tile) for side in (0, 1))
        start = (self.starts[image] // 3).gather(1, flat).view_as(tile)

        left, top = x.floor(), y.floor()
        across, down = (x - left)[..., None], (y - top)[..., None]
        left, top = left.long(), top.long()

        def tap(column: Tensor, row: Tensor) -> Tensor:
            there = covered & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            pixel = self.pixels[torch.where(there, start + row * width + column, 0)].float()
            return torch.where(there[..., None], pixel, float(PAD))

        upper = torch.lerp(tap(left, top), tap(left + 1, top), across)
        lower = torch.lerp(tap(left, top + 1), tap(left + 1, top + 1), across)
        colour = self._tensor(pictures.colour).float()
        painted = torch.lerp(upper, lower, down).flatten(1, 2) @ colour.mT
        painted = painted.view(*tile.shape, 3).round_().clamp_(0, 255)
        return torch.where(covered[..., None], painted, float(PAD)).byte()

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return pinned(torch.from_numpy(np.ascontiguousarray(values)), self.device).to(self.device, non_blocking=True)
