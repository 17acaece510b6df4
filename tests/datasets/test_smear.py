import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloperf.core.errors import UserError
from yoloperf.datasets import smear
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import load_split

SMALL = {"train": 3, "val": 1, "test": 2}


def test_a_smear_goes_through_the_converter_without_a_problem() -> None:
    assert smear.generate(Path("datasets/smear"), SMALL)
    config = load_data_config("smear.yaml")
    assert config.names == smear.NAMES
    splits = {name: load_split(config, name) for name in config.splits}
    assert {name: len(split.images) for name, split in splits.items()} == SMALL
    assert len({path for split in splits.values() for path in split.images}) == 6
    assert all((split.sizes == smear.SIZE).all() and not split.problems for split in splits.values())


def test_an_image_depends_on_seed_and_index_alone(tmp_path: Path) -> None:
    smear.generate(tmp_path / "few", {"train": 2, "val": 1, "test": 1}, (320, 240), seed=5)
    smear.generate(tmp_path / "many", {"train": 1, "val": 3, "test": 3}, (320, 240), seed=5)
    smear.generate(tmp_path / "other", {"train": 2, "val": 1, "test": 1}, (320, 240), seed=6)
    for part in ("JPEGImages/smear_00003.jpg", "Annotations/smear_00003.xml"):
        few, many, other = ((tmp_path / name / part).read_bytes() for name in ("few", "many", "other"))
        assert few == many != other


def test_the_same_settings_draw_once_and_others_draw_anew(tmp_path: Path) -> None:
    folder = tmp_path / "smear"
    assert smear.generate(folder, SMALL, (64, 48))
    assert not smear.generate(folder, SMALL, (64, 48))
    assert smear.generate(folder, {"train": 1, "val": 1, "test": 1}, (64, 48))
    assert len(list((folder / "JPEGImages").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["smear"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="is no synthetic smear"):
        smear.generate(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_half_drawn_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yoloperf.datasets.voc.write_boxes", full)
    with pytest.raises(UserError, match="cannot write .*No space left"):
        smear.generate(tmp_path / "smear", SMALL)
    assert not list(tmp_path.iterdir())


def scenes(count: int) -> list[np.ndarray]:
    """Boxes of scenes as [n, 5] of label and corners, without drawing them."""
    found = []
    for index in range(count):
        rng = np.random.default_rng([1, index])
        rows = []
        for cell in smear.scene(rng, smear.SIZE, 1.0):
            x, y, half = cell.shape.x, cell.shape.y, cell.shape.diameter / 2
            rows.append((cell.label, max(0, x - half), max(0, y - half), min(640, x + half), min(480, y + half)))
        found.append(np.array(rows))
    return found


def test_frequencies_sizes_and_crowding_are_those_of_bccd() -> None:
    images = scenes(500)
    counts = np.array([[np.sum(rows[:, 0] == label) for label in range(3)] for rows in images])
    assert counts.sum(axis=1).min() >= 1 and counts.sum(axis=1).max() <= 35
    # means of BCCD within four standard errors of 500 images
    for mean, deviation, found in zip((372 / 364, 4153 / 364, 361 / 364), (0.23, 4.3, 1.15), counts.mean(axis=0), strict=True):
        assert abs(found - mean) < 4 * deviation / np.sqrt(500)
    rows = np.concatenate(images)
    inside = (rows[:, 1:3] > 0).all(axis=1) & (rows[:, 3] < 640) & (rows[:, 4] < 480)
    sizes = np.sqrt((rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2]))
    for label, mean, deviation in ((0, 184.8, 41.1), (1, 103.9, 10.6), (2, 40.5, 7.9)):
        found = sizes[inside & (rows[:, 0] == label)]
        assert abs(found.mean() / mean - 1) < 0.06 and abs(found.std() / deviation - 1) < 0.15
    for label, share in ((0, 0.296), (1, 0.253), (2, 0.114)):
        assert abs((~inside[rows[:, 0] == label]).mean() - share) < 0.07
    overlap = np.concatenate([_largest_iou(image[image[:, 0] == 1, 1:]) for image in images if np.sum(image[:, 0] == 1) > 1])
    assert abs((overlap > 0.1).mean() - 0.245) < 0.07 and abs((overlap > 0.3).mean() - 0.047) < 0.04


def _largest_iou(corners: np.ndarray) -> np.ndarray:
    low, high = np.maximum(corners[:, None, :2], corners[None, :, :2]), np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    common = (high - low).clip(0).prod(axis=-1)
    area = (corners[:, 2:] - corners[:, :2]).prod(axis=-1)
    iou = common / (area[:, None] + area[None] - common)
    np.fill_diagonal(iou, 0)
    return np.asarray(iou.max(axis=1))


def test_cells_are_where_their_boxes_say_and_look_like_blood() -> None:
    for index in range(8):
        image, boxes = smear.draw(0, index)
        blue, green, red = (image[..., channel].astype(float) for channel in range(3))
        background = np.percentile(green, 95)
        covered = np.zeros(green.shape, bool)
        for label, (left, top, right, bottom) in boxes:
            covered[top:bottom, left:right] = True
            high, wide = (bottom - top) // 5, (right - left) // 5
            inner = slice(top + high, bottom - high), slice(left + wide, right - wide)
            assert green[inner].mean() < background - 5  # haemoglobin and stain both take green
            if label == 0:
                assert (blue[inner] - green[inner]).max() > 50  # the nucleus is violet
        assert green[~covered].mean() > background - 12 if (~covered).any() else True
        whole = image.reshape(-1, 3).mean(axis=0)
        assert np.allclose(whole, [183, 178, 188], atol=22)  # BCCD's mean colour


def test_a_smaller_picture_shows_the_same_cells_smaller() -> None:
    large, small = smear.draw(0, 3)[1], smear.draw(0, 3, (320, 240))[1]
    assert [label for label, _ in large] == [label for label, _ in small]
    assert smear.draw(0, 3, (320, 240))[0].shape == (240, 320, 3)
    widths = np.array([[box[2] - box[0] for _, box in boxes] for boxes in (large, small)], float)
    assert np.median(widths[0] / widths[1]) == pytest.approx(2, abs=0.1)


def test_drawing_is_fast_enough_for_a_demo() -> None:
    smear.draw(0, 0)
    before = time.process_time()
    for index in range(20):
        image, _ = smear.draw(0, index)
        cv2.imencode(".jpg", image)
    # about 30 images/s on an idle core; a busy machine must not fail the test
    assert 20 / (time.process_time() - before) > 7


def test_settings_are_kept_beside_the_images(tmp_path: Path) -> None:
    smear.generate(tmp_path / "smear", SMALL, (64, 48), seed=9)
    settings = json.loads((tmp_path / "smear/smear.json").read_text())
    assert settings == {"version": smear.VERSION, "seed": 9, "size": [64, 48], "splits": SMALL}
