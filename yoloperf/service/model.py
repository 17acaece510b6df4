"""ServedModel: trained weights behind the steps from an image file's bytes to boxes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloperf.datasets import images
from yoloperf.service.limits import Limits, check_image, not_an_image
from yoloperf.service.schemas import MOST_BOXES
from yoloperf.workloads.kinds import DETECTION
from yoloperf.yolo.images import Letterbox, Pixels, letterbox
from yoloperf.yolo.inference import boxes_of
from yoloperf.yolo.runtimes import Runtime, make_runtime
from yoloperf.yolo.weights import find_weights, load_weights

Boxes = NDArray[np.float32]  # [n, 6]: x1, y1, x2, y2 in pixels of the image, score, class; best score first


@dataclass(frozen=True)
class Options:
    """What a request may choose: lowest score; overlap above which the lesser box of a class goes (1: none goes); most boxes;
    whether they are cut at the image's edges; whether a box stands for every class above conf, or for its best one."""

    conf: float = 0.25
    iou: float = 0.45
    max_boxes: int = 300
    clip: bool = True
    multi_label: bool = False


def decode(data: bytes, limits: Limits, name: str) -> Pixels:
    """RGB image, turned as its EXIF says. Raises Refused for what is no image or is too large."""
    check_image(data, limits, name)
    image = images.decode(data)
    if image is None:
        raise not_an_image(name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


@dataclass(frozen=True)
class Seen:
    """An image's size and boxes; truncated: whether it has more than were asked for."""

    width: int
    height: int
    boxes: Boxes
    truncated: bool


Placed = tuple[Letterbox, int, int]  # how an image lies in the network's input; its width and height


class ServedModel:
    """A detector; a Served."""

    kind = DETECTION

    def __init__(self, name: str, names: list[str], digest: str, runtime: Runtime) -> None:
        self.name, self.names, self.digest, self.runtime = name, names, digest, runtime

    @classmethod
    def load(
        cls,
        name: str,
        weights: str,
        runtime: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        streams: int = 1,
    ) -> "ServedModel":
        """weights: a path or a known name. Raises UserError where they, the runtime, device or precision cannot be had."""
        checkpoint = load_weights(find_weights(weights))
        made = make_runtime(checkpoint, runtime, device, precision, threads, streams=streams)
        return cls(name, checkpoint.class_names(), checkpoint.digest(), made)

    @property
    def img_size(self) -> int:
        return self.runtime.img_size

    @property
    def streams(self) -> int:
        return self.runtime.streams

    def warm_up(self, batch: int) -> None:
        """Run the smallest and the largest batch: runtimes choose their kernels and take their memory at the first."""
        for size in (1, batch):
            self.runtime(np.zeros((size, self.img_size, self.img_size, 3), np.uint8))

    def decode(self, data: bytes, limits: Limits, name: str) -> Pixels:
        return decode(data, limits, name)

    def prepare(self, decoded: Pixels) -> tuple[Pixels, Placed]:
        """Network input [S, S, 3] and how the image lies in it."""
        pixels, placed = letterbox(decoded, self.img_size)
        return pixels, (placed, decoded.shape[1], decoded.shape[0])

    def infer(self, inputs: list[Pixels]) -> NDArray[np.float32]:
        """Inputs of a batch -> predictions [B, P, 5 + C]."""
        return self.runtime(np.stack(inputs))

    def finish(self, raw: NDArray[np.float32], placed: Placed, options: Options) -> Seen:
        """Predictions [P, 5 + C] of one image -> its boxes."""
        letterboxed, width, height = placed
        most = options.max_boxes
        boxes = boxes_of(raw, letterboxed, width, height, options.conf, options.iou, most + 1, options.clip, options.multi_label)
        return Seen(width, height, boxes[:most], len(boxes) > min(most, MOST_BOXES - 1))  # suppression itself looks at no more
