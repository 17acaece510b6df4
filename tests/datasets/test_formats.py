"""The three label formats and the image headers."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.datasets.conftest import NAMES, turned, write_image
from yoloperf.core.errors import UserError
from yoloperf.datasets import coco, voc, yolo_txt
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.images import image_size, list_images, read_list


def test_voc_boxes_come_back_as_written(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    objects = [("RBC", (1, 2, 30, 40)), ("Platelets", (0, 0, 640, 480))]
    file.write_text(voc.write_boxes("a.jpg", (640, 480), objects))
    boxes, size = voc.read_boxes(file, NAMES)
    assert boxes.tolist() == [[1, 1, 2, 30, 40], [2, 0, 0, 640, 480]] and size == (640, 480)


def test_voc_leaves_out_difficult_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    text = voc.write_boxes("a.jpg", (640, 480), [("RBC", (1, 2, 3, 4))])
    file.write_text(text.replace("<difficult>0", "<difficult>1"))
    assert voc.read_boxes(file, NAMES)[0].shape == (0, 5)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("</annotation>", "", "no XML"),
        ("RBC", "RBX", "did you mean 'RBC'"),
        ("<ymax>4", "<ymax>four", "no numbers for xmin"),
        ("<annotation>", '<?xml version="1.0" encoding="GBK"?><annotation>', "save it as UTF-8"),
        ("<annotation>", '<?xml version="1.0" encoding="foo-1"?><annotation>', "save it as UTF-8"),
    ],
)
def test_voc_names_the_file_and_what_is_wrong(tmp_path: Path, old: str, new: str, cause: str) -> None:
    file = tmp_path / "a.xml"
    file.write_text(voc.write_boxes("a.jpg", (640, 480), [("RBC", (1, 2, 3, 4))]).replace(old, new))
    with pytest.raises(UserError, match=cause) as caught:
        voc.read_boxes(file, NAMES)
    assert "a.xml" in str(caught.value)


def coco_file(tmp_path: Path, **changes: object) -> Path:
    content = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "WBC"}, {"id": 13, "name": "RBC"}, {"id": 90, "name": "Platelets"}],
        "annotations": [
            {"image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 20], "iscrowd": 0},
            {"image_id": 7, "category_id": 13, "bbox": [0, 0, 5, 5], "iscrowd": 1},
        ],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({**content, **changes}))
    return file


def test_coco_ids_become_contiguous_and_crowds_are_left_out(tmp_path: Path) -> None:
    found = coco.read_boxes(coco_file(tmp_path), NAMES)
    assert found["a.jpg"][0].tolist() == [[2, 1.5, 2, 11.5, 22]]
    assert found["b.jpg"][0].shape == (0, 5)


def test_coco_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown category .*'Platelets'"):
        coco.read_boxes(coco_file(tmp_path), ("WBC", "RBC"))
    for changes in ({"images": 3}, {"annotations": {"a": 1}}, {"annotations": [[1]]}):
        with pytest.raises(UserError, match="no COCO instances file"):
            coco.read_boxes(coco_file(tmp_path, **changes), NAMES)
    with pytest.raises(UserError, match="no annotation file"):
        coco.read_boxes(tmp_path / "none.json", NAMES)


def test_coco_images_are_known_by_as_much_of_their_path_as_the_file_gives() -> None:
    one, two, file = Path("/d/img/cam1/1.png"), Path("/d/img/cam2/1.png"), Path("a.json")
    assert coco.match([one, two], ["cam1/1.png", "cam2/1.png"], file) == {one: "cam1/1.png", two: "cam2/1.png"}
    assert coco.match([one, two], ["cam1/1.png"], file) == {one: "cam1/1.png"}
    assert coco.match([one], ["train/1.png", "2.png"], file) == {one: "train/1.png"}
    with pytest.raises(UserError, match="may be .*cam1/1.png or .*cam2/1.png: give file_name with the folder, such as cam2/1.png"):
        coco.match([one, two], ["1.png"], file)
    with pytest.raises(UserError, match="a.json has a/1.png and b/1.png, and either may be .*cam1/1.png"):
        coco.match([one], ["a/1.png", "b/1.png"], file)


def test_coco_own_categories_map_to_the_80_names_in_order(real_data: Path) -> None:
    names = load_data_config("coco128").names
    file = real_data / "coco128" / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    assert len(names) == 80 == len(content["categories"]) and content["categories"][-1]["id"] == 90
    order = {item["id"]: index for index, item in enumerate(sorted(content["categories"], key=lambda item: item["id"]))}
    found = {name: boxes for name, (boxes, _) in coco.read_boxes(file, names).items()}
    images = {item["id"]: item["file_name"] for item in content["images"]}
    expected: dict[str, list[int]] = {name: [] for name in images.values()}
    for item in content["annotations"]:
        if not item["iscrowd"]:
            expected[images[item["image_id"]]].append(order[item["category_id"]])
    assert {name: rows[:, 0].tolist() for name, rows in found.items()} == expected
    # the labels that were published with the same images are an independent conversion
    boxes = 0
    for name, rows in found.items():
        label = real_data / "coco128" / "labels" / "train2017" / name.replace(".jpg", ".txt")
        width, height = image_size(real_data / "coco128" / "images" / "train2017" / name)
        published = yolo_txt.read_boxes(label, names) if label.is_file() else np.zeros((0, 5))
        centres = np.column_stack(
            [rows[:, 0], (rows[:, 1] + rows[:, 3]) / 2 / width, (rows[:, 2] + rows[:, 4]) / 2 / height]
            + [(rows[:, 3] - rows[:, 1]) / width, (rows[:, 4] - rows[:, 2]) / height]
        )
        key = [np.lexsort(table.round(4).T[::-1]) for table in (centres, published)]
        assert np.allclose(centres[key[0]], published[key[1]], atol=1e-5)
        boxes += len(rows)
    assert boxes == 929


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/a/images/train/x.jpg", "/a/labels/train/x.txt"),
        ("/images/a/images/x.y.png", "/images/a/labels/x.y.txt"),
        ("/a/my_images/x.jpg", "/a/my_images/x.txt"),
        ("/a/b/images", "/a/b/images.txt"),
    ],
)
def test_the_last_images_folder_becomes_labels(image: str, label: str) -> None:
    assert yolo_txt.label_path(Path(image)) == Path(label)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("1 0.5 0.5 0.5", "4 words"),
        ("1 0.5 0.5 0.5 x", "not all are numbers"),
        ("3 0.5 0.5 0.5 0.5", "class 3 out of range, the data YAML names 0 to 2"),
        ("-1 0.5 0.5 0.5 0.5", "class -1 out of range"),
        ("0.5 0.5 0.5 0.5 0.5", "class 0.5 out of range"),
        ("1 320 240 100 100", "not normalised"),
        ("1 nan 0.5 0.5 0.5", "not normalised"),
        ("1 0.5 0.5 0.5 0.5 0.9", "6 words"),
    ],
)
def test_a_yolo_line_that_cannot_be_used_is_named_by_file_and_line(tmp_path: Path, line: str, cause: str) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"1 0.5 0.5 0.5 0.5\n\n{line}\n")
    with pytest.raises(UserError, match=f"a.txt line 3: .*{cause}"):
        yolo_txt.read_boxes(file, NAMES)


@given(arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(0, 1, width=32)))
def test_yolo_text_gives_back_the_same_floats(tmp_path_factory: pytest.TempPathFactory, sides: np.ndarray) -> None:
    boxes = np.hstack([np.ones((len(sides), 1), np.float32), sides])
    file = tmp_path_factory.getbasetemp() / "law.txt"
    file.write_text(yolo_txt.write_boxes(boxes))
    assert yolo_txt.read_boxes(file, NAMES).astype(np.float32).tobytes() == boxes.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_image_size_is_that_of_the_pixels(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write_image(file, 33, 21)
    assert image_size(file) == (33, 21)


def test_a_progressive_jpeg_with_a_thumbnail_before_its_frame(tmp_path: Path) -> None:
    small, large = tmp_path / "small.jpg", tmp_path / "large.jpg"
    write_image(small, 16, 8)
    cv2.imwrite(str(large), np.zeros((30, 50, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    thumbnail = small.read_bytes()
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    content = large.read_bytes()
    large.write_bytes(content[:2] + segment + b"\xff" + content[2:])  # a fill byte before the next marker is legal
    assert image_size(large) == (50, 30)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_the_size_of_a_picture_is_that_of_its_decoded_pixels_whatever_its_orientation(
    tmp_path: Path, suffix: str, order: str, orientation: int
) -> None:
    file = tmp_path / f"a{suffix}"
    write_image(file)
    file.write_bytes(turned(file.read_bytes(), orientation, order))
    decoded = cv2.imread(str(file))
    assert decoded is not None and image_size(file) == decoded.shape[1::-1] == ((20, 40) if 5 <= orientation <= 8 else (40, 20))


def test_outlines_and_boxes_may_share_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 0.25 0.5 0.5 0.5\n1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.875\n", "utf-8-sig")
    assert yolo_txt.read_boxes(file, NAMES).tolist() == [[0, 0.25, 0.5, 0.5, 0.5], [1, 0.5, 0.5625, 0.5, 0.625]]


@pytest.mark.parametrize("content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10", b"\x89PNG\r\n\x1a\n", b"words" * 9])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    with pytest.raises(UserError, match="a.jpg is no readable image"):
        image_size(file)


def test_images_of_a_folder_and_of_a_list(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "1.png", "b/notes.txt"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    assert list_images(tmp_path / "images") == [tmp_path / "images/1.png", tmp_path / "images/b/2.JPG"]
    (tmp_path / "some.txt").write_text("./images/b/2.JPG\n\n/elsewhere/3.jpg\n", "utf-8-sig")
    assert list_images(tmp_path / "some.txt") == [tmp_path / "images/b/2.JPG", Path("/elsewhere/3.jpg")]


@pytest.mark.parametrize("read", [load_data_config, read_list, lambda file: yolo_txt.read_boxes(file, NAMES)])
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]) -> None:
    def refuse(*args: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "a.yaml").touch()
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError, match="a.yaml.*Permission denied"):
        read(tmp_path / "a.yaml")


def test_a_folder_where_an_image_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(UserError, match="cannot read .*a.jpg: Is a directory"):
        image_size(tmp_path / "a.jpg")


def test_links_to_folders_are_followed_and_what_is_no_image_is_left_out(tmp_path: Path) -> None:
    images, other = tmp_path / "images", tmp_path / "other"
    for name in ("images/1.png", "images/._1.png", "images/.hidden/3.png", "images/4.png/5.png", "other/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (images / "more").symlink_to(other)
    (other / "back").symlink_to(images)
    (images / "lost.png").symlink_to(tmp_path / "nowhere.png")  # told of when it is read
    assert [path.relative_to(images).as_posix() for path in list_images(images)] == ["1.png", "4.png/5.png", "lost.png", "more/2.png"]


def test_an_empty_folder_an_empty_list_and_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    for name, cause in (("empty", "no images in"), ("empty.txt", "is empty"), ("none", "no image folder or list")):
        with pytest.raises(UserError, match=cause):
            list_images(tmp_path / name)
