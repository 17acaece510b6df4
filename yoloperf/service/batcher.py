"""Dynamic batching: files of all requests (images, or sounds) meet between decoding and inference.

    submit -> a thread of the pool decodes -> ready -> a thread of the device infers what has arrived -> one thread makes results

The device has as many threads as batches can be inferred side by side, and serves the models in the order in which their images became
ready. Where that is one, a batch that is not full waits, for at most `max_wait_s`, only while further images are being decoded: an image
that comes alone does not wait at all. Where it is more, there are no batches: a core gains nothing by them, and their first image would
wait for their last.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloperf.service.limits import Limits
from yoloperf.service.refusal import Refused
from yoloperf.service.served import Served

_LONGEST_RETRY_S = 30


@dataclass
class StageTimes:
    """Seconds of one image in each stage; queue_s is what it waited between them."""

    queue_s: float = 0.0
    decode_s: float = 0.0
    preprocess_s: float = 0.0
    inference_s: float = 0.0
    postprocess_s: float = 0.0


@dataclass(frozen=True)
class Found:
    """What the model's `finish` gave, the times it took, the size of the batch that it was in, and when it was done (perf_counter)."""

    result: Any
    times: StageTimes
    batch_size: int
    done_at: float


@dataclass
class Workers:
    """The threads of a service, shared by its models."""

    decoders: int
    streams: int = 1
    pool: ThreadPoolExecutor = field(init=False)
    device: ThreadPoolExecutor = field(init=False)
    finisher: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.pool = ThreadPoolExecutor(self.decoders, "decode")
        self.device = ThreadPoolExecutor(self.streams, "device")
        self.finisher = ThreadPoolExecutor(1, "finish")

    def close(self) -> None:
        """Return when everything that was submitted is done."""
        for executor in (self.pool, self.device, self.finisher):
            executor.shutdown()


@dataclass
class _Image:
    name: str
    data: bytes
    options: Any
    arrived_at: float
    future: "Future[Found]" = field(default_factory=Future)
    times: StageTimes = field(default_factory=StageTimes)
    since: float = 0.0  # end of the latest stage
    prepared: Any = None  # the network's input
    placed: Any = None  # what `finish` must know


class Batcher:
    """One model with the images that wait for it."""

    def __init__(
        self,
        model: Served,
        workers: Workers,
        limits: Limits,
        max_batch: int = 16,
        max_wait_s: float = 0.005,
        queue: int = 64,
        observe: Callable[[str, Found], None] = lambda model, found: None,
    ) -> None:
        """queue: images that may wait for inference; observe: called with the model's name and every image that is done."""
        self.model, self.workers, self.limits = model, workers, limits
        self.max_batch, self.max_wait_s, self.queue, self.observe = max_batch, max_wait_s, queue, observe
        self._ready: deque[_Image] = deque()
        self._changed = threading.Condition()
        self._decoding = 0  # images that were admitted and are not ready
        self._turns = 0  # of threads of the device, due or under way
        self._image_s = 0.0  # running mean of the device's time for one image

    @property
    def waiting(self) -> int:
        """Images that were admitted and that inference has not begun for."""
        return self._decoding + len(self._ready)

    def check_room(self, images: int = 1) -> None:
        """Raises Refused (429) where that many more images would overfill the queue; an empty queue takes any number."""
        waiting = self.waiting
        if waiting and waiting + images > self.queue:
            wait_s = min(_LONGEST_RETRY_S, 1 + int(waiting * self._image_s))
            raise Refused(429, "busy", f"{waiting} images are waiting already: try again in {wait_s} s", retry_after_s=wait_s)

    def submit(self, images: list[tuple[str, bytes]], options: Any) -> list["Future[Found]"]:
        """A future for each (name, file content). One that is cancelled before its inference is not computed.

        Raises Refused (429) where the queue is full; futures raise it for what is no image.
        """
        with self._changed:
            self.check_room(len(images))
            self._decoding += len(images)
        now = time.perf_counter()
        admitted = [_Image(name, data, options, now) for name, data in images]
        for image in admitted:
            self.workers.pool.submit(self._decode, image)
        return [image.future for image in admitted]

    def _decode(self, image: _Image) -> None:
        ready = False
        try:
            if not image.future.cancelled():
                self._prepare(image)
                ready = True
        except Exception as error:  # handed to whoever waits for the image
            _fail(image, error)
        with self._changed:
            self._decoding -= 1
            if ready:
                self._ready.append(image)
                self._ask()
            self._changed.notify()

    def _prepare(self, image: _Image) -> None:
        start = time.perf_counter()
        content = self.model.decode(image.data, self.limits, image.name)
        image.data = b""
        decoded = time.perf_counter()
        image.prepared, image.placed = self.model.prepare(content)
        image.since = time.perf_counter()
        image.times.queue_s = start - image.arrived_at
        image.times.decode_s, image.times.preprocess_s = decoded - start, image.since - decoded

    def _ask(self) -> None:
        """Take a place in the device's line; holds the lock."""
        if self._turns < self.model.streams:
            self._turns += 1
            self.workers.device.submit(self._turn)

    def _turn(self) -> None:
        try:
            self._infer(self._take())
        finally:
            with self._changed:
                self._turns -= 1
                if self._ready:
                    self._ask()

    def _infer(self, batch: list[_Image]) -> None:
        if batch:
            start = time.perf_counter()
            try:
                raw = self.model.infer([image.prepared for image in batch])
            except Exception as error:  # handed to whoever waits for these images; the next batch may do better
                for image in batch:
                    image.future.set_exception(error)
                return
            end = time.perf_counter()
            self._image_s += ((end - start) / len(batch) - self._image_s) / 8
            for image, own in zip(batch, raw, strict=True):
                image.prepared = None
                image.times.queue_s += start - image.since
                image.times.inference_s, image.since = end - start, end
                self.workers.finisher.submit(self._finish, image, own, len(batch))

    def _take(self) -> list[_Image]:
        with self._changed:
            if self.model.streams == 1:
                deadline = time.perf_counter() + self.max_wait_s
                while self._decoding and len(self._ready) < self.max_batch and (left := deadline - time.perf_counter()) > 0:
                    self._changed.wait(left)
            most = min(largest_batch(self.max_batch, self.model.streams), len(self._ready))
            taken = [self._ready.popleft() for _ in range(most)]
            if self._ready:
                self._ask()
        return [image for image in taken if image.future.set_running_or_notify_cancel()]

    def _finish(self, image: _Image, raw: NDArray[np.float32], batch_size: int) -> None:
        start = time.perf_counter()
        try:
            result = self.model.finish(raw, image.placed, image.options)
        except Exception as error:  # handed to whoever waits for the image
            image.future.set_exception(error)
            return
        done = time.perf_counter()
        image.times.queue_s += start - image.since
        image.times.postprocess_s = done - start
        found = Found(result, image.times, batch_size, done)
        self.observe(self.model.name, found)
        image.future.set_result(found)


def largest_batch(max_batch: int, streams: int) -> int:
    """Images that are inferred together at most: of several streams each takes one."""
    return max_batch if streams == 1 else 1


def _fail(image: _Image, error: Exception) -> None:
    if image.future.set_running_or_notify_cancel():
        image.future.set_exception(error)
