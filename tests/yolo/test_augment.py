from dataclasses import replace

import numpy as np
import pytest

from yoloperf.yolo.augment import draw, move_boxes, paint
from yoloperf.yolo.recipe import load_recipe

SIZE = 128
PLAIN = replace(load_recipe("default"), hue=0.0, saturation=0.0, value=0.0)


def _source(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A grey image with one bright rectangle, and its box."""
    width, height = int(rng.integers(80, 129)), int(rng.integers(60, 129))
    image = np.full((height, width, 3), 60, np.uint8)
    w, h = int(rng.integers(20, 40)), int(rng.integers(20, 40))
    x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
    image[y : y + h, x : x + w] = 250
    return image, np.array([[0, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]], np.float32)


@pytest.mark.parametrize("mosaic", [False, True])
def test_boxes_stay_on_their_objects(mosaic: bool) -> None:
    """Every box left encloses bright pixels to its edges, and no bright pixel lies outside all boxes."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        images, boxes = zip(*(_source(rng) for _ in range(6)), strict=True)
        sizes = [(image.shape[1], image.shape[0]) for image in images]
        picture = draw(rng, 0, sizes, SIZE, PLAIN, mosaic)
        out = np.empty((SIZE, SIZE, 3), np.uint8)
        paint(picture, images, SIZE, out)
        moved = move_boxes(picture, boxes, sizes, SIZE)
        bright = out[..., 0] > 190
        covered = np.zeros_like(bright)
        for _, cx, cy, w, h in moved * (1, SIZE, SIZE, SIZE, SIZE):
            x0, y0, x1, y1 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
            ys, xs = slice(max(0, round(y0)), round(y1)), slice(max(0, round(x0)), round(x1))
            inside = bright[ys, xs]
            rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
            assert rows[0] <= 1 and columns[0] <= 1, (seed, inside.shape)
            assert rows[-1] >= inside.shape[0] - 2 and columns[-1] >= inside.shape[1] - 2
            covered[max(0, ys.start - 1) : ys.stop + 1, max(0, xs.start - 1) : xs.stop + 1] = True
        stray = (bright & ~covered).sum()
        assert stray < 0.1 * 40 * 40 * 4, "only slivers of objects may be without a box"


def test_same_seed_same_picture() -> None:
    recipe = load_recipe("default")
    first, second = (draw(np.random.default_rng([1, 2, 3]), 0, [(100, 80)] * 5, SIZE, recipe, True) for _ in range(2))
    assert first.tiles == second.tiles and (first.colour == second.colour).all()


def test_four_tiles_cover_without_overlap() -> None:
    for seed in range(50):
        picture = draw(np.random.default_rng(seed), 0, [(128, 96)] * 9, SIZE, PLAIN, True)
        count = np.zeros((SIZE, SIZE), int)
        for tile in picture.tiles:
            count[tile.low[1] : tile.high[1], tile.low[0] : tile.high[0]] += 1
        assert count.max() == 1 and count.min() == 1


def test_colour_of_grey_stays_grey() -> None:
    recipe = replace(load_recipe("default"), value=0.0)
    for seed in range(20):
        colour = draw(np.random.default_rng(seed), 0, [(64, 64)], SIZE, recipe, False).colour
        np.testing.assert_allclose(colour @ (100, 100, 100), (100, 100, 100), atol=0.5)


def test_nothing_drawn_nothing_changed() -> None:
    still = replace(PLAIN, scale=0.0, translate=0.0, fliplr=0.0, flipud=0.0)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    out = np.empty_like(image)
    picture = draw(rng, 0, [(SIZE, SIZE)], SIZE, still, False)
    paint(picture, [image], SIZE, out)
    assert abs(out.astype(int) - image).max() <= 1
