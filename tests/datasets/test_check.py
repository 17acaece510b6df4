from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.datasets.conftest import MakeSet, turned
from tests.service.hostile import bmp, png
from yoloperf.core.errors import UserError
from yoloperf.datasets import smear
from yoloperf.datasets.check import Finding, check, config_of, unreadable
from yoloperf.datasets.config import load_data_config

BOX = "1 0.5 0.5 0.25 0.5\n"


def findings(file: Path) -> list[Finding]:
    return check(load_data_config(file)).findings


def kinds(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in findings(file):
        found.setdefault(finding.kind, []).append(Path(finding.file).name)
    return found


def test_a_sound_data_set_has_no_finding(make_set: MakeSet) -> None:
    report = check(load_data_config(make_set({"a": BOX, "b": "", "c": BOX + "0 0.1 0.5 0.1 0.5\n"})))
    assert (report.images, report.boxes, report.findings) == (3, 3, [])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_image_is_found_however_much_is_left(make_set: MakeSet, suffix: str, share: float) -> None:
    file = make_set({"a": BOX, "b": BOX}, suffix)
    image = file.parent / f"images/train/a{suffix}"
    content = image.read_bytes()
    image.write_bytes(content[: int(share * len(content))])
    (finding,) = findings(file)
    assert finding.file == str(image) and finding.kind in ("truncated image", "unreadable image")


def test_a_truncated_jpeg_decodes_silently_yet_is_found(make_set: MakeSet) -> None:
    file = make_set({"a": BOX})
    image = file.parent / "images/train/a.jpg"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    image.write_bytes(image.read_bytes()[:-2000])
    assert cv2.imread(str(image)) is not None
    assert kinds(file) == {"truncated image": ["a.jpg"]}


def test_a_thumbnails_end_is_not_the_images(make_set: MakeSet) -> None:
    file = make_set({"a": BOX})
    image = file.parent / "images/train/a.jpg"
    content = image.read_bytes()
    whole = content[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + content[2:]
    image.write_bytes(whole + b"trailing bytes that cameras leave")
    assert kinds(file) == {}
    image.write_bytes(whole[:-20])
    assert kinds(file) == {"truncated image": ["a.jpg"]}


def test_a_picture_of_more_pixels_than_can_be_decoded_is_a_finding(make_set: MakeSet) -> None:
    file = make_set({"a": BOX, "b": BOX, "c": BOX})
    images = file.parent / "images/train"
    (images / "a.jpg").write_bytes(png(60_000, 60_000))
    (images / "b.jpg").write_bytes(bmp(60_000, 60_000))
    assert kinds(file) == {"unreadable image": ["a.jpg", "b.jpg"]}
    assert all(unreadable(images / name) for name in ("a.jpg", "b.jpg")) and not unreadable(images / "c.jpg")


@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xfe\0\2"])
def test_a_header_without_end_is_not_walked(make_set: MakeSet, filling: bytes) -> None:
    file = make_set({"a": BOX, "b": BOX})
    images = file.parent / "images/train"
    whole = (images / "a.jpg").read_bytes()
    (images / "a.jpg").write_bytes(whole[:2] + filling * 1000 + whole[2:])
    assert kinds(file) == {}
    (images / "a.jpg").write_bytes(whole[:2] + filling * 5000 + whole[2:])
    assert kinds(file) == {"truncated image": ["a.jpg"]}


def test_bytes_behind_the_end_of_a_png_are_no_fault(make_set: MakeSet) -> None:
    file = make_set({"a": BOX}, ".png")
    image = file.parent / "images/train/a.png"
    image.write_bytes(image.read_bytes() + bytes(100))
    assert kinds(file) == {}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("bits", "found"), [(12, ["a"]), (16, [])])
def test_a_picture_of_16_bits_that_uses_12_is_almost_black(make_set: MakeSet, suffix: str, bits: int, found: list[str]) -> None:
    file = make_set({"a": BOX}, suffix)
    pixels = np.random.default_rng(0).integers(0, 1 << bits, (20, 40), np.uint16)
    cv2.imwrite(str(file.parent / f"images/train/a{suffix}"), pixels)
    assert [name.removesuffix(suffix) for name in kinds(file).get("almost black image", [])] == found


def test_labels_for_the_picture_as_stored_are_a_finding(tmp_path: Path) -> None:
    smear.generate(tmp_path / "smear", {"train": 2}, (64, 48))
    image = tmp_path / "smear/JPEGImages/smear_00000.jpg"
    image.write_bytes(turned(image.read_bytes(), 6))
    (finding,) = check(config_of(str(tmp_path / "smear"))).findings
    assert finding.kind == "malformed labels" and "labels are for 64 x 48 pixels as stored" in finding.detail


def test_a_class_named_twice_and_an_image_listed_twice(make_set: MakeSet) -> None:
    file = make_set({"a": BOX, "b": BOX})
    file.with_name("list.txt").write_text("images/train/a.jpg\nimages/train/b.jpg\nimages/train/a.jpg\n")
    file.write_text("train: list.txt\nnames: [WBC, WBC, Platelets]\n")
    assert kinds(file) == {"class named twice": ["cells"], "images listed twice": ["a.jpg"]}


def test_an_image_that_is_none(make_set: MakeSet) -> None:
    file = make_set({"a": BOX, "b": BOX})
    (file.parent / "images/train/a.jpg").write_text("<html>404</html>")
    assert kinds(file) == {"unreadable image": ["a.jpg"]}


def test_every_bad_line_is_named(make_set: MakeSet) -> None:
    file = make_set({"a": BOX + "3 0.5 0.5 0.1 0.1\n1 0.5 0.5\n" + "0 0.2 0.2 0.1 0.1\n", "b": None, "c": BOX})
    report = check(load_data_config(file))
    assert report.boxes == 3
    assert [(finding.kind, finding.detail.split(",")[0]) for finding in report.findings if finding.kind == "malformed labels"] == [
        ("malformed labels", "line 2: class 3 out of range"),
        ("malformed labels", "line 3: 3 words"),
    ]
    assert kinds(file)["missing labels"] == ["b.jpg"]


def test_boxes_outside_without_area_and_twice(make_set: MakeSet) -> None:
    file = make_set({"a": "0 0.9 0.5 0.4 0.5\n1 0.5 0.5 0 0.5\n" + BOX + BOX})
    assert Counter(finding.kind for finding in findings(file)) == {
        "box reaching outside the image": 1,
        "box without area inside the image": 1,
        "same box again": 1,
    }


def test_the_same_image_twice_and_across_splits(make_set: MakeSet) -> None:
    file = make_set({"a": BOX, "b": BOX})
    images = file.parent / "images/train"
    (images / "b.jpg").write_bytes((images / "a.jpg").read_bytes())
    file.write_text("train: images/train\nval: images/train\nnames: [WBC, RBC, Platelets]\n")
    assert kinds(file) == {"images in two splits": ["a.jpg"], "duplicate image": ["b.jpg"]}


def test_labels_that_lost_their_image(make_set: MakeSet) -> None:
    file = make_set({"a": BOX, "b": BOX})
    (file.parent / "images/train/b.jpg").unlink()
    (file.parent / "labels/train/classes.txt").write_text("WBC\nRBC\n")
    assert kinds(file) == {"labels without image": ["b.txt"]}


def test_a_list_that_names_a_folder_that_is_gone(make_set: MakeSet) -> None:
    file = make_set({"a": BOX})
    file.with_name("list.txt").write_text("images/gone/b.jpg\nimages/train/a.jpg\n")
    file.write_text("train: list.txt\nnames: [WBC, RBC, Platelets]\n")
    assert kinds(file) == {"unreadable image": ["b.jpg"]}


def test_a_split_that_cannot_be_read_is_a_finding_too(make_set: MakeSet) -> None:
    file = make_set({"a": BOX})
    file.write_text("train: images/train\nval: images/val\nnames: [WBC, RBC, Platelets]\n")
    assert kinds(file) == {"unusable split": ["val"]}


def test_a_folder_means_its_yaml_or_its_voc_layout(make_set: MakeSet, tmp_path: Path) -> None:
    assert config_of(str(make_set({"a": BOX}).parent)).name == "cells"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds 0 data YAMLs and no ImageSets"):
        config_of(str(tmp_path / "empty"))


def test_the_two_known_faults_of_bccd_are_found(real_data: Path) -> None:
    report = check(config_of(str(real_data / "bccd")))
    assert (report.images, report.boxes) == (364, 4886)
    assert sorted((finding.kind, Path(finding.file).name) for finding in report.findings) == [
        ("box without area inside the image", "BloodImage_00338.xml"),
        ("box without area inside the image", "BloodImage_00343.xml"),
    ]
