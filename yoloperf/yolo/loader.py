"""Batches: pictures and boxes as tensors, made by threads (OpenCV releases the interpreter lock) ahead of their use."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloperf.datasets.labels import Split
from yoloperf.yolo.augment import Boxes, draw, move_boxes, paint
from yoloperf.yolo.images import Images, Letterbox, letterbox, scaled_size
from yoloperf.yolo.recipe import Recipe
from yoloperf.yolo.world import World

_TARGET_STEP = 32  # box counts are padded to a multiple of this, so that few tensor shapes occur

Batch = tuple[Tensor, Tensor]  # uint8 [B, S, S, 3] RGB; float32 [B, M, 5] class, cx, cy, w, h, unused rows 0


class TrainingBatches:
    """Shuffled, augmented batches, of each one this process's part; the last one of an epoch holds what is left.

    With several processes a last batch that has not an image for each of them is left out.
    """

    def __init__(
        self, split: Split, images: Images, recipe: Recipe, size: int, batch_size: int, seed: int, pool: ThreadPoolExecutor, world: World
    ) -> None:
        self.split, self.images, self.recipe, self.size = split, images, recipe, size
        self.batch_size, self.seed, self.pool, self.world = batch_size, seed, pool, world
        self.starts = range(0, len(images) - (world.size - 1), batch_size)
        self.ahead = int(torch.cuda.is_available())  # batches; on a CPU they would take the cores away from the step that they overlap
        self.sizes = [scaled_size(int(width), int(height), size) for width, height in split.sizes]

    def __len__(self) -> int:
        return len(self.starts)

    def images_in(self, batch: int) -> int:
        """Images of a batch (from 0), the parts of all processes together."""
        return min(self.batch_size, len(self.images) - self.starts[batch])

    def epoch(self, epoch: int, mosaic: bool, first: int = 0) -> Iterator[Batch]:
        """Batches of an epoch (from 1), from the batch `first` on."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        parts = [_part(start, self.images_in(batch), self.world) for batch, start in enumerate(self.starts)][first:]
        pending = deque(self._submit(order, epoch, part, mosaic) for part in parts[: self.ahead])
        for number in range(len(parts)):
            pending.extend(self._submit(order, epoch, part, mosaic) for part in parts[number + self.ahead : number + self.ahead + 1])
            pixels, boxes = pending.popleft()
            yield pixels, pad_targets([future.result() for future in boxes])

    def _submit(self, order: NDArray[np.int64], epoch: int, part: range, mosaic: bool) -> tuple[Tensor, list[Future[Boxes]]]:
        pixels = torch.empty((len(part), self.size, self.size, 3), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        return pixels, [
            self.pool.submit(self._picture, int(order[position]), epoch, position, mosaic, pixels[row]) for row, position in enumerate(part)
        ]

    def _picture(self, image: int, epoch: int, position: int, mosaic: bool, out: Tensor) -> Boxes:
        rng = np.random.default_rng([self.seed, epoch, position])
        picture = draw(rng, image, self.sizes, self.size, self.recipe, mosaic)
        paint(picture, self.images, self.size, out.numpy())
        return move_boxes(picture, self.split.boxes, self.sizes, self.size)


def _part(start: int, images: int, world: World) -> range:
    """Positions in the epoch of this process's part of a batch; parts differ by one image at most."""
    return range(start + images * world.rank // world.size, start + images * (world.rank + 1) // world.size)


def pad_targets(boxes: Sequence[Boxes]) -> Tensor:
    """Boxes of a batch as one tensor [B, M, 5], M a multiple of 32, unused rows 0."""
    most = max((len(rows) for rows in boxes), default=0)
    padded = torch.zeros(len(boxes), max(1, -(-most // _TARGET_STEP)) * _TARGET_STEP, 5)
    for row, own in zip(padded, boxes, strict=True):
        row[: len(own)] = torch.from_numpy(own)
    return padded


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
