"""How well a service's answers agree with the labels, by the COCO evaluator, and how much of that is the draw of the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faster_coco_eval.faster_eval_api_cpp as coco_cpp
import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from yoloperf.datasets.labels import Split
from yoloperf.offload.pictures import Picture
from yoloperf.yolo.evaluate import CONFIDENCE, MAX_BOXES, NMS_IOU, coco_results, coco_truth, score

# form fields that make the service answer as `yoloperf evaluate` does
FIELDS = {"conf": str(CONFIDENCE), "iou": str(NMS_IOU), "max_boxes": str(MAX_BOXES), "multi_label": "1"}
_COUNTED = 100  # boxes of a class in an image, the best first: COCO's largest maxDets

Found = NDArray[np.float32]  # [n, 6]: x1, y1, x2, y2 in pixels of the original picture, score, class


@dataclass(frozen=True)
class Accuracy:
    """map50, map50_95: as COCO defines them; class_ap50: number of a class -> its AP at IoU 0.5.

    resampled50, resampled50_95: the same two of so many bootstrap samples of the pictures (as many as there are, drawn with
    replacement). The same seed draws the same pictures, so that differences between two measurements of them are paired.
    """

    map50: float
    map50_95: float
    class_ap50: dict[int, float]
    resampled50: list[float]
    resampled50_95: list[float]


def boxes_of(result: dict[str, Any], picture: Picture) -> Found:
    """One of an answer's results, for whatever size the picture was sent in."""
    rows = [[*box["box_normalised"], box["score"], box["class"]] for box in result["boxes"]]
    wide, high = picture.width, picture.height
    return (np.array(rows, np.float64).reshape(-1, 6) * (wide, high, wide, high, 1, 1)).astype(np.float32)


def measure_accuracy(pictures: Sequence[Picture], found: Sequence[Found], resamples: int, seed: int) -> Accuracy | None:
    """found: boxes of each picture, in their order. None where the pictures have no labels."""
    split = Split(
        [Path(picture.name) for picture in pictures],
        np.array([(picture.width, picture.height) for picture in pictures], np.int32),
        [picture.boxes for picture in pictures],
        [],
        "",
    )
    scores = score(split, iter(found))
    if scores.map50 is None or scores.map50_95 is None:
        return None
    truth, boxes_of_class = coco_truth(split)
    results = [row for image, boxes in enumerate(found) for row in coco_results(image, boxes)]
    if not results:
        return Accuracy(0.0, 0.0, dict.fromkeys(boxes_of_class, 0.0), [0.0] * resamples, [0.0] * resamples)
    precisions = _Precisions(truth, results)
    every = precisions.of(np.arange(len(pictures)))
    classes = {label: _mean(every[0, :, place]) for place, label in enumerate(precisions.labels)}
    draw = np.random.default_rng(seed)
    drawn = [precisions.of(draw.integers(0, len(pictures), len(pictures))) for _ in range(resamples)]
    return Accuracy(scores.map50, scores.map50_95, classes, [_mean(one[0]) for one in drawn], [_mean(one) for one in drawn])


class _Precisions:
    """Precision of a sample of the images, which may hold one of them several times. An image is matched with its labels once:
    what the evaluator keeps of that is put together anew for every sample, which is what it does itself, only sooner."""

    def __init__(self, truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
        reference = COCO(truth)
        evaluator = COCOeval_faster(reference, reference.loadRes(results), "bbox", print_function=lambda *_: None, separate_eval=True)
        parameters = evaluator.params
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
        parameters.maxDets = [_COUNTED]
        evaluator.evaluate()
        self.labels: list[int] = [int(label) for label in evaluator.params.catIds]
        self._parameters, self._matched = evaluator._paramsEval, evaluator._evalImgs_cpp
        self._images = len(evaluator.params.imgIds)

    def of(self, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Precision [10 thresholds of IoU, 101 recalls, classes]; -1 for a class without labels in these images."""
        own = [self._matched[self._images * label + image] for label in range(len(self.labels)) for image in images]
        return np.asarray(coco_cpp.COCOevalAccumulate(self._parameters, own)["precision"])[..., 0, 0]


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0
