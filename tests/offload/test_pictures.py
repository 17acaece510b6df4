from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.offload.pictures import make_data, study
from yoloperf.core.errors import UserError
from yoloperf.offload.pictures import FULL, Picture, find_pictures, load_pictures


def _oriented(folder: Path, orientation: int) -> None:
    """The data set's only picture: a white box on black, its JPEG with an EXIF orientation (Exif 2.3, tag 0x0112)."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[8:24, 12:60] = 255
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big") + b"\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (folder / "images" / "0.jpg").write_bytes(data.tobytes()[:2] + segment + data.tobytes()[2:])
    shown = cv2.imread(str(folder / "images" / "0.jpg"), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    (top, left), (bottom, right) = (place(np.argwhere(shown > 128), axis=0) + extra for place, extra in ((np.min, 0), (np.max, 1)))
    high, wide = shown.shape
    box = ((left + right) / 2 / wide, (top + bottom) / 2 / high, (right - left) / wide, (bottom - top) / high)
    (folder / "labels" / "0.txt").write_text(" ".join(map(str, (0, *box))) + "\n")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_are_for_the_picture_as_it_is_shown(tmp_path: Path, orientation: int) -> None:
    data = make_data(tmp_path / "few", 1)
    _oriented(data.parent, orientation)
    (picture,) = load_pictures(study(data, None, "resolution", {}))
    assert (picture.width, picture.height) == ((96, 64) if orientation < 5 else (64, 96))
    for content in (picture.content, picture.encoded(96, 95)):
        shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert shown is not None and shown.shape == (picture.height, picture.width)
        _, x, y, width, height = picture.boxes[0] * (1, picture.width, picture.height, picture.width, picture.height)
        inside = shown[round(y - height / 2) : round(y + height / 2), round(x - width / 2) : round(x + width / 2)]
        assert inside.mean() > 240 and int(shown.sum()) - int(inside.sum()) < 0.05 * shown.sum()


def test_a_picture_shrinks_to_its_longer_side_and_never_grows(tmp_path: Path) -> None:
    picture = load_pictures(study(make_data(tmp_path / "few"), None, "resolution", {}))[0]

    def size(content: bytes) -> tuple[int, ...]:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return tuple(map(int, image.shape[:2]))

    assert picture.content == picture.encoded(FULL, None) == (tmp_path / "few" / "images" / "0.jpg").read_bytes()
    assert size(picture.encoded(48, 75)) == (32, 48)
    assert size(picture.encoded(1, 75)) == (1, 1)
    assert size(picture.encoded(400, 75)) == (64, 96)
    assert len(picture.encoded(48, 30)) < len(picture.encoded(48, 95))


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    data = make_data(tmp_path / "few")
    images = data.parent / "images"
    (images / "1.jpg").write_text("no picture")
    (images / "2.jpg").write_bytes((images / "2.jpg").read_bytes()[:300])  # the header is whole
    (images / "3.jpg").write_bytes(b"")
    found = find_pictures(study(data, None, "resolution", {}))
    assert [picture.name for picture in found.pictures] == ["images/0.jpg", "images/4.jpg", "images/5.jpg"]
    assert [line.partition(":")[0] for line in found.unusable] == ["images/1.jpg", "images/2.jpg", "images/3.jpg"]
    for image in images.iterdir():
        image.write_text("nothing")
    with pytest.raises(UserError, match=r"no picture of few val can be used: images/0.jpg: .*\(and 5 more\)"):
        find_pictures(study(data, None, "resolution", {}))


def test_fewer_pictures_are_drawn_by_the_seed(tmp_path: Path) -> None:
    whole = study(make_data(tmp_path / "few"), None, "resolution", {})

    def drawn(seed: int) -> list[Picture]:
        return load_pictures(type(whole)(**{**vars(whole), "images": 3, "seed": seed}))

    assert [picture.name for picture in drawn(1)] == [picture.name for picture in drawn(1)]
    assert len({tuple(picture.name for picture in drawn(seed)) for seed in range(5)}) > 1
