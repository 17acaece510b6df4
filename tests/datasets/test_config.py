from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.datasets.config import load_data_config


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    return file


def test_names_as_a_map_as_a_list_and_with_their_number_mean_the_same(tmp_path: Path) -> None:
    texts = ("names: {1: b, 0: a}", "names: [a, b]", "nc: 2\nnames: [a, b]", "nc: '2'\nnames: [a, b]")
    found = {load_data_config(written(tmp_path, f"train: images\n{text}")).names for text in texts}
    assert found == {("a", "b")}


def test_without_path_the_data_set_is_where_its_yaml_is(tmp_path: Path) -> None:
    config = load_data_config(written(tmp_path, "train: images\nval: [a.txt, b]\ntest:\nnames: [a]"))
    assert config.root == tmp_path and config.name == "own" and config.format == "yolo"
    assert config.splits == {"train": ["images"], "val": ["a.txt", "b"]}
    assert config.entries("val") == [tmp_path / "a.txt", tmp_path / "b"]


def test_a_relative_path_is_looked_for_in_the_data_folders_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "path: cells\ntrain: images\nnames: [a]")
    (tmp_path / "datasets" / "cells").mkdir(parents=True)
    assert load_data_config(file).root == tmp_path / "datasets" / "cells"
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "given"))
    assert load_data_config(file).root == tmp_path / "datasets" / "cells"
    (tmp_path / "given" / "cells").mkdir(parents=True)
    assert load_data_config(file).root == tmp_path / "given" / "cells"


def test_the_working_folders_data_comes_before_the_repositorys(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not on this machine"):
        load_data_config("bccd")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bccd.yaml").write_text("train: images\nnames: [a]")
    assert load_data_config("bccd").root == tmp_path / "data" == load_data_config("bccd.yaml").root


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("smear.yaml", "yoloperf data synth"),
        ("bccd", "yoloperf data fetch bccd"),
        ("coco", "yoloperf data fetch coco"),
        ("coco128", "put it there"),
        ("bcd.yaml", "did you mean 'bccd'"),
        ("nonesuch", "choose from bccd, coco, coco128, smear"),
        ("elsewhere/bccd.yaml", "known by its name alone"),
    ],
)
def test_what_is_not_there_is_named_with_the_next_step(name: str, step: str) -> None:
    with pytest.raises(UserError, match=step) as caught:
        load_data_config(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a: [", "line 1|line 2"),
        ("just words", "no data YAML"),
        ("names: [a]", "names no images"),
        ("train: images", "no class names"),
        ("train: images\nnc: 3", "no class names"),
        ("train: images\nnc: 3\nnames: [a]", "nc: 3 but names 1"),
        ("train: images\nnames: {0: a, 2: b}", "0 to 1 without a gap"),
        ("train: images\nnames: [a]\nformat: vco", "did you mean 'voc'"),
        ("train: 3\nnames: [a]", "train must be a folder"),
        ("train: images\nnames: [a]\nformat: coco", "add annotations"),
        ("path: nowhere/at/all\ntrain: images\nnames: [a]", "not on this machine"),
        ("path: ~nobody-of-that-name/x\ntrain: images\nnames: [a]", "no such user here"),
    ],
)
def test_a_yaml_that_is_none_is_one_clear_line(tmp_path: Path, text: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        load_data_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_in_the_yaml_lists_those_that_are(tmp_path: Path) -> None:
    config = load_data_config(written(tmp_path, "train: images\nval: images\nnames: [a]"))
    with pytest.raises(UserError, match="own has no split test: choose from train, val, or add `test:`"):
        config.entries("test")


def test_a_folder_beside_the_root_that_is_below_it_is_meant_as_ultralytics_does(tmp_path: Path) -> None:
    (tmp_path / "train/images").mkdir(parents=True)
    config = load_data_config(written(tmp_path, "train: ../train/images\nval: ../valid/images\nnames: [a]"))
    assert config.entries("train") == [tmp_path / "train/images"] and config.entries("val") == [tmp_path / "../valid/images"]
