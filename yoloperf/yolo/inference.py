"""Detector: weights -> boxes of pictures, for detect.py and everything that serves detections."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from yoloperf.core.spec import check_img_size
from yoloperf.datasets.config import class_names
from yoloperf.yolo.boxes import decode_heads, suppress
from yoloperf.yolo.device import Compute
from yoloperf.yolo.images import Pixels, letterbox
from yoloperf.yolo.loader import to_network
from yoloperf.yolo.picture import Detection
from yoloperf.yolo.weights import find_weights, load_weights


@dataclass(frozen=True)
class StageTimes:
    """Seconds of a batch in the stages between decoded pictures and boxes."""

    preprocess_s: float
    inference_s: float
    postprocess_s: float


class Detector:
    """A network ready to find objects: batch norms folded in, in the memory order and precision that are fastest."""

    def __init__(self, weights: str, compute: Compute, cfg: str = "", img_size: int | None = None, names: list[str] | None = None) -> None:
        """weights, cfg: path or name. Raises UserError where they cannot be read.

        names: class names; where the weights do not carry them either, COCO's for 80 classes, else "class 0", ...
        """
        checkpoint = load_weights(find_weights(weights), cfg)
        self.compute = compute
        self.img_size = img_size or checkpoint.img_size or 416
        check_img_size(self.img_size)
        self.network = checkpoint.build().fuse().to(compute.device).to(memory_format=torch.channels_last)
        self.names = names or checkpoint.names or _default_names(self.network.classes)

    @torch.inference_mode()
    def detect(self, images: Sequence[Pixels], confidence: float = 0.25, iou: float = 0.45) -> tuple[list[list[Detection]], StageTimes]:
        """Objects of RGB uint8 images [height, width, 3], best score first, and where the time went."""
        start = time.perf_counter()
        squares, places = zip(*(letterbox(image, self.img_size) for image in images), strict=True)
        batch = to_network(torch.stack([torch.from_numpy(square) for square in squares]), self.compute.device)
        self.compute.synchronise()
        ready = time.perf_counter()
        with self.compute.autocast():
            outputs = self.network(batch)
        self.compute.synchronise()
        inferred = time.perf_counter()
        decoded = decode_heads(outputs, self.network.heads, self.img_size)
        found = []
        for boxes, place, image in zip(suppress(decoded, confidence, iou, multi_label=False), places, images, strict=True):
            height, width = image.shape[:2]
            rows = place.undo(boxes.cpu().numpy(), width, height).tolist()
            found.append([Detection(int(label), self.names[int(label)], score, *corners) for *corners, score, label in rows])
        return found, StageTimes(ready - start, inferred - ready, time.perf_counter() - inferred)


def _default_names(classes: int) -> list[str]:
    """Darknet's .weights carry no names; its published ones have COCO's 80 classes."""
    if classes == 80:
        return list(class_names("coco"))
    return [f"class {number}" for number in range(classes)]
