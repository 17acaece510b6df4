"""Augmentation: draw what happens to the training pictures of a batch, then paint them and move their boxes along.

A picture is one or four tiles: axis-aligned pieces of source images, each with its own scale, shift and mirroring, so that
mosaic, zoom, translation and flips cost one resampling of the output's pixels. A picture is drawn from its row of the epoch's
dice: it depends neither on the batch size nor on the number of threads or processes, and a resumed epoch repeats itself.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloperf.yolo.images import PAD, Images, Pixels
from yoloperf.yolo.recipe import Recipe

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TILES = 4
DICE = 18  # uniform numbers in 0..1 that a picture takes
_TARGET_STEP = 32  # box counts are padded to a multiple of this, so that few tensor shapes occur
_MIN_SIDE_PX = 2.0  # a box cut to less than this, or to less than this part of its area, is no longer the object
_MIN_AREA_LEFT = 0.1

# luma and chroma of NTSC (FCC 1953): hue is a turn, saturation a gain in the chroma plane
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = np.linalg.inv(_YIQ)


@dataclass(frozen=True)
class Pictures:
    """What is drawn for B output pictures.

    Tile t of a picture shows image[t]: output x = source x * scale[t, 0] + shift[t, 0] where low[t, 0] <= x < high[t, 0]; y likewise.
    Tiles do not overlap; those that are not used have high = low.
    """

    image: Integers  # [B, 4]
    scale: Floats  # [B, 4, 2], negative where mirrored
    shift: Floats  # [B, 4, 2]
    low: Integers  # [B, 4, 2]
    high: Integers  # [B, 4, 2]
    colour: Floats  # [B, 3, 3], a matrix on RGB

    def __len__(self) -> int:
        return len(self.image)


def draw(dice: Floats, image: Integers, sizes: NDArray[np.integer], size: int, recipe: Recipe, mosaic: bool) -> Pictures:
    """Draw a picture around every image [B] from its dice [B, 18].

    sizes: [N, 2], width and height of all images; size: side of the output. Without mosaic pixels stay as validation shows them: no
    zoom, and shifts by whole pixels.
    """
    zoom, move, mirrored = 1 + recipe.scale * _signed(dice[:, 0]), recipe.translate * size * _signed(dice[:, 1:3]), dice[:, 3:5]
    if not mosaic:
        zoom, move = np.ones_like(zoom), move.round()
    composed = mosaic & (dice[:, 5] < recipe.mosaic)
    chosen, corner, low, high = _alone(image, sizes, size)
    four = _four(dice[:, 6:15], image, sizes, size)
    where = composed[:, None]
    chosen = np.where(where, four[0], chosen)
    corner, low, high = (np.where(where[..., None], new, old) for new, old in zip(four[1:], (corner, low, high), strict=True))

    # zoom about the centre, move, mirror, and cut to the output
    scale = np.broadcast_to(zoom[:, None, None], corner.shape)
    offset = (size / 2 * (1 - zoom)[:, None] + move)[:, None]
    shift, low, high = (value * scale + offset for value in (corner, low, high))
    turned = (mirrored < (recipe.fliplr, recipe.flipud))[:, None]
    low, high = np.where(turned, size - high, low), np.where(turned, size - low, high)
    scale, shift = np.where(turned, -scale, scale), np.where(turned, size - shift, shift)
    first, end = (np.clip(edge, 0, size).round().astype(np.int64) for edge in (low, high))
    return Pictures(chosen, scale, shift, first, np.maximum(first, end), _colour(dice[:, 15:18], recipe))


def _signed(dice: Floats) -> Floats:
    return 2 * dice - 1


_Pieces = tuple[Integers, Floats, Floats, Floats]  # image [B, 4]; corner, clip low, clip high [B, 4, 2], of the output before zoom


def _alone(image: Integers, sizes: NDArray[np.integer], size: int) -> _Pieces:
    """The image in the middle, as the first tile; the others are empty."""
    corner = np.repeat((size - sizes[image])[:, None] // 2, TILES, 1).astype(float)
    high = np.full(corner.shape, math.inf)
    high[:, 1:] = -math.inf
    return np.repeat(image[:, None], TILES, 1), corner, np.full(corner.shape, -math.inf), high


def _four(dice: Floats, image: Integers, sizes: NDArray[np.integer], size: int) -> _Pieces:
    """Four images, in any order, around a random point. dice: [B, 9]."""
    others = (dice[:, :3] * len(sizes)).astype(np.int64)
    chosen = np.take_along_axis(np.concatenate((image[:, None], others), 1), np.argsort(dice[:, 3:7], 1), 1)
    middle = dice[:, None, 7:9] * size
    beyond = np.array([[False, False], [True, False], [False, True], [True, True]])  # right of, below the middle
    corner = np.where(beyond, middle, middle - sizes[chosen])
    return chosen, corner, np.where(beyond, middle, -math.inf), np.where(beyond, math.inf, middle)


def _colour(dice: Floats, recipe: Recipe) -> Floats:
    """Hue turn, saturation gain and value gain as one linear map of RGB, through the YIQ plane. dice: [B, 3]."""
    turn, saturation, value = (_signed(dice) * (recipe.hue * 2 * math.pi, recipe.saturation, recipe.value)).T
    cos, sin = np.cos(turn) * (1 + saturation), np.sin(turn) * (1 + saturation)
    chroma = np.zeros((len(dice), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1], chroma[:, 1, 2], chroma[:, 2, 1], chroma[:, 2, 2] = cos, -sin, sin, cos
    return np.asarray((1 + value)[:, None, None] * (_RGB @ chroma @ _YIQ))


def paint(pictures: Pictures, row: int, images: Images, size: int, out: Pixels) -> None:
    """Paint one of the pictures into out [size, size, 3]."""
    out[...] = PAD
    for tile in range(TILES):
        (x0, y0), (x1, y1) = pictures.low[row, tile], pictures.high[row, tile]
        if x0 == x1 or y0 == y1:
            continue
        scale, shift = pictures.scale[row, tile], pictures.shift[row, tile]
        # OpenCV puts pixel centres at whole numbers, boxes put them at halves: hence the halves
        matrix = np.array([[scale[0], 0, shift[0] - x0 + (scale[0] - 1) / 2], [0, scale[1], shift[1] - y0 + (scale[1] - 1) / 2]])
        source, extent = images[int(pictures.image[row, tile])], (int(x1 - x0), int(y1 - y0))
        piece = cv2.warpAffine(source, matrix, extent, flags=cv2.INTER_LINEAR, borderValue=(PAD, PAD, PAD))
        cv2.transform(piece, pictures.colour[row], out[y0:y1, x0:x1])


class BoxTable:
    """The boxes of all images of a split, for moving those of a batch at once."""

    def __init__(self, boxes: list[NDArray[np.float32]], sizes: NDArray[np.integer]) -> None:
        """boxes: of every image [n, 5], class, centre x, centre y, width, height, normalised; sizes [N, 2]: width and height."""
        self.counts = np.array([len(own) for own in boxes], np.int64)
        self.starts = np.concatenate(([0], np.cumsum(self.counts)))
        self.rows = np.concatenate([np.zeros((0, 5)), *boxes])
        self.rows[:, 1:] *= np.tile(np.repeat(sizes, self.counts, 0), 2)

    @property
    def most(self) -> int:
        """The largest M that `move` gives."""
        return _padded(TILES * int(self.counts.max()))

    def move(self, pictures: Pictures, size: int) -> NDArray[np.float32]:
        """Boxes of the pictures, normalised to them, [B, M, 5], M a multiple of 32, unused rows 0.

        They are those of every tile, moved, cut, and dropped where too little is left.
        """
        count = np.where((pictures.low < pictures.high).all(-1), self.counts[pictures.image], 0).ravel()
        tile = np.repeat(np.arange(len(count)), count)  # of every box, over all pictures
        first = np.cumsum(count) - count
        rows = self.rows[self.starts[pictures.image].ravel()[tile] + np.arange(len(tile)) - first[tile]]
        scale, shift, low, high = (values.reshape(-1, 2)[tile] for values in (pictures.scale, pictures.shift, pictures.low, pictures.high))
        centre, extent = rows[:, 1:3] * scale + shift, rows[:, 3:5] * np.abs(scale)
        low, high = np.clip(centre - extent / 2, low, high), np.clip(centre + extent / 2, low, high)
        left = high - low
        keep = (left.min(1, initial=math.inf) > _MIN_SIDE_PX) & (left.prod(1) > _MIN_AREA_LEFT * extent.prod(1))
        moved = np.concatenate((rows[:, :1], (low + high) / 2 / size, left / size), 1)[keep]

        picture = tile[keep] // TILES
        number = np.bincount(picture, minlength=len(pictures))
        padded = np.zeros((len(pictures), _padded(int(number.max())), 5), np.float32)
        padded[picture, np.arange(len(picture)) - (np.cumsum(number) - number)[picture]] = moved
        return padded


def _padded(boxes: int) -> int:
    return max(1, -(-boxes // _TARGET_STEP)) * _TARGET_STEP
