"""DetectionClient: a detection service from Python, one picture, a batch, or many at once; without torch.

with DetectionClient("127.0.0.1:8080") as client:
    found = client.detect("smear.jpg")
    found.save_picture("smear.jpg", "smear_detected.jpg")
"""

import asyncio
import itertools
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import httpx2

from yoloperf.core.errors import UserError
from yoloperf.service.protocol import Answer, ImageResult, Question, ServiceError, node_url, read_answer, wait_of
from yoloperf.yolo.images import Pixels

Image = str | Path | bytes | Pixels  # a file's path, its content, or RGB pixels uint8 [height, width, 3]

_AVOID_S = 5.0  # for how long a node that failed is asked last
_LONGEST_WAIT_S = 5.0  # what a busy node may ask for before the second attempt

# an attempt goes out as (node, seconds to wait before it) and comes back as a response or as what went wrong on the way
_Exchange = Generator[tuple[str, float], httpx2.Response | httpx2.RequestError, Answer]


class DetectionClient:
    """Asks one of several equal nodes, in turn; a request that fails on the way or meets a busy node is tried once more, elsewhere.

    That is safe because detection changes nothing on the server. Threads may share a client; the `_async` methods belong to one
    event loop.
    """

    def __init__(
        self,
        nodes: str | Sequence[str],
        *,
        model: str | None = None,
        confidence: float = 0.25,
        iou: float = 0.45,
        max_boxes: int = 300,
        token: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """nodes: host:port or http(s)://..., one or several. model: None takes the service's default.

        timeout_s: of each step on the way (connecting, sending, waiting for the answer). Raises UserError for what is no address.
        """
        self.nodes = tuple(node_url(node) for node in ([nodes] if isinstance(nodes, str) else nodes))
        if not self.nodes:
            raise UserError("no nodes: give at least one host:port")
        self.question = Question(model, confidence, iou, max_boxes)
        self._timeout = httpx2.Timeout(timeout_s, pool=None)  # waiting for a free connection of our own is no failure of a node
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(timeout=self._timeout, headers=self._headers)
        self._async_client: httpx2.AsyncClient | None = None
        self._turn = itertools.count()
        self._failed_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()
        if self._async_client:
            await self._async_client.aclose()

    def close(self) -> None:
        self._client.close()

    def detect(self, image: Image) -> ImageResult:
        """Objects of one picture. Raises ServiceError where the service refuses it or cannot be reached."""
        return self.detect_batch([image]).results[0]

    def detect_batch(self, images: Sequence[Image]) -> Answer:
        """Objects of several pictures in one request, results in their order. Raises ServiceError: one bad picture refuses all."""
        parts = self.question.parts([_part(image, number) for number, image in enumerate(images)])
        exchange = self._exchange(len(images))
        node, wait_s = next(exchange)
        while True:
            time.sleep(wait_s)
            outcome: httpx2.Response | httpx2.RequestError
            try:
                outcome = self._client.post(f"{node}/api/detect", **parts)
            except httpx2.RequestError as error:
                outcome = error
            try:
                node, wait_s = exchange.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]

    async def detect_async(self, image: Image) -> ImageResult:
        """As `detect`, without blocking the event loop."""
        return (await self.detect_batch_async([image])).results[0]

    async def detect_batch_async(self, images: Sequence[Image]) -> Answer:
        """As `detect_batch`, without blocking the event loop."""
        if self._async_client is None:
            self._async_client = httpx2.AsyncClient(timeout=self._timeout, headers=self._headers)
        loaded = await asyncio.to_thread(lambda: [_part(image, number) for number, image in enumerate(images)])
        parts = self.question.parts(loaded)
        exchange = self._exchange(len(images))
        node, wait_s = next(exchange)
        while True:
            await asyncio.sleep(wait_s)
            outcome: httpx2.Response | httpx2.RequestError
            try:
                outcome = await self._async_client.post(f"{node}/api/detect", **parts)
            except httpx2.RequestError as error:
                outcome = error
            try:
                node, wait_s = exchange.send(outcome)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]

    def models(self) -> list[dict[str, object]]:
        """The models that the first node serves, as /api/models tells them. Raises ServiceError."""
        try:
            response = self._client.get(f"{self.nodes[0]}/api/models")
        except httpx2.RequestError as error:
            raise ServiceError.unreachable(self.nodes[0], error) from error
        if response.status_code != 200:
            raise ServiceError.of(response, self.nodes[0])
        try:
            return list(response.json()["models"])
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError.no_service(self.nodes[0]) from error

    def _exchange(self, images: int) -> _Exchange:
        """Both attempts of a request, without the sending: the same for threads and for an event loop."""
        turn = next(self._turn)
        nodes = [self.nodes[(turn + place) % len(self.nodes)] for place in range(len(self.nodes))]
        nodes.sort(key=lambda node: time.monotonic() - self._failed_at.get(node, float("-inf")) < _AVOID_S)
        first, second = nodes[0], nodes[1 % len(nodes)]
        outcome = yield first, 0.0
        try:
            return read_answer(outcome, first, images)
        except ServiceError as error:
            if not error.retry:
                raise
            self._failed_at[first] = time.monotonic()
            wait_s = 0.0 if second != first or isinstance(outcome, httpx2.RequestError) else min(wait_of(outcome), _LONGEST_WAIT_S)
        outcome = yield second, wait_s
        try:
            return read_answer(outcome, second, images)
        except ServiceError as error:
            if error.retry:
                self._failed_at[second] = time.monotonic()
            raise


def _part(image: Image, number: int) -> tuple[str, bytes]:
    """Name and content of one picture of a request; pixels are sent as PNG, which changes none. Raises UserError."""
    if isinstance(image, bytes):
        return f"image{number}", image
    if isinstance(image, str | Path):
        try:
            return Path(image).name, Path(image).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {image}: {error.strerror}") from error
    _, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return f"image{number}.png", content.tobytes()
