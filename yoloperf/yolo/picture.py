"""A detection, and pictures with detections drawn on them; without torch, for clients."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.yolo.images import Pixels

# distinct in hue and in lightness, so that two classes differ in a black-and-white print too
_COLOURS = ((31, 119, 180), (214, 39, 40), (255, 187, 60), (44, 160, 44), (148, 103, 189), (23, 190, 207), (140, 86, 75), (227, 119, 194))


@dataclass(frozen=True)
class Detection:
    """One object: class, score in 0..1, corners in pixels of the original image."""

    label: int
    name: str
    score: float
    x1: float
    y1: float
    x2: float
    y2: float

    def asdict(self) -> dict[str, object]:
        return asdict(self)


def annotate(image: Pixels, detections: Sequence[Detection]) -> Pixels:
    """A copy of the image with boxes, names and scores drawn on it."""
    canvas = image.copy()
    unit = max(1, round(max(image.shape[:2]) / 640))  # line width that stays visible on large pictures
    for detection in sorted(detections, key=lambda found: found.score):
        colour = _COLOURS[detection.label % len(_COLOURS)]
        low, high = (round(detection.x1), round(detection.y1)), (round(detection.x2), round(detection.y2))
        cv2.rectangle(canvas, low, high, colour, unit)
        text = f"{detection.name} {detection.score:.2f}"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * unit, unit)
        top = max(low[1], height + 4)
        cv2.rectangle(canvas, (low[0], top - height - 4), (low[0] + width, top), colour, cv2.FILLED)
        dark = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] < 140
        cv2.putText(
            canvas, text, (low[0], top - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4 * unit, (255,) * 3 if dark else (0,) * 3, unit, cv2.LINE_AA
        )
    return canvas


def save_picture(path: Path, image: Pixels) -> None:
    """Write an RGB image as JPEG. Raises UserError where it is too large for one."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        size = f"{image.shape[1]} x {image.shape[0]} px"
        raise UserError(f"cannot write {path}: {size} are too many for a JPEG: take a smaller picture, or save none")
    write_atomic(path, data.tobytes())
