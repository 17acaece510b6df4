import contextlib
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.yolo.conftest import SMALL
from yoloperf.cli import main
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import Split, load_split
from yoloperf.yolo.cfg import load_cfg
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.evaluate import CONFIDENCE, NMS_IOU, detect_split, score
from yoloperf.yolo.images import PAD, open_images, read_image
from yoloperf.yolo.runtimes import make_runtime
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint

IMG_SIZE = 416


def _pycocotools(split: Split, detections: list[np.ndarray]) -> tuple[float, float]:
    """mAP@0.5 and mAP@0.5:0.95 by the reference implementation, fed from the labels by its own path."""
    annotations: list[dict[str, Any]] = []
    for image, boxes in enumerate(split.boxes):
        width, height = (int(side) for side in split.sizes[image])
        for label, cx, cy, w, h in boxes.tolist():
            box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "bbox": box, "area": box[2] * box[3]}
            annotations.append({**row, "iscrowd": 0})
    categories = [{"id": label} for label in sorted({row["category_id"] for row in annotations})]
    results = [
        {"image_id": image, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": confidence}
        for image, boxes in enumerate(detections)
        for x1, y1, x2, y2, confidence, label in boxes.tolist()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": image} for image in range(len(split.boxes))],
            "annotations": annotations,
            "categories": categories,
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1]), float(evaluation.stats[0])


def _split(seed: int, images: int = 12, classes: int = 3) -> Split:
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(images):
        count = int(rng.integers(0, 7))
        sides = rng.uniform(0.05, 0.3, (count, 2))
        centres = rng.uniform(0.2, 0.8, (count, 2))
        boxes.append(np.concatenate((rng.integers(0, classes, (count, 1)), centres, sides), 1).astype(np.float32))
    sizes = np.tile(np.array([[640, 480]], np.int32), (images, 1))
    return Split([Path(f"{number}.jpg") for number in range(images)], sizes, boxes, [], "")


def _found(split: Split, seed: int, jitter: float) -> list[np.ndarray]:
    """Detections near the boxes, some twice, some of the wrong class, and some of nothing."""
    rng = np.random.default_rng(seed)
    detections = []
    for boxes, (width, height) in zip(split.boxes, split.sizes, strict=True):
        near = boxes[rng.integers(0, len(boxes), 2 * len(boxes))] if len(boxes) else boxes
        wild = np.concatenate((rng.integers(0, 3, (3, 1)), rng.uniform(0.2, 0.8, (3, 2)), rng.uniform(0.05, 0.3, (3, 2))), 1)
        rows = np.concatenate((near, wild)) * (1, width, height, width, height)
        rows[:, 1:] += rng.normal(0, jitter, (len(rows), 4))
        rows[:, 3:] = rows[:, 3:].clip(1)
        corners = np.concatenate((rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2), 1)
        detections.append(np.concatenate((corners, rng.random((len(rows), 1)), rows[:, :1]), 1).astype(np.float32))
    return detections


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_pycocotools(seed: int) -> None:
    split = _split(seed)
    detections = _found(split, seed, jitter=8)
    scores = score(split, iter(detections))
    assert (scores.map50, scores.map50_95) == pytest.approx(_pycocotools(split, detections), abs=1e-6)


def test_finding_everything_scores_one() -> None:
    split = _split(0)
    detections = []
    for boxes, (width, height) in zip(split.boxes, split.sizes, strict=True):
        label, cx, cy, w, h = (boxes * (1, width, height, width, height)).T
        detections.append(np.stack((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, np.full_like(cx, 0.9), label), 1).astype(np.float32))
    scores = score(split, iter(detections))
    assert (scores.precision, scores.recall, scores.map50) == pytest.approx((1, 1, 1))


def test_precision_and_recall_by_hand() -> None:
    """Two boxes; found: one at 0.9, nothing at 0.8, the other at 0.3. F1 is best with all three: 2/3 and 2/2."""
    boxes = np.array([[0, 0.25, 0.5, 0.2, 0.2], [0, 0.75, 0.5, 0.2, 0.2]], np.float32)
    split = Split([Path("a.jpg")], np.array([[100, 100]], np.int32), [boxes], [], "")
    found = np.array([[15, 40, 35, 60, 0.9, 0], [40, 0, 60, 20, 0.8, 0], [65, 40, 85, 60, 0.3, 0]], np.float32)
    scores = score(split, iter([found]))
    assert (scores.precision, scores.recall) == pytest.approx((2 / 3, 1))


def test_two_detections_of_one_box_are_one_hit() -> None:
    """The better placed one has the lower score: at IoU 0.5 the first takes the box, at 0.95 only the second could."""
    split = Split([Path("a.jpg")], np.array([[100, 100]], np.int32), [np.array([[0, 0.5, 0.5, 0.4, 0.4]], np.float32)], [], "")
    found = np.array([[30, 30, 70, 55, 0.9, 0], [30, 30, 70, 69, 0.8, 0]], np.float32)
    scores = score(split, iter([found]))
    assert (scores.precision, scores.recall) == pytest.approx((1, 1))


@pytest.mark.parametrize("seed", range(10))
def test_rates_stay_rates(seed: int) -> None:
    split = _split(seed)
    scores = score(split, iter(_found(split, seed, jitter=4)))
    assert scores.precision is not None and scores.recall is not None
    assert 0 <= scores.precision <= 1 and 0 <= scores.recall <= 1


def test_nothing_found_is_zero_and_nothing_to_find_is_none() -> None:
    empty = [np.zeros((0, 6), np.float32)] * 12
    split = _split(0)
    assert score(split, iter(empty)).map50 == 0
    nothing = Split(split.images, split.sizes, [np.zeros((0, 5), np.float32)] * 12, [], "")
    assert score(nothing, iter(empty)).map50 is None


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A network of 64 px that has seen nothing, with outputs large enough that its classes differ."""
    torch.manual_seed(0)
    network = Darknet(SMALL)
    for head in network.head_convolutions():
        torch.nn.init.normal_(head.weight, 0, 2)
    save_checkpoint(tmp_path / "w.pt", Checkpoint(SMALL, network.state_dict(), ["disc", "square"], 64))
    return str(tmp_path / "w.pt")


def _evaluated(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, float]:
    assert main(["evaluate", "--device", "cpu", "--precision", "fp32", "--json", *flags]) == 0
    scores: dict[str, float] = json.loads(capsys.readouterr().out)
    return scores


def test_side_and_classes_are_those_of_the_weights(
    weights: str, make_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set that numbers the same classes otherwise has the same score."""
    data = make_dataset(val=12)
    wanted = _evaluated(capsys, "--weights", weights, "--data", str(data), "--img", "64")
    assert wanted["map50"] > 0
    assert _evaluated(capsys, "--weights", weights, "--data", str(data)) == wanted
    data.write_text(data.read_text().replace("disc, square", "square, disc"))
    for labels in (data.parent / "shapes" / "labels" / "val").iterdir():
        rows = [line.split() for line in labels.read_text().splitlines()]
        labels.write_text("".join(" ".join([str(1 - int(label)), *box]) + "\n" for label, *box in rows))
    assert _evaluated(capsys, "--weights", weights, "--data", str(data)) == wanted


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch", "0"], "--batch must be at least 1, not 0"),
        (["--threads", "0"], "threads must be at least 1, not 0"),
        (["--img", "0"], "img_size must be a whole number of at least 1, not 0"),
        (["--cfg", "yolov3"], "carries its own cfg, which is not yolov3: leave out --cfg"),
        ([], "w.pt was trained to find 'square' where shapes has 'ring': give weights trained on it"),
    ],
)
def test_bad_input(
    flags: list[str], message: str, weights: str, make_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset()
    if not flags:
        data.write_text(data.read_text().replace("square", "ring"))
    assert main(["evaluate", "--weights", weights, "--data", str(data), "--device", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def _opencv_detections(split: Split, weights: Path, cfg: Path) -> list[np.ndarray]:
    """An independent detector: OpenCV's importer, layers and suppression. Its [region] layer drops scores below `thresh`."""
    cfg.write_text(load_cfg("yolov3-tiny").replace("ignore_thresh", f"thresh={CONFIDENCE}\nignore_thresh"))
    network = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    detections = []
    for path in split.images:
        image = cv2.imread(str(path))
        height, width = image.shape[:2]
        scale = IMG_SIZE / max(width, height)
        wide, high = round(width * scale), round(height * scale)
        left, top = (IMG_SIZE - wide) // 2, (IMG_SIZE - high) // 2
        square = np.full((IMG_SIZE, IMG_SIZE, 3), PAD, np.uint8)
        square[top : top + high, left : left + wide] = cv2.resize(image, (wide, high))
        network.setInput(cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True))
        rows = np.concatenate(network.forward(network.getUnconnectedOutLayersNames()))
        row, label = (rows[:, 5:] > CONFIDENCE).nonzero()
        confidence = rows[row, 5 + label]
        corner = (rows[row, :2] - rows[row, 2:4] / 2) * IMG_SIZE
        boxes = np.concatenate(((corner - (left, top)) / scale, rows[row, 2:4] * IMG_SIZE / scale), 1)
        keep = np.array(cv2.dnn.NMSBoxesBatched(boxes.tolist(), confidence.tolist(), label.tolist(), CONFIDENCE, NMS_IOU), int)
        keep = keep[np.argsort(-confidence[keep])][:300]
        x1, y1, w, h = boxes[keep].T
        corners = np.stack((x1.clip(0, width), y1.clip(0, height), (x1 + w).clip(0, width), (y1 + h).clip(0, height)), 1)
        detections.append(np.concatenate((corners, confidence[keep, None], label[keep, None]), 1).astype(np.float32))
    return detections


def test_official_weights_score_as_an_independent_implementation(real_data: Path, official_weights: Path, tmp_path: Path) -> None:
    """128 COCO images: mAP@0.5 within 0.005 of OpenCV DNN, both through pycocotools; and what `auto` takes costs at most 0.002 of
    either mAP: the bar for being chosen."""
    config = load_data_config("coco128.yaml")
    split = load_split(config, "val")
    images = open_images(split, "shapes-train", IMG_SIZE, "none", tmp_path, 2)
    checkpoint = load_weights(official_weights)

    def detections(name: str, precision: str) -> list[np.ndarray]:
        runtime = make_runtime(checkpoint, name, "cpu", precision)
        with ThreadPoolExecutor(2) as pool:
            return list(detect_split(lambda pixels: torch.from_numpy(runtime(pixels.numpy())), split, images, IMG_SIZE, 8, pool))

    own = detections("torch", "fp32")
    ours = _pycocotools(split, own)[0]
    independent = _pycocotools(split, _opencv_detections(split, official_weights, tmp_path / "thresh.cfg"))[0]
    assert ours > 0.4
    assert abs(ours - independent) <= 0.005, (ours, independent)
    exact, chosen = score(split, iter(own)), score(split, iter(detections("auto", "auto")))
    assert exact.map50 == pytest.approx(ours, abs=1e-4)
    assert chosen.map50 == pytest.approx(exact.map50, abs=0.002)
    assert chosen.map50_95 == pytest.approx(exact.map50_95, abs=0.002)


def test_images_are_rgb(real_data: Path) -> None:
    path = load_split(load_data_config("bccd.yaml"), "train").images[0]
    red, green, blue = read_image(path).mean((0, 1))
    assert red > green and red > blue, "blood smears are reddish"
