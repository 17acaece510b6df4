"""Spreads requests over nodes: each kept busy with a bounded number in flight, what fails tried elsewhere, who recovers used again."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from yoloperf.core.errors import UserError
from yoloperf.service.protocol import BUSY, Answer, Question, ServiceError, read_answer, wait_of

_FIRST_REST_S, _LONGEST_REST_S = 0.2, 5.0  # between two looks at a node that failed
_PROBE_TIMEOUT_S = 5.0
_MOST_ATTEMPTS = 5  # that failed on the way or in the node; busy nodes and nodes that are down do not count


@dataclass(frozen=True)
class Sent:
    """An image as it was when it was read, whatever has become of the file since."""

    path: Path
    content: bytes
    status: os.stat_result

    @classmethod
    def read(cls, path: Path) -> "Sent":
        with path.open("rb") as file:
            return cls(path, file.read(), os.fstat(file.fileno()))


Record = Callable[[Sent, Answer, int], Awaitable[None]]  # takes an image, the answer, and the image's place in it


@dataclass
class Node:
    """One service, what it has done so far, and how it is. seconds: of each answered request, seen from here.

    up: whether it says that it is ready; suspect: it said so, and then answered as no service of ours does, or as one without the model;
    busy: it said so, and then that it takes no request now.
    """

    url: str
    up: bool = False
    suspect: bool = False
    busy: bool = False
    fault: str | None = None
    rest_s: float = 0.0
    images: int = 0
    retried: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        return self.up and not self.suspect and not self.busy

    def report(self, wall_s: float) -> dict[str, Any]:
        p50, p95 = np.percentile(self.seconds, (50, 95)).tolist() if self.seconds else (None, None)
        return {
            "node": self.url,
            "up": (self.up or self.busy) and not self.suspect,
            "busy": self.busy,
            "fault": None if self.usable else self.fault,
            "images": self.images,
            "images_per_s": self.images / wall_s,
            "requests": len(self.seconds),
            "retried": self.retried,
            "request_p50_s": p50,
            "request_p95_s": p95,
        }


@dataclass(frozen=True)
class _Job:
    images: tuple[Path, ...]
    attempts: int = 0


class Dispatch:
    """Asks one question about many images. `failed` fills with image -> why the service did not take it."""

    def __init__(self, urls: Sequence[str], question: Question, headers: dict[str, str], timeout_s: float, in_flight: int) -> None:
        """timeout_s: of a request; in_flight: requests at most that a node has at a time."""
        self.nodes = [Node(url) for url in urls]
        self.failed: dict[Path, str] = {}
        self._question, self._in_flight = question, in_flight
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx2.AsyncClient(timeout=httpx2.Timeout(timeout_s, connect=_PROBE_TIMEOUT_S), headers=headers, limits=limits)
        self._digest: str | None = None
        self._queue: deque[_Job] = deque()
        self._left = 0
        self._last_usable = 0.0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "Dispatch":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def agree(self) -> tuple[str, str]:
        """Name and digest of the model that all nodes serve. Raises UserError where none is ready, or they serve different weights."""
        found = await asyncio.gather(*(self._model(node) for node in self.nodes))
        models = {node.url: model for node, model in zip(self.nodes, found, strict=True) if model}
        if not models:
            raise UserError(f"no node is ready: {'; '.join(str(node.fault) for node in self.nodes)}")
        if len({digest for _, digest in models.values()}) > 1:
            each = ", ".join(f"{url} {name} {digest}" for url, (name, digest) in models.items())
            raise UserError(f"the nodes serve different weights ({each}): send to those of one kind, or choose with --model")
        for node in self.nodes:
            node.up, node.rest_s = node.url in models, _FIRST_REST_S
        name, self._digest = next(iter(models.values()))
        return name, self._digest

    async def run(self, images: Sequence[Path], batch: int, patience_s: float, record: Record) -> None:
        """Ask about all images, `batch` a request, after `agree`; ends early when no node was up and took requests for `patience_s`."""
        self._queue.extend(_Job(tuple(images[start : start + batch])) for start in range(0, len(images), batch))
        self._left = len(images)
        alone: asyncio.Future[None] = asyncio.ensure_future(self._alone(patience_s))
        workers = asyncio.gather(*(self._work(node, record) for node in self.nodes for _ in range(self._in_flight)))
        watchers = asyncio.gather(*(self._watch(node) for node in self.nodes))
        together: list[asyncio.Future[Any]] = [workers, watchers, alone]
        try:
            await asyncio.wait(together, return_when=asyncio.FIRST_COMPLETED)
            for future in together:
                if future.done():
                    future.result()
        finally:
            for future in together:
                future.cancel()
            await asyncio.gather(*together, return_exceptions=True)

    async def _alone(self, patience_s: float) -> None:
        """Ends when no node has been usable for so long."""
        self._last_usable = time.monotonic()
        while time.monotonic() - self._last_usable < patience_s:
            await asyncio.sleep(min(0.2, patience_s))
            if any(node.usable for node in self.nodes):
                self._last_usable = time.monotonic()

    async def _work(self, node: Node, record: Record) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._left or (node.up and self._queue))
                if not self._left:
                    return
                job = self._queue.popleft()
            images = await self._read(job)
            answer = await self._ask(node, job, images) if images else None
            if answer is not None:
                for place, image in enumerate(images):
                    await record(image, answer, place)
                node.suspect = node.busy = False
                self._last_usable = time.monotonic()
                node.images += len(job.images)
                node.seconds.append(answer.elapsed_s)
                await self._finish(len(job.images))

    async def _finish(self, images: int) -> None:
        async with self._changed:
            self._left -= images
            self._changed.notify_all()

    async def _read(self, job: _Job) -> list[Sent]:
        """The images, or none where one cannot be read and the job is back in the queue or in `failed`."""
        try:
            return await asyncio.to_thread(lambda: [Sent.read(path) for path in job.images])
        except OSError as error:
            await self._again(job, _MOST_ATTEMPTS, error)
            return []

    async def _ask(self, node: Node, job: _Job, images: list[Sent]) -> Answer | None:
        """The answer, or None where there is none and the job is back in the queue or in `failed`."""
        outcome: httpx2.Response | httpx2.RequestError
        parts = self._question.parts([(image.path.name, image.content) for image in images])
        try:
            outcome = await self._http.post(f"{node.url}/api/detect", **parts)
        except httpx2.RequestError as error:
            outcome = error
        try:
            answer = read_answer(outcome, node.url, len(job.images))
        except ServiceError as error:
            node.retried += error.retry or error.wrong_node
            if isinstance(outcome, httpx2.Response) and outcome.status_code in BUSY:
                await self._rest(node, str(error), min(wait_of(outcome), _LONGEST_REST_S), busy=True)
                await self._again(job, 0)
            elif error.wrong_node:
                node.suspect = True
                self._queue.append(job)  # last, so that what refuses this one (a proxy, for its content) is not asked for nothing else
                await self._rest(node, str(error), _FIRST_REST_S)
            elif isinstance(outcome, httpx2.RequestError):
                await self._rest(node, str(error), _FIRST_REST_S)
                await self._again(job, not isinstance(outcome, httpx2.ConnectError), error)
            else:
                await self._again(job, 1 if error.status is not None and error.status >= 500 else _MOST_ATTEMPTS, error)
            return None
        if answer.model_digest != self._digest:
            await self._rest(node, f"{node.url} serves other weights now ({answer.model_digest})", _LONGEST_REST_S)
            await self._again(job, 0)
            return None
        return answer

    async def _again(self, job: _Job, attempts: int, error: Exception | None = None) -> None:
        """Back into the queue, first of all; a batch that the service will not take is divided, so that one image does not keep others."""
        async with self._changed:
            job = _Job(job.images, job.attempts + attempts)
            if job.attempts < _MOST_ATTEMPTS:
                self._queue.appendleft(job)
            elif len(job.images) > 1:
                self._queue.extendleft(_Job((image,)) for image in reversed(job.images))
            else:
                self.failed[job.images[0]] = str(error)
                self._left -= 1
            self._changed.notify_all()

    async def _rest(self, node: Node, fault: str, rest_s: float, busy: bool = False) -> None:
        async with self._changed:
            node.up, node.busy, node.fault, node.rest_s = False, busy, fault, rest_s
            self._changed.notify_all()

    async def _watch(self, node: Node) -> None:
        """Look at the node whenever it is down, until it is ready again."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: not node.up)
            await asyncio.sleep(node.rest_s)
            model = await self._model(node)
            if model and model[1] != self._digest:
                node.fault = f"{node.url} serves other weights ({model[1]})"
            async with self._changed:
                node.up = model is not None and model[1] == self._digest
                node.busy &= node.up
                node.rest_s = _FIRST_REST_S if node.up else min(2 * node.rest_s, _LONGEST_REST_S)
                self._changed.notify_all()

    async def _model(self, node: Node) -> tuple[str, str] | None:
        """Name and digest of the model that a node would answer with; None, and its `fault` said, where it is not ready."""
        try:
            ready = await self._http.get(f"{node.url}/readyz", timeout=_PROBE_TIMEOUT_S)
            if ready.status_code != 200:
                raise ServiceError.of(ready, node.url)
            response = await self._http.get(f"{node.url}/api/models", timeout=_PROBE_TIMEOUT_S)
            if response.status_code != 200:
                raise ServiceError.of(response, node.url)
            found = [model for model in response.json()["models"] if model.get("kind", "detection") == "detection"]
            models = [(str(model["name"]), str(model["digest"]), model["default"]) for model in found]
        except httpx2.RequestError as error:
            node.fault = str(ServiceError.unreachable(node.url, error))
            return None
        except ServiceError as error:
            node.fault = str(error)
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            node.fault = str(ServiceError.no_service(node.url))
            return None
        wanted = self._question.model
        for name, digest, default in models:
            if name == wanted or (wanted is None and default):
                return name, digest
        names = ", ".join(name for name, _, _ in models)
        node.fault = f"{node.url} has no model {wanted!r}, only {names}" if models else f"{node.url} serves no detector"
        return None
