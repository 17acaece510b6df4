import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yoloperf.core.errors import UserError
from yoloperf.yolo.boxes import decode_heads, suppress
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.detect import main
from yoloperf.yolo.images import letterbox, read_image
from yoloperf.yolo.loader import to_network
from yoloperf.yolo.picture import Detection, annotate, save_picture
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(0)
    cfg = with_classes(load_cfg("yolov3-tiny"), 2)
    network = Darknet(cfg)
    for head in network.head_convolutions():  # scores far enough apart that rounding does not change their order
        torch.nn.init.normal_(head.weight, 0, 0.5)
        torch.nn.init.normal_(head.bias)
    save_checkpoint(tmp_path / "w.pt", Checkpoint(cfg, network.state_dict(), ["disc", "square"], 64))
    return str(tmp_path / "w.pt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        cv2.imwrite(str(images / f"{number}.jpg"), np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8))
    return images


def test_unreadable_image_is_skipped_and_said(weights: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    code = main(["--weights", weights, "--source", str(folder), "--json", "--conf", "0", "--save-dir", str(tmp_path / "out")])
    output = capsys.readouterr()
    result = json.loads(output.out.splitlines()[-1])
    assert code == 1
    assert len(result["images"]) == 3 and result["unreadable"] == [str(folder / "broken.jpg")]
    assert "skipped" in output.err and "broken.jpg" in output.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.jpg", "1.jpg", "2.jpg", "detections.json"]
    for boxes in result["images"].values():
        for box in boxes:
            assert 0 <= box["x1"] <= box["x2"] <= 64 and 0 <= box["y1"] <= box["y2"] <= 48


def test_sources(weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, count in ((folder / "1.jpg", 1), (folder, 3), (folder / "[01].jpg", 2)):
        assert main(["--weights", weights, "--source", str(source)]) == 0
        assert sum(line.startswith(str(folder)) for line in capsys.readouterr().out.splitlines()) == count


@pytest.mark.parametrize("source", ["", "**/*.*g"])
def test_every_picture_has_a_place_of_its_own(weights: str, folder: Path, source: str) -> None:
    """As its image has; and what a first run wrote below the source is not detected by a second one."""
    for name in ("a/0.jpg", "b/0.jpg", "b/0.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((folder / "0.jpg").read_bytes())
    out = folder / "out"
    flags = ["--weights", weights, "--source", str(folder / source), "--save-dir", str(out)]
    assert main(flags) == main(flags) == 0
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["0.jpg", "1.jpg", "2.jpg", "a/0.jpg", "b/0.jpg", "b/0.png.jpg", "detections.json"]
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 6


@pytest.mark.parametrize("source", ["", "1.jpg", "*.jpg"])
def test_no_image_is_replaced_by_its_picture(weights: str, folder: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert main(["--weights", weights, "--source", str(folder / source), "--save-dir", str(folder)]) == 2
    assert "jpg, an image of --source: choose another folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_file_name_that_is_no_text_is_read_and_shown(weights: str, folder: Path) -> None:
    os.rename(folder / "1.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    flags = ["--weights", weights, "--source", str(folder), "--save-dir", str(folder / "out")]
    command = [sys.executable, "-m", "yoloperf.yolo.detect", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0 and "/caf\ufffd.jpg: " in done.stdout, done.stderr
    assert os.path.exists(os.fsencode(folder) + b"/out/caf\xe9.jpg")


def test_a_picture_too_wide_for_a_jpeg_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write .*wide\.jpg: 70000 x 2 px are too many for a JPEG"):
        save_picture(tmp_path / "wide.jpg", np.zeros((2, 70_000, 3), np.uint8))


def test_ends_quietly_when_nobody_reads_on(weights: str, folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "yoloperf.yolo.detect", "--weights", weights, "--source", str(folder)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 0 and "Error" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source", "nowhere/*.jpg"], "no images at nowhere"),
        (["--source", ".", "--conf", "2"], "--conf must be from 0 to 1"),
        (["--source", "FOLDER", "--img", "50"], "not a multiple of 32: choose 32 or 64"),
    ],
)
def test_bad_input(flags: list[str], message: str, weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--weights", weights, *[str(folder) if flag == "FOLDER" else flag for flag in flags]]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_official_weights_find_what_is_there(official_weights: Path, real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COCO val 139 shows a living room with people, chairs and a television."""
    image = real_data / "coco128" / "images" / "val2017" / "000000000139.jpg"
    assert main(["--weights", str(official_weights), "--source", str(image), "--json"]) == 0
    names = {box["name"] for box in json.loads(capsys.readouterr().out)["images"][str(image)]}
    assert names & {"person", "chair", "tv"}


def test_boxes_are_those_of_the_network(weights: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decoding, computing and boxes overlap over several batches: each picture still gets its own boxes, in order."""
    images = tmp_path / "many"
    images.mkdir()
    for number in range(19):
        side = 40 + 2 * number
        cv2.imwrite(str(images / f"{number:02}.png"), np.random.default_rng(number).integers(0, 255, (48, side, 3), np.uint8))
    (images / "09.png").write_bytes(b"no picture")
    flags = ["--weights", weights, "--source", str(images), "--json", "--runtime", "torch", "--precision", "fp32", "--conf", "0.001"]
    assert main(flags) == 1
    found = json.loads(capsys.readouterr().out)["images"]
    assert list(found) == [str(images / f"{number:02}.png") for number in range(19) if number != 9]

    network = load_weights(Path(weights)).build()
    for path, boxes in found.items():
        image = read_image(Path(path))
        square, placed = letterbox(image, 64)
        with torch.inference_mode():
            decoded = decode_heads(network(to_network(torch.from_numpy(square)[None], torch.device("cpu"))), network.heads, 64)
        (expected,) = suppress(decoded, 0.001, 0.45, multi_label=False)
        rows = placed.undo(expected.numpy(), image.shape[1], image.shape[0])
        assert len(boxes) == len(rows) > 0
        values = [[box[name] for name in ("x1", "y1", "x2", "y2", "score", "label")] for box in boxes]
        np.testing.assert_allclose(values, rows, rtol=1e-3, atol=1e-3)


def test_boxes_are_drawn_on_a_copy() -> None:
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = annotate(image, [Detection(0, "disc", 0.9, 20, 40, 60, 80)])
    assert image.max() == 0 and drawn[60, 20].max() > 0 and drawn[60, 40].max() == 0
