"""Batches: pictures and boxes as tensors, made by threads (OpenCV releases the interpreter lock) or on the device."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice, repeat

import numpy as np
import torch
from torch import Tensor

from yoloperf.datasets.labels import Split
from yoloperf.yolo.augment import DICE, BoxTable, Pictures, draw, paint
from yoloperf.yolo.device import pinned
from yoloperf.yolo.images import DecodedOnce, Images, Letterbox, letterbox, scaled_size
from yoloperf.yolo.recipe import Recipe
from yoloperf.yolo.resident import ResidentImages, fits
from yoloperf.yolo.world import World

_AHEAD = 2  # batches that a GPU finds ready: drawing is uneven, the step is not

Batch = tuple[Tensor, Tensor]  # uint8 [B, S, S, 3] RGB; float32 [B, M, 5] class, cx, cy, w, h, unused rows 0


class TrainingBatches:
    """Shuffled, augmented batches, of each one this process's part; the last one of an epoch holds what is left.

    With several processes a last batch that has not an image for each of them is left out. Pictures are painted on the device
    where the images fit into its memory, else by threads.
    """

    def __init__(
        self,
        split: Split,
        images: Images,
        recipe: Recipe,
        size: int,
        batch_size: int,
        seed: int,
        pool: ThreadPoolExecutor,
        world: World,
    ) -> None:
        self.images, self.recipe, self.size = images, recipe, size
        self.batch_size, self.seed, self.pool, self.world = batch_size, seed, pool, world
        self.starts = range(0, len(images) - (world.size - 1), batch_size)
        self.sizes = np.array([scaled_size(int(width), int(height), size) for width, height in split.sizes])
        self.table = BoxTable(split.boxes, self.sizes)
        self.resident: ResidentImages | None = None
        if isinstance(images, DecodedOnce) and fits(images, world.device):
            self.resident = ResidentImages(images, world.device)
        # batches; on a CPU they would take the cores away from the step that they overlap
        self.ahead = _AHEAD if world.device.type == "cuda" else 0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def most_boxes(self) -> int:
        """No batch has more rows of targets."""
        return self.table.most

    def images_in(self, batch: int) -> int:
        """Images of a batch (from 0), the parts of all processes together."""
        return min(self.batch_size, len(self.images) - self.starts[batch])

    def epoch(self, epoch: int, mosaic: bool, first: int = 0) -> Iterator[Batch]:
        """Batches of an epoch (from 1), from the batch `first` on."""
        rng = np.random.default_rng([self.seed, epoch])
        order, dice = rng.permutation(len(self.images)), rng.random((len(self.images), DICE))
        parts = [_part(start, self.images_in(batch), self.world) for batch, start in enumerate(self.starts)][first:]
        pictures = (draw(dice[part], order[part], self.sizes, self.size, self.recipe, mosaic) for part in parts)
        pending = deque(self._begin(each) for each in islice(pictures, self.ahead))
        for each in chain(pictures, repeat(None, self.ahead)):
            if each is not None:
                pending.append(self._begin(each))
            if pending:
                yield self._end(*pending.popleft())

    def _begin(self, pictures: Pictures) -> tuple[Pictures, Tensor, list[Future[None]]]:
        """Have the pictures painted by threads, into the tensor, where the device does not."""
        if self.resident:
            return pictures, torch.empty(0), []
        pinned = self.world.device.type == "cuda"
        pixels = torch.empty((len(pictures), self.size, self.size, 3), dtype=torch.uint8, pin_memory=pinned)
        rows = [(row, out.numpy()) for row, out in enumerate(pixels)]
        return pictures, pixels, [self.pool.submit(paint, pictures, row, self.images, self.size, out) for row, out in rows]

    def _end(self, pictures: Pictures, pixels: Tensor, painting: list[Future[None]]) -> Batch:
        targets = pinned(torch.from_numpy(self.table.move(pictures, self.size)), self.world.device)
        for picture in painting:
            picture.result()
        return self.resident.paint(pictures, self.size) if self.resident else pixels, targets


def _part(start: int, images: int, world: World) -> slice:
    """Positions in the epoch of this process's part of a batch; parts differ by one image at most."""
    return slice(start + images * world.rank // world.size, start + images * (world.rank + 1) // world.size)


def letterboxed_batches(images: Images, size: int, batch_size: int, pool: ThreadPoolExecutor) -> Iterator[tuple[Tensor, list[Letterbox]]]:
    """Images in order, centred on a grey square: uint8 [B, S, S, 3] with how each was placed. One batch is prepared ahead."""

    def submit(start: int) -> list[Future[tuple[np.ndarray, Letterbox]]]:
        return [
            pool.submit(lambda index: letterbox(images[index], size), index) for index in range(start, min(start + batch_size, len(images)))
        ]

    ahead = submit(0)
    for start in range(0, len(images), batch_size):
        squares = [future.result() for future in ahead]
        ahead = submit(start + batch_size)
        yield torch.from_numpy(np.stack([square for square, _ in squares])), [placed for _, placed in squares]


def to_network(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, S, S, 3] -> float32 [B, 3, S, S] in 0..1 on the device, in channels_last memory order as it already lies."""
    return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
