"""What goes over the wire between a client and the service: the form of a question, the answer as types, errors that say what to do."""

import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import httpx2
import numpy as np

from yoloperf.core.errors import UserError
from yoloperf.datasets.images import decode
from yoloperf.yolo.images import Pixels
from yoloperf.yolo.picture import Detection, annotate, save_picture

# busy or going down: another node, or the same one a little later, may well answer
BUSY = (429, 503)
_GATEWAY = (502, 504)
_ELSEWHERE = (401, 403, 404, 405, 501)  # another token, another model, or not this service: a matter of the node, not of the picture
_NO_SERVICE = "no-service"
_WAIT_S = 0.5  # before a busy node is asked again where it does not say how long


@dataclass(frozen=True)
class ImageResult:
    """What was found in one picture of width x height pixels, best score first; timing: seconds by stage, as the service measured;
    truncated: whether there is more than max_boxes, None where the service does not say."""

    image: str
    width: int
    height: int
    detections: tuple[Detection, ...]
    counts: dict[str, int]
    timing: dict[str, float | None]
    truncated: bool | None = None

    def picture(self, image: str | Path | bytes | Pixels) -> Pixels:
        """The picture, RGB, with the boxes drawn on it. Raises UserError where it cannot be decoded or has another size."""
        pixels = image if isinstance(image, np.ndarray) else _decode(image)
        if pixels.shape[:2] != (self.height, self.width):
            size = f"{pixels.shape[1]} x {pixels.shape[0]}"
            raise UserError(f"the boxes are those of a picture of {self.width} x {self.height} pixels, this one has {size}: give the same")
        return annotate(pixels, self.detections)

    def save_picture(self, image: str | Path | bytes | Pixels, path: str | Path) -> None:
        """Write the picture with its boxes as JPEG. Raises UserError."""
        save_picture(Path(path), self.picture(image))


@dataclass(frozen=True)
class Answer:
    """One answer of a node: a result for each picture, in the order of the question; timing: seconds by stage, and batch_size.

    elapsed_s: from the request's first byte to the answer's last, seen from here.
    """

    node: str
    model: str
    model_digest: str
    runtime: str
    results: tuple[ImageResult, ...]
    timing: dict[str, float | None]
    elapsed_s: float


@dataclass(frozen=True)
class Question:
    """What is asked about every picture. model: None takes the service's default."""

    model: str | None = None
    confidence: float = 0.25
    iou: float = 0.45
    max_boxes: int = 300

    def parts(self, images: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
        """Arguments of a POST with these pictures (name, content) as multipart form. Raises UserError where there are none."""
        if not images:
            raise UserError("no pictures: give at least one")
        form: dict[str, str] = {"conf": str(self.confidence), "iou": str(self.iou), "max_boxes": str(self.max_boxes)}
        if self.model is not None:
            form["model"] = self.model
        return {"data": form, "files": [("image", (name, content, "application/octet-stream")) for name, content in images]}


class ServiceError(UserError):
    """No answer with results. status: that of HTTP, None where no response came; retry: whether another attempt is worth it."""

    def __init__(self, message: str, node: str, status: int | None, code: str, image: str | None = None) -> None:
        super().__init__(message)
        self.node, self.status, self.code, self.image = node, status, code, image

    @property
    def retry(self) -> bool:
        return self.status is None or self.status in BUSY or self.status in _GATEWAY

    @property
    def wrong_node(self) -> bool:
        """Whether this node would answer so to any picture: it is another server, or does not serve what is asked."""
        return self.code == _NO_SERVICE or (self.status is not None and (self.status < 400 or self.status in _ELSEWHERE))

    @classmethod
    def unreachable(cls, node: str, error: httpx2.RequestError) -> Self:
        """From a request without a response, or with one that cannot be read."""
        if isinstance(error, httpx2.DecodingError):
            return cls.no_service(node, None)
        return cls(f"{node} does not answer ({error or type(error).__name__}): is the service running there?", node, None, "unreachable")

    @classmethod
    def no_service(cls, node: str, status: int | None = 200) -> Self:
        return cls(f"{node} answers, but is no yoloperf service: give the address of one", node, status, _NO_SERVICE)

    @classmethod
    def of(cls, response: httpx2.Response, node: str) -> Self:
        """From a response without results: the service's own message, else (a proxy's page, another server) the status."""
        try:
            error = response.json()["error"]
            code, message, image = str(error["code"]), str(error["message"]), error.get("image")
        except (ValueError, KeyError, TypeError):
            code, message, image = "http", f"HTTP {response.status_code} {response.reason_phrase}", None
        return cls(f"{node}: {message}", node, response.status_code, code, image)


def node_url(text: str) -> str:
    """Base URL of a node given as host:port or as a URL. Raises UserError for anything else."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or (port is None and "://" not in text) or parts.query or parts.fragment:
        raise UserError(f"{text!r} is no address of a node: give host:port, as in 127.0.0.1:8080, or http(s)://host[:port][/path]")
    return url.rstrip("/")


def wait_of(response: httpx2.Response) -> float:
    """Seconds that a busy node asks for before the next attempt."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else _WAIT_S


def read_answer(outcome: httpx2.Response | httpx2.RequestError, node: str, images: int) -> Answer:
    """The answer to a question about so many images. Raises ServiceError where it is none."""
    if isinstance(outcome, httpx2.RequestError):
        raise ServiceError.unreachable(node, outcome)
    if outcome.status_code != 200:
        raise ServiceError.of(outcome, node)
    try:
        content = outcome.json()
        results = tuple(_result(item) for item in content["results"])
        answer = Answer(
            node, content["model"], content["model_digest"], content["runtime"], results, content["timing"], outcome.elapsed.total_seconds()
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError.no_service(node) from error
    if len(results) != images:
        raise ServiceError(f"{node} answered {len(results)} results to {images} images", node, 200, _NO_SERVICE)
    return answer


def _result(item: dict[str, Any]) -> ImageResult:
    detections = tuple(Detection(box["class"], box["name"], box["score"], *box["box"]) for box in item["boxes"])
    return ImageResult(item["image"], item["width"], item["height"], detections, item["counts"], item["timing"], item.get("truncated"))


def _decode(image: str | Path | bytes) -> Pixels:
    """RGB pixels of a file or its content, turned as its EXIF says, as the service does."""
    name = "the picture" if isinstance(image, bytes) else str(image)
    try:
        content = image if isinstance(image, bytes) else Path(image).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    pixels = decode(content)
    if pixels is None:
        raise UserError(f"{name} is no readable image")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
