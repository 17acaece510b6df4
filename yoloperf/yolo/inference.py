"""Detector: image files -> boxes, for detect.py and whoever wants detections in his own process."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.yolo.boxes import suppress
from yoloperf.yolo.images import Letterbox, Pixels, letterbox, read_image
from yoloperf.yolo.picture import Detection
from yoloperf.yolo.runtimes import Runtime, make_runtime
from yoloperf.yolo.weights import find_weights, load_weights

_BATCH = 8
_AHEAD = 2  # batches: one is decoded, one computed, while the caller has the third


@dataclass(frozen=True)
class Seen:
    """What was found in a file, best score first; image: as decoded, turned as its EXIF says, None where it is no readable one."""

    path: Path
    image: Pixels | None
    detections: list[Detection]


_Placed = tuple[Pixels, Pixels, Letterbox]  # image, network input made of it, and how it lies there
_Predicted = tuple[Path, _Placed | None, NDArray[np.float32]]


class Detector:
    """A trained network in a runtime, with the names of its classes."""

    def __init__(self, runtime: Runtime, names: Sequence[str]) -> None:
        self.runtime, self.names = runtime, names

    @classmethod
    def load(
        cls,
        weights: str,
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        cfg: str = "",
        img_size: int | None = None,
    ) -> "Detector":
        """weights, cfg: path or name. Raises UserError where they cannot be read, or as `make_runtime` does."""
        checkpoint = load_weights(find_weights(weights), cfg)
        return cls(make_runtime(checkpoint, runtime, device, precision, threads, img_size), checkpoint.class_names())

    def detect(self, paths: Sequence[Path], confidence: float = 0.25, iou: float = 0.45, batch: int = _BATCH) -> Iterator[Seen]:
        """Objects of image files, in their order. Files are decoded by threads, and batches computed, ahead of the caller."""
        jobs: deque[Future[list[_Predicted]]] = deque()
        with ThreadPoolExecutor(available_cores()) as readers, ThreadPoolExecutor(1) as computing:
            for start in range(0, len(paths), batch):
                loading = [(path, readers.submit(self._read, path)) for path in paths[start : start + batch]]
                jobs.append(computing.submit(self._predict, loading))
                if len(jobs) > _AHEAD:
                    yield from (self._seen(*each, confidence, iou) for each in jobs.popleft().result())
            for job in jobs:
                yield from (self._seen(*each, confidence, iou) for each in job.result())

    def _read(self, path: Path) -> _Placed | None:
        try:
            image = read_image(path)
        except UserError:
            return None
        return image, *letterbox(image, self.runtime.img_size)

    def _predict(self, loading: list[tuple[Path, Future[_Placed | None]]]) -> list[_Predicted]:
        loaded = [(path, future.result()) for path, future in loading]
        squares = [placed[1] for _, placed in loaded if placed]
        predictions = iter(self.runtime(np.stack(squares)) if squares else ())
        return [(path, placed, next(predictions) if placed else np.empty(0, np.float32)) for path, placed in loaded]

    def _seen(self, path: Path, placed: _Placed | None, predictions: NDArray[np.float32], confidence: float, iou: float) -> Seen:
        if placed is None:
            return Seen(path, None, [])
        image, _, where = placed
        height, width = image.shape[:2]
        rows = boxes_of(predictions, where, width, height, confidence, iou).tolist()
        return Seen(path, image, [Detection(int(label), self.names[int(label)], score, *corners) for *corners, score, label in rows])


@torch.inference_mode()
def boxes_of(
    predictions: NDArray[np.float32],
    placed: Letterbox,
    width: int,
    height: int,
    confidence: float,
    iou: float,
    max_boxes: int = 300,
    clip: bool = True,
    multi_label: bool = False,
) -> NDArray[np.float32]:
    """A runtime's predictions [P, 5 + C] for one image of that size -> its boxes [n, 6]: x1, y1, x2, y2 in pixels of the image,
    score, class; best score first. An iou of 1 suppresses nothing. clip: cut them at the image's edges;
    multi_label: as `suppress` says."""
    (found,) = suppress(torch.from_numpy(predictions)[None], confidence, iou, max_boxes, multi_label)
    return placed.undo(found.numpy(), width, height, clip)
