from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import MakeSet
from yoloperf.core.errors import UserError
from yoloperf.datasets import smear
from yoloperf.datasets.check import check
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.convert import convert, join
from yoloperf.datasets.labels import load_split


@pytest.mark.parametrize("copy", [False, True])
def test_voc_to_yolo_keeps_every_split_bit_for_bit(tmp_path: Path, copy: bool) -> None:
    smear.generate(Path("datasets/smear"), {"train": 3, "val": 2, "test": 1}, (160, 120))
    config = load_data_config("smear")
    before = convert(config, tmp_path / "out", copy)
    (tmp_path / "out").rename(tmp_path / "moved")
    after = load_data_config(tmp_path / "moved" / "smear.yaml")
    assert after.names == config.names and after.format == "yolo"
    assert {name: load_split(after, name).hash for name in after.splits} == {name: split.hash for name, split in before.items()}
    assert (tmp_path / "moved/images/train/smear_00000.jpg").is_symlink() != copy
    assert not check(after).findings


def test_an_existing_folder_is_left_alone(make_set: MakeSet, tmp_path: Path) -> None:
    config = load_data_config(make_set({"a": "1 0.5 0.5 0.25 0.5\n"}))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out exists"):
        convert(config, tmp_path / "out")


def test_two_images_of_one_name_are_refused_and_nothing_is_left(make_set: MakeSet, tmp_path: Path) -> None:
    file = make_set({"a": "1 0.5 0.5 0.25 0.5\n"})
    (file.parent / "images/train/deep").mkdir()
    (file.parent / "images/train/deep/a.jpg").write_bytes((file.parent / "images/train/a.jpg").read_bytes())
    with pytest.raises(UserError, match="two images of cells train have the name a"):
        convert(load_data_config(file), tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_join_keeps_every_box_under_its_class_name(make_set: MakeSet, tmp_path: Path) -> None:
    smear.generate(Path("datasets/smear"), {"train": 3, "val": 2, "test": 1}, (160, 120))
    other = make_set({"a": "1 0.5 0.5 0.25 0.5\n", "smear_00000": "0 0.5 0.5 0.5 0.5\n"})  # an image of the same name
    text = other.read_text()
    other.write_text(text.replace("WBC", "cat"))
    parts = [load_data_config(other), load_data_config("smear")]
    names, splits = join(parts, tmp_path / "both")
    assert names == ("cat", "RBC", "Platelets", "WBC")
    for name, split in splits.items():
        own = [(part, load_split(part, name)) for part in parts if name in part.splits]
        assert len(split.images) == sum(len(each.images) for _, each in own)
        found = dict(zip([image.stem for image in split.images], split.boxes, strict=True))
        for part, each in own:
            for image, boxes in zip(each.images, each.boxes, strict=True):
                joined = found[f"{part.name}_{image.stem}"]
                assert [names[int(box[0])] for box in joined] == [part.names[int(box[0])] for box in boxes]
                assert np.array_equal(joined[:, 1:], boxes[:, 1:])
    assert not check(load_data_config(tmp_path / "both" / "both.yaml")).findings


def test_join_wants_two_sets_with_names_of_their_own(make_set: MakeSet, tmp_path: Path) -> None:
    config = load_data_config(make_set({"a": "1 0.5 0.5 0.25 0.5\n"}))
    for configs in ([config], [config, config]):
        with pytest.raises(UserError, match="two or more data sets with names of their own"):
            join(configs, tmp_path / "out")
