"""Augmentation: draw what happens to a training picture, then paint it and move its boxes along.

A picture is one or four tiles: axis-aligned pieces of source images, each with its own scale, shift and mirroring, so that
mosaic, zoom, translation and flips cost one resampling of the output's pixels. Everything is drawn from (seed, epoch,
position), so a picture does not depend on the number of threads, and a resumed epoch repeats itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloperf.yolo.images import PAD, Images, Pixels
from yoloperf.yolo.recipe import Recipe

Boxes = NDArray[np.float32]  # [n, 5]: class, centre x, centre y, width, height, normalised to the image

_MIN_SIDE_PX = 2.0  # a box cut to less than this, or to less than this part of its area, is no longer the object
_MIN_AREA_LEFT = 0.1

# luma and chroma of NTSC (FCC 1953): hue is a turn, saturation a gain in the chroma plane
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Tile:
    """A piece of a source image: output x = source x * scale_x + shift_x, drawn inside low_x <= x < high_x; y likewise."""

    image: int
    scale: tuple[float, float]  # negative where mirrored
    shift: tuple[float, float]
    low: tuple[int, int]
    high: tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """What is drawn for one output picture. colour: [3, 3] matrix on RGB."""

    tiles: list[Tile]
    colour: NDArray[np.float64]


def draw(rng: np.random.Generator, image: int, sizes: Sequence[tuple[int, int]], size: int, recipe: Recipe, mosaic: bool) -> Picture:
    """Draw a picture around image number `image`; sizes are (width, height) of all scaled images, size the output's side."""
    zoom = 1 + rng.uniform(-recipe.scale, recipe.scale)
    move = rng.uniform(-recipe.translate, recipe.translate, 2) * size
    mirrored = (rng.random() < recipe.fliplr, rng.random() < recipe.flipud)
    if mosaic and rng.random() < recipe.mosaic:
        placed = _mosaic(rng, image, sizes, size)
    else:
        width, height = sizes[image]
        placed = [(image, ((size - width) / 2, (size - height) / 2), (-math.inf, -math.inf), (math.inf, math.inf))]
    tiles = [_tile(*piece, size, zoom, move, mirrored) for piece in placed]
    visible = [tile for tile in tiles if tile.low[0] < tile.high[0] and tile.low[1] < tile.high[1]]
    return Picture(visible, _colour(rng, recipe))


_Piece = tuple[int, tuple[float, float], tuple[float, float], tuple[float, float]]  # image, corner, clip low, clip high


def _mosaic(rng: np.random.Generator, image: int, sizes: Sequence[tuple[int, int]], size: int) -> list[_Piece]:
    """Four images around a random point near the centre, in coordinates of the output before zoom."""
    images = [image, *(int(other) for other in rng.integers(0, len(sizes), 3))]
    order = rng.permutation(4)
    middle = rng.uniform(0, size, 2)
    pieces: list[_Piece] = []
    for quadrant, number in enumerate(images[position] for position in order):
        right, below = quadrant % 2 == 1, quadrant >= 2
        width, height = sizes[number]
        corner = (middle[0] if right else middle[0] - width, middle[1] if below else middle[1] - height)
        low = (middle[0] if right else -math.inf, middle[1] if below else -math.inf)
        high = (math.inf if right else middle[0], math.inf if below else middle[1])
        pieces.append((number, corner, low, high))
    return pieces


def _tile(
    image: int,
    corner: tuple[float, float],
    low: tuple[float, float],
    high: tuple[float, float],
    size: int,
    zoom: float,
    move: NDArray[np.float64],
    mirrored: tuple[bool, bool],
) -> Tile:
    """Zoom about the centre, move, mirror, and cut to the output."""
    scales, shifts, lows, highs = [], [], [], []
    for axis in range(2):
        scale, shift = zoom, (corner[axis] - size / 2) * zoom + size / 2 + move[axis]
        ends = [(end - size / 2) * zoom + size / 2 + move[axis] for end in (low[axis], high[axis])]
        if mirrored[axis]:
            scale, shift, ends = -scale, size - shift, [size - ends[1], size - ends[0]]
        scales.append(scale)
        shifts.append(shift)
        lows.append(round(min(max(ends[0], 0), size)))
        highs.append(round(min(max(ends[1], 0), size)))
    return Tile(image, (scales[0], scales[1]), (shifts[0], shifts[1]), (lows[0], lows[1]), (highs[0], highs[1]))


def _colour(rng: np.random.Generator, recipe: Recipe) -> NDArray[np.float64]:
    """Hue turn, saturation gain and value gain as one linear map of RGB, through the YIQ plane."""
    turn = rng.uniform(-recipe.hue, recipe.hue) * 2 * math.pi
    saturation = 1 + rng.uniform(-recipe.saturation, recipe.saturation)
    value = 1 + rng.uniform(-recipe.value, recipe.value)
    cos, sin = math.cos(turn) * saturation, math.sin(turn) * saturation
    chroma = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.asarray(value * _RGB @ chroma @ _YIQ)


def paint(picture: Picture, images: Images, size: int, out: Pixels) -> None:
    """Paint into out [size, size, 3]."""
    out[...] = PAD
    for tile in picture.tiles:
        (x0, y0), (x1, y1) = tile.low, tile.high
        # OpenCV puts pixel centres at whole numbers, boxes put them at halves: hence the halves
        matrix = np.array(
            [
                [tile.scale[0], 0, tile.shift[0] - x0 + (tile.scale[0] - 1) / 2],
                [0, tile.scale[1], tile.shift[1] - y0 + (tile.scale[1] - 1) / 2],
            ]
        )
        piece = cv2.warpAffine(images[tile.image], matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD))
        cv2.transform(piece, picture.colour, out[y0:y1, x0:x1])


def move_boxes(picture: Picture, boxes: Sequence[Boxes], sizes: Sequence[tuple[int, int]], size: int) -> Boxes:
    """Boxes of the picture, normalised to it: those of every tile, moved, cut, and dropped where too little is left."""
    moved = []
    for tile in picture.tiles:
        source = boxes[tile.image]
        if not len(source):
            continue
        scale, shift = np.array(tile.scale), np.array(tile.shift)
        centre = source[:, 1:3] * sizes[tile.image] * scale + shift
        extent = source[:, 3:5] * sizes[tile.image] * np.abs(scale)
        low = np.clip(centre - extent / 2, tile.low, tile.high)
        high = np.clip(centre + extent / 2, tile.low, tile.high)
        left = high - low
        keep = (left.min(1) > _MIN_SIDE_PX) & (left.prod(1) > _MIN_AREA_LEFT * extent.prod(1))
        moved.append(np.concatenate((source[:, :1], (low + high) / 2 / size, left / size), 1)[keep])
    return np.concatenate(moved).astype(np.float32) if moved else np.zeros((0, 5), np.float32)
