from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloperf.datasets.labels import Split
from yoloperf.yolo.augment import DICE, BoxTable, Pictures, draw, paint
from yoloperf.yolo.images import PAD, DecodedOnce
from yoloperf.yolo.recipe import Recipe, load_recipe
from yoloperf.yolo.resident import ResidentImages

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


def _drawn(seed: int, sizes: list[tuple[int, int]], recipe: Recipe, mosaic: bool, count: int = 40) -> Pictures:
    rng = np.random.default_rng(seed)
    return draw(rng.random((count, DICE)), rng.integers(0, len(sizes), count), np.array(sizes), SIZE, recipe, mosaic)


@pytest.mark.parametrize("mosaic", [False, True])
def test_boxes_stay_on_their_objects(mosaic: bool) -> None:
    """Every box left encloses bright pixels to its edges, and no bright pixel lies outside all boxes."""
    rng = np.random.default_rng(0)
    images, boxes = zip(*(_source(rng) for _ in range(30)), strict=True)
    sizes = [(image.shape[1], image.shape[0]) for image in images]
    pictures = _drawn(1, sizes, PLAIN, mosaic)
    targets = BoxTable(list(boxes), np.array(sizes)).move(pictures, SIZE)
    assert targets.shape == (40, 32, 5)
    for number, moved in enumerate(targets):
        out = np.empty((SIZE, SIZE, 3), np.uint8)
        paint(pictures, number, images, SIZE, out)
        bright = out[..., 0] > 190
        covered = np.zeros_like(bright)
        used = moved[:, 3] > 0
        assert used[: used.sum()].all() and not moved[used.sum() :].any(), "boxes come first, the rest is 0"
        for _, cx, cy, w, h in moved[used] * (1, SIZE, SIZE, SIZE, SIZE):
            x0, y0, x1, y1 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
            ys, xs = slice(max(0, round(y0)), round(y1)), slice(max(0, round(x0)), round(x1))
            inside = bright[ys, xs]
            rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
            assert rows[0] <= 1 and columns[0] <= 1, (number, inside.shape)
            assert rows[-1] >= inside.shape[0] - 2 and columns[-1] >= inside.shape[1] - 2
            covered[max(0, ys.start - 1) : ys.stop + 1, max(0, xs.start - 1) : xs.stop + 1] = True
        stray = (bright & ~covered).sum()
        assert stray < 0.1 * 40 * 40 * 4, "only slivers of objects may be without a box"


@given(st.integers(0, 2**32), st.booleans(), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_a_picture_does_not_depend_on_its_batch(seed: int, mosaic: bool, cut: int) -> None:
    """Two parts drawn apart are the whole: what makes resumed epochs and several processes repeat one process."""
    recipe, sizes = load_recipe("default"), np.array([(100, 80), (60, 128), (128, 128)])
    rng = np.random.default_rng(seed)
    dice, image = rng.random((40, DICE)), rng.integers(0, 3, 40)
    boxes = [np.array([[0, 0.5, 0.5, 0.5, 0.5]] * count, np.float32).reshape(-1, 5) for count in (1, 0, 40)]
    table = BoxTable(boxes, sizes)
    whole = draw(dice, image, sizes, SIZE, recipe, mosaic)
    parts = [draw(dice[part], image[part], sizes, SIZE, recipe, mosaic) for part in (slice(0, cut), slice(cut, None))]
    for name, values in vars(whole).items():
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), values), name
    rows = [[row[row[:, 3] > 0] for row in table.move(part, SIZE)] for part in (*parts, whole) if len(part)]
    assert all(np.array_equal(one, other) for one, other in zip(sum(rows[:-1], []), rows[-1], strict=True))


def test_four_tiles_cover_without_overlap() -> None:
    pictures = _drawn(2, [(128, 96)] * 9, PLAIN, True)
    for low, high in zip(pictures.low, pictures.high, strict=True):
        count = np.zeros((SIZE, SIZE), int)
        for first, end in zip(low, high, strict=True):
            count[first[1] : end[1], first[0] : end[0]] += 1
        assert count.max() == 1 and count.min() == 1


def test_dice_are_used_evenly() -> None:
    """Half of the pictures mirrored each way, every image in every corner, zoom and shift to their ends and centred."""
    pictures = _drawn(3, [(128, 128)] * 8, PLAIN, True, 4000)
    assert (pictures.scale < 0).mean((0, 1)) == pytest.approx((PLAIN.fliplr, PLAIN.flipud), abs=0.05)
    zoom = np.abs(pictures.scale)
    assert zoom.min() == pytest.approx(1 - PLAIN.scale, abs=0.01) and zoom.max() == pytest.approx(1 + PLAIN.scale, abs=0.01)
    assert (np.bincount(pictures.image.ravel(), minlength=8) / pictures.image.size) == pytest.approx(np.full(8, 1 / 8), abs=0.02)
    none = _drawn(3, [(128, 128)] * 8, replace(PLAIN, mosaic=0.25), True, 4000)
    alone = (none.low < none.high).all(-1).sum(1) == 1
    assert 0.7 < alone.mean() < 0.9, "a quarter is composed, of which a few show one tile only"


def test_colour_of_grey_stays_grey() -> None:
    recipe = replace(load_recipe("default"), value=0.0)
    colour = _drawn(4, [(64, 64)], recipe, False).colour
    np.testing.assert_allclose(colour @ (100, 100, 100), np.full((40, 3), 100), atol=0.5)


def test_nothing_drawn_nothing_changed() -> None:
    still = replace(PLAIN, translate=0.0, fliplr=0.0, flipud=0.0)
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8)
    out = np.empty_like(image)
    paint(_drawn(5, [(SIZE, SIZE)], still, False), 0, [image], SIZE, out)
    assert abs(out.astype(int) - image).max() <= 1


def test_without_mosaic_pixels_are_those_of_validation() -> None:
    """Mirrored and shifted, but never blurred between two of them."""
    image = np.random.default_rng(8).integers(0, 255, (97, 128, 3), np.uint8)
    known = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()} | {(PAD, PAD, PAD)}
    pictures = _drawn(8, [(128, 97)], PLAIN, False, 10)
    assert len({tuple(shift) for shift in pictures.shift[:, 0].tolist()}) > 5
    out = np.empty((SIZE, SIZE, 3), np.uint8)
    for row in range(len(pictures)):
        paint(pictures, row, [image], SIZE, out)
        assert {tuple(pixel) for pixel in out.reshape(-1, 3).tolist()} <= known


@pytest.mark.parametrize("mosaic", [False, True])
def test_the_device_paints_what_threads_paint(tmp_path: Path, mosaic: bool) -> None:
    """Up to OpenCV's interpolation, which knows 32 positions between two pixels."""
    rng = np.random.default_rng(6)
    sizes = [(128, 96), (64, 128), (128, 128), (101, 128)]
    smooth = [np.add.outer(np.arange(high), np.arange(wide))[..., None] * 0.5 + rng.integers(0, 60, 3) for wide, high in sizes]
    (tmp_path / "pixels").write_bytes(b"".join(image.astype(np.uint8).tobytes() for image in smooth))
    split = Split([Path("x")] * 4, np.array(sizes, np.int32), [np.zeros((0, 5), np.float32)] * 4, [], "hash")
    images = DecodedOnce(split, SIZE, tmp_path / "pixels")
    pictures = _drawn(7, sizes, load_recipe("default"), mosaic, 12)
    painted = ResidentImages(images, torch.device("cpu")).paint(pictures, SIZE).numpy()
    for row in range(12):
        out = np.empty((SIZE, SIZE, 3), np.uint8)
        paint(pictures, row, images, SIZE, out)
        difference = np.abs(out.astype(int) - painted[row])
        assert difference.mean() < 0.7 and np.quantile(difference, 0.99) <= 4, (row, difference.mean(), difference.max())
