"""Evaluation: detections of a network on a split, scored with the COCO evaluator."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from yoloperf.datasets.labels import Split
from yoloperf.yolo.boxes import decode_heads, suppress
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.images import Images
from yoloperf.yolo.loader import letterboxed_batches, to_network

CONFIDENCE = 0.001  # low, so that the precision-recall curve is whole
NMS_IOU = 0.6
MAX_BOXES = 300  # an image; COCO scores the best 100


@dataclass(frozen=True)
class Scores:
    """map50 and map50_95 as COCO defines them (None without boxes to find); precision and recall at IoU 0.5, mean over
    classes, at the score with the best mean F1."""

    precision: float | None
    recall: float | None
    map50: float | None
    map50_95: float | None

    def asdict(self) -> dict[str, float | None]:
        return asdict(self)


def evaluate(
    network: Darknet, split: Split, images: Images, img_size: int, batch_size: int, compute: Compute, pool: ThreadPoolExecutor
) -> Scores:
    """Score a network in evaluation mode on a split; images are those of the split, their longer side scaled to img_size.

    The network runs in the arithmetic of `compute`; decoding, suppression and scores are fp32 always.
    """

    def predict(pixels: Tensor) -> Tensor:
        with compute.autocast():
            outputs = network(to_network(pixels, compute.device))
        return decode_heads(outputs, network.heads, img_size)

    return score(split, detect_split(predict, split, images, img_size, batch_size, pool))


@torch.inference_mode()
def detect_split(
    predict: Callable[[Tensor], Tensor], split: Split, images: Images, img_size: int, batch_size: int, pool: ThreadPoolExecutor
) -> Iterator[NDArray[np.float32]]:
    """Detections of every image in order: [n, 6] x1, y1, x2, y2 in pixels of the original image, score, class.

    predict: letterboxed uint8 [B, S, S, 3] -> decoded predictions [B, P, 5 + C], on any device.
    """
    batches = letterboxed_batches(images, img_size, batch_size, pool)
    number = 0
    for pixels, placed in tqdm(batches, "validating", -(-len(images) // batch_size), unit="batch", leave=False, disable=None):
        for boxes, place in zip(suppress(predict(pixels), CONFIDENCE, NMS_IOU, MAX_BOXES), placed, strict=True):
            yield place.undo(boxes.cpu().numpy(), *split.sizes[number])
            number += 1


def score(split: Split, detections: Iterator[NDArray[np.float32]]) -> Scores:
    """COCO's figures for detections [n, 6] (as detect_split gives them) of every image of the split in order."""
    truth, classes = coco_truth(split)
    found = [coco_results(image, boxes) for image, boxes in enumerate(detections)]
    results = [result for image in found for result in image]
    if not truth["annotations"]:
        return Scores(None, None, None, None)
    if not results:
        return Scores(0.0, 0.0, 0.0, 0.0)
    reference = COCO(truth)
    loaded = reference.loadRes(results)
    evaluator = COCOeval_faster(reference, loaded, "bbox", print_function=lambda *_: None)
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    precision, recall = _best_f1(results, _correct(reference, loaded), classes)
    return Scores(precision, recall, float(evaluator.stats[1]), float(evaluator.stats[0]))


def _correct(reference: COCO, found: COCO) -> NDArray[np.bool_]:
    """Which detections match a box at IoU 0.5. The evaluator lists the pairs of all its thresholds and area ranges together,
    where one box can have several partners, so it is run once more with one of each."""
    evaluator = COCOeval_faster(reference, found, "bbox", print_function=lambda *_: None, extra_calc=True)
    evaluator.params.iouThrs = np.array([0.5])
    evaluator.params.areaRng, evaluator.params.areaRngLbl = evaluator.params.areaRng[:1], evaluator.params.areaRngLbl[:1]
    evaluator.params.maxDets = [MAX_BOXES]
    evaluator.evaluate()
    evaluator.accumulate()
    matched = {int(pair.split("_")[0]) for pair in evaluator.eval["matched"]}
    return np.array([number + 1 in matched for number in range(len(found.anns))])


def _best_f1(results: list[dict[str, Any]], correct: NDArray[np.bool_], boxes_of_class: dict[int, int]) -> tuple[float, float]:
    """Precision and recall at the score threshold (of 1000 from 0 to 1) where the mean F1 over the classes is best."""
    thresholds = np.linspace(0, 1, 1000)
    scores = np.array([result["score"] for result in results])
    labels = np.array([result["category_id"] for result in results])
    precisions, recalls = [], []
    for label, boxes in boxes_of_class.items():
        own = labels == label
        order = np.argsort(-scores[own])
        above = np.searchsorted(-scores[own][order], -thresholds, side="right")
        hits = np.concatenate(([0], np.cumsum(correct[own][order])))[above]
        precisions.append(hits / np.maximum(above, 1))
        recalls.append(hits / boxes)
    precision, recall = np.array(precisions), np.array(recalls)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = f1.mean(0).argmax()
    return float(precision[:, best].mean()), float(recall[:, best].mean())


def coco_truth(split: Split) -> tuple[dict[str, Any], dict[int, int]]:
    """The split as a COCO data set, and the number of boxes of every class that occurs."""
    annotations: list[dict[str, Any]] = []
    counts: dict[int, int] = {}
    for image, (boxes, (width, height)) in enumerate(zip(split.boxes, split.sizes, strict=True)):
        for label, cx, cy, w, h in boxes.astype(np.float64) * (1, width, height, width, height):
            box = {"id": len(annotations) + 1, "image_id": image, "category_id": int(label), "iscrowd": 0}
            annotations.append({**box, "bbox": [cx - w / 2, cy - h / 2, w, h], "area": w * h})
            counts[int(label)] = counts.get(int(label), 0) + 1
    images = [{"id": image, "width": int(width), "height": int(height)} for image, (width, height) in enumerate(split.sizes)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in sorted(counts)],
    }, counts


def coco_results(image: int, boxes: NDArray[np.float32]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": int(label), "bbox": [x1, y1, x2 - x1, y2 - y1], "score": confidence}
        for x1, y1, x2, y2, confidence, label in boxes.astype(np.float64).tolist()
    ]
