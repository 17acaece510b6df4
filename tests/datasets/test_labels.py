import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.datasets.conftest import NAMES, MakeSet, turned, write_image
from yoloperf.core.errors import UserError
from yoloperf.datasets import voc
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import TOLERANCE, Split, load_split, tidy_boxes


def load(file: Path, split: str = "train") -> Split:
    return load_split(load_data_config(file), split)


def test_a_split_with_a_background_and_an_image_without_label_file(make_set: MakeSet) -> None:
    split = load(make_set({"a": "1 0.5 0.5 0.25 0.5\n", "b": "", "c": None}))
    assert [path.stem for path in split.images] == ["a", "b", "c"]
    assert split.sizes.dtype == np.int32 and split.sizes.tolist() == [[40, 20]] * 3
    assert split.boxes[0].dtype == np.float32 and split.boxes[0].tolist() == [[1, 0.5, 0.5, 0.25, 0.5]]
    assert [boxes.shape for boxes in split.boxes[1:]] == [(0, 5), (0, 5)]
    assert split.problems == ["no labels for 1 of 3 images, taken as background; the first is c.jpg"]


def test_boxes_are_mended_and_each_mending_is_told(make_set: MakeSet) -> None:
    lines = ["1 0.5 0.5 0 0.5", "0 0.0 0.5 0.5 0.5", "2 0.3 0.3 0.1 0.1", "2 0.3 0.3 0.1 0.1", "1 1.5 0.5 0.2 0.2"]
    split = load(make_set({"a": "\n".join(lines)}))
    assert np.allclose(split.boxes[0], [[0, 0.125, 0.5, 0.25, 0.5], [2, 0.3, 0.3, 0.1, 0.1]])
    assert [problem.split(":")[1].strip() for problem in split.problems] == [
        "box without area inside the image dropped",
        "box reaching outside the image clipped",
        "same box again dropped",
        "box without area inside the image dropped",
    ]


@given(arrays(np.float64, st.tuples(st.integers(0, 6), st.just(4)), elements=st.floats(-1, 2)))
def test_tidy_boxes_lie_inside_with_area_and_stay_as_they_are(sides: np.ndarray) -> None:
    boxes, faults = tidy_boxes(np.hstack([np.zeros((len(sides), 1)), sides]), NAMES)
    assert (boxes[:, 3:] > 0).all()
    assert (boxes[:, 1:3] - boxes[:, 3:] / 2 >= -2 * TOLERANCE).all()
    assert (boxes[:, 1:3] + boxes[:, 3:] / 2 <= 1 + 2 * TOLERANCE).all()
    assert len(boxes) + sum("reaching" not in kind for kind, _ in faults) == len(sides)
    again, none = tidy_boxes(boxes.astype(np.float64), NAMES)
    assert again.tobytes() == boxes.tobytes() and not none


def test_no_labels_at_all_names_where_they_were_looked_for(make_set: MakeSet) -> None:
    with pytest.raises(UserError, match=r"cells train has 2 images but no labels: looked in .*labels/train/a.txt"):
        load(make_set({"a": None, "b": ""}))


def test_the_cache_is_used_and_notices_every_change(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_set({"a": "1 0.5 0.5 0.25 0.5\n", "b": "", "c": "0 0.5 0.5 2 0.5\n"})
    first = load(file)
    with monkeypatch.context() as patch:
        patch.setattr("yoloperf.datasets.labels._read", None)
        second = load(file)
    assert (second.images, second.problems, second.hash) == (first.images, first.problems, first.hash)
    assert second.sizes.tobytes() == first.sizes.tobytes() and second.sizes.dtype == np.int32
    assert [box.tobytes() for box in second.boxes] == [box.tobytes() for box in first.boxes]
    (file.parent / "labels/train/a.txt").write_text("2 0.25 0.5 0.25 0.5\n")
    assert load(file).boxes[0][0, 0] == 2 and load(file).hash != first.hash
    (file.parent / "labels/train/a.txt").unlink()
    assert len(load(file).boxes[0]) == 0


def test_a_damaged_cache_is_read_anew(make_set: MakeSet) -> None:
    file = make_set({"a": "1 0.5 0.5 0.25 0.5\n"})
    first = load(file)
    (store,) = cache_folder(load_data_config(file)).glob("*.npz")
    for content in (b"", store.read_bytes()[:-9], b"words"):
        store.write_bytes(content)
        assert load(file).hash == first.hash


def test_a_read_only_data_set_is_cached_elsewhere(make_set: MakeSet, tmp_path: Path) -> None:
    config = load_data_config(make_set({"a": "1 0.5 0.5 0.25 0.5\n"}))
    assert cache_folder(config) == config.root / ".yoloperf"
    (config.root / ".yoloperf").rmdir()
    config.root.chmod(0o555)
    folder = cache_folder(config)
    load_split(config, "train")
    config.root.chmod(0o755)
    assert folder.parent == tmp_path / "cache" / "yoloperf" and list(folder.glob("*.npz"))
    assert not (config.root / ".yoloperf").exists()


def _hash(file: Path) -> str:
    return load(file).hash


def test_processes_that_start_together_agree(make_set: MakeSet) -> None:
    file = make_set({str(index): "1 0.5 0.5 0.25 0.5\n" for index in range(20)})
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert len(set(pool.map(_hash, [file] * 6))) == 1
    assert [path.name for path in cache_folder(load_data_config(file)).iterdir()] == ["labels-cells-train.npz"]


def test_the_hash_is_of_content_not_of_order_or_place(make_set: MakeSet, tmp_path: Path) -> None:
    file = make_set({"a": "1 0.5 0.5 0.25 0.5\n", "b": "0 0.5 0.5 0.5 0.5\n"})
    (file.parent / "list.txt").write_text("./images/train/b.jpg\n./images/train/a.jpg\n")
    other = file.with_name("other.yaml")
    other.write_text("train: list.txt\nnames: [WBC, RBC, Platelets]\n")
    assert [path.stem for path in load(other).images] == ["b", "a"]
    assert load(other).hash == load(file).hash


def test_voc_names_images_that_are_not_there(make_set: MakeSet, tmp_path: Path) -> None:
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages/a.jpg").touch()
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    (tmp_path / "own.yaml").write_text("train: ImageSets/Main/train.txt\nformat: voc\nnames: [x]\n")
    with pytest.raises(UserError, match="names 2 images that are not in .*JPEGImages, the first is b"):
        load(tmp_path / "own.yaml")


def devkit(root: Path, stem: str, text: str) -> Path:
    """A data set in VOC layout of one image, 40 x 20 pixels; returns its YAML."""
    write_image(root / f"JPEGImages/{stem}.jpg")
    for name, content in ((f"Annotations/{stem}.xml", text), ("ImageSets/Main/train.txt", f"{stem}\n")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, "utf-8-sig")
    (root / "cells.yaml").write_text("train: ImageSets/Main/train.txt\nformat: voc\nnames: [RBC]\n")
    return root / "cells.yaml"


def test_voc_stems_may_hold_spaces(tmp_path: Path) -> None:
    file = devkit(tmp_path, "cell 01", voc.write_boxes("cell 01.jpg", (40, 20), [("RBC", (10, 5, 30, 15))]))
    assert load(file).boxes[0].tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]


def test_a_voc_list_outside_a_devkit_says_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("train: /none.txt\nformat: voc\nnames: [x]\n")
    with pytest.raises(UserError, match="it lies in ImageSets/Main"):
        load(tmp_path / "own.yaml")


def test_a_box_that_is_no_number_is_dropped(tmp_path: Path) -> None:
    text = voc.write_boxes("a.jpg", (40, 20), [("RBC", (10, 5, 30, 15)), ("RBC", (7, 5, 30, 15))]).replace("<xmin>7", "<xmin>nan")
    split = load(devkit(tmp_path, "a", text))
    assert split.boxes[0].tolist() == [[0, 0.5, 0.5, 0.5, 0.5]]
    assert split.problems == ["a.jpg: box without area inside the image dropped: RBC at nan,0.2500"]


@pytest.mark.parametrize("style", ["voc", "coco"])
def test_labels_for_a_turned_picture_as_stored_are_left_out(tmp_path: Path, style: str) -> None:
    def labelled(size: tuple[int, int]) -> Split:
        file = devkit(tmp_path, "a", voc.write_boxes("a.jpg", size, [("RBC", (5, 10, 15, 20))]))
        image = tmp_path / "JPEGImages/a.jpg"
        image.write_bytes(turned(image.read_bytes(), 6))
        if style == "coco":
            content = {
                "images": [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}],
                "annotations": [{"image_id": 1, "category_id": 1, "bbox": [5, 10, 10, 10]}],
                "categories": [{"id": 1, "name": "RBC"}],
            }
            (tmp_path / "a.json").write_text(json.dumps(content))
            file.write_text("train: JPEGImages\nformat: coco\nannotations: {train: a.json}\nnames: [RBC]\n")
        return load(file)

    assert labelled((20, 40)).boxes[0].tolist() == [[0, 0.5, 0.375, 0.5, 0.25]]
    with pytest.raises(UserError, match="left out 1 of 1 images, .*a.jpg: its labels are for 40 x 20 pixels as stored, .*exiftool"):
        labelled((40, 20))


def test_a_file_name_that_is_not_utf8_is_no_obstacle(make_set: MakeSet) -> None:
    file = make_set({"a": "1 0.5 0.5 0.25 0.5\n"})
    images = file.parent / "images/train"
    (images / os.fsdecode(b"caf\xe9.jpg")).write_bytes((images / "a.jpg").read_bytes())
    (problem,) = load(file).problems
    assert problem.endswith("the first is caf\\udce9.jpg") and problem.isascii()  # can be printed


def test_bccd_has_the_counts_of_its_authors(real_data: Path) -> None:
    config = load_data_config("bccd.yaml")
    splits = [load_split(config, name) for name in ("train", "val", "test")]
    assert [len(split.images) for split in splits] == [205, 87, 72]
    classes = np.concatenate([box[:, 0] for split in splits for box in split.boxes]).astype(int)
    assert dict(zip(config.names, np.bincount(classes).tolist(), strict=True)) == {"WBC": 372, "RBC": 4153, "Platelets": 361}
    problems = sorted(problem for split in splits for problem in split.problems)
    assert [problem.split(":")[0] for problem in problems] == ["BloodImage_00338.jpg", "BloodImage_00343.jpg"]
    assert all("without area" in problem for problem in problems)


def test_coco128_in_both_formats(real_data: Path, tmp_path: Path) -> None:
    config = load_data_config("coco128")
    val = load_split(config, "val")
    assert len(val.images) == 128 and sum(map(len, val.boxes)) == 898 and not val.problems
    (tmp_path / "json.yaml").write_text(
        "path: coco128\nformat: coco\ntrain: images/train2017\nannotations: {train: annotations/instances_train2017.json}\n"
        f"names: [{', '.join(config.names)}]\n"
    )
    from_text, from_json = load_split(config, "train"), load(tmp_path / "json.yaml")
    assert from_json.images == from_text.images
    assert [len(box) for box in from_json.boxes] == [len(box) for box in from_text.boxes]
