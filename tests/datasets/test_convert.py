from pathlib import Path

import pytest

from tests.datasets.conftest import MakeSet
from yoloperf.core.errors import UserError
from yoloperf.datasets import smear
from yoloperf.datasets.check import check
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.convert import convert
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
