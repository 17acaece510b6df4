import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from tests.service.conftest import picture
from yoloperf.service.batcher import Batcher, Found, Workers
from yoloperf.service.limits import Limits
from yoloperf.service.model import Options, ServedModel
from yoloperf.service.refusal import Refused

PICTURE = picture(1)


class StandInRuntime:
    """One box as large as the input, after a while a batch and an image; `gate` holds it up."""

    name, precision, img_size, streams = "standin", "fp32", 64, 1

    def __init__(self, batch_s: float = 0.0, image_s: float = 0.0) -> None:
        self.batch_s, self.image_s = batch_s, image_s
        self.batches: list[int] = []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.entered.set()
        assert self.gate.wait(20)
        time.sleep(self.batch_s + self.image_s * len(pixels))
        self.batches.append(len(pixels))
        if self.error:
            raise self.error
        return np.tile(np.float32([32, 32, 60, 40, 1, 0.5]), (len(pixels), 1, 1))


def served(runtime: StandInRuntime, name: str = "standin") -> ServedModel:
    return ServedModel(name, ["thing"], "0" * 12, runtime)


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(2)
    yield workers
    workers.close()


def submit(batcher: Batcher, count: int = 1, data: bytes = PICTURE) -> list["Future[Found]"]:
    return [future for _ in range(count) for future in batcher.submit([("x.jpg", data)], Options())]


def test_images_that_come_meanwhile_are_inferred_together(workers: Workers) -> None:
    runtime = StandInRuntime()
    batcher = Batcher(served(runtime), workers, Limits(), max_batch=4)
    runtime.gate.clear()
    first = submit(batcher)
    assert runtime.entered.wait(5)
    rest = submit(batcher, 9)
    while batcher._decoding:
        time.sleep(0.001)
    assert batcher.waiting == 9
    runtime.gate.set()
    found = [future.result(5) for future in first + rest]
    assert runtime.batches == [1, 4, 4, 1]
    assert sorted(own.batch_size for own in found) == [1, 1] + [4] * 8
    assert all(own.result.boxes.shape == (1, 6) and (own.result.width, own.result.height) == (64, 48) for own in found)
    assert batcher.waiting == 0


def test_lone_image_does_not_wait(workers: Workers) -> None:
    batcher = Batcher(served(StandInRuntime()), workers, Limits(), max_wait_s=5)
    start = time.perf_counter()
    submit(batcher)[0].result(5)
    assert time.perf_counter() - start < 1


def test_batch_waits_for_what_is_being_decoded_but_not_for_ever(workers: Workers) -> None:
    runtime = StandInRuntime()
    batcher = Batcher(served(runtime), workers, Limits(), max_wait_s=0.5)
    batcher.submit([("x", PICTURE)] * 3, Options())[0].result(5)
    assert runtime.batches == [3]
    batcher._decoding += 1  # an image whose decoding does not end
    start = time.perf_counter()
    submit(batcher)[0].result(5)
    assert 0.4 < time.perf_counter() - start < 2
    batcher._decoding -= 1


def test_full_queue_refuses_and_says_when_to_come_again(workers: Workers) -> None:
    runtime = StandInRuntime()
    batcher = Batcher(served(runtime), workers, Limits(), max_batch=2, queue=3)
    runtime.gate.clear()
    futures = submit(batcher)
    assert runtime.entered.wait(5)
    futures += submit(batcher, 3)
    with pytest.raises(Refused) as refused:
        submit(batcher)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
    assert batcher.waiting == 3
    runtime.gate.set()
    assert all(future.result(5) for future in futures)
    assert len(batcher.submit([("x", PICTURE)] * 10, Options())) == 10  # more than the queue holds, but it is empty


def test_cancelled_image_is_not_computed(workers: Workers) -> None:
    runtime = StandInRuntime()
    batcher = Batcher(served(runtime), workers, Limits())
    runtime.gate.clear()
    first = submit(batcher)[0]
    assert runtime.entered.wait(5)
    gone, kept = submit(batcher, 2)
    assert gone.cancel()
    runtime.gate.set()
    assert kept.result(5) and first.result(5)
    assert sum(runtime.batches) == 2


def test_error_reaches_its_own_requests_only(workers: Workers) -> None:
    runtime = StandInRuntime()
    batcher = Batcher(served(runtime), workers, Limits())
    (broken,) = submit(batcher, data=PICTURE[:50])
    with pytest.raises(Refused, match="no readable image"):
        broken.result(5)
    runtime.error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        submit(batcher)[0].result(5)
    runtime.error = None
    assert submit(batcher)[0].result(5)
    assert batcher.waiting == 0


def test_models_take_turns_on_the_device(workers: Workers) -> None:
    order: list[str] = []

    class Noting(StandInRuntime):
        def __init__(self, name: str) -> None:
            super().__init__(batch_s=0.01)
            self.own = name

        def __call__(self, pixels: np.ndarray) -> np.ndarray:
            order.append(self.own)
            return super().__call__(pixels)

    busy, quiet = (Batcher(served(Noting(name), name), workers, Limits(), max_batch=1) for name in ("busy", "quiet"))
    futures = submit(busy, 12)
    while len(order) < 2:
        time.sleep(0.001)
    futures += submit(quiet)
    for future in futures:
        future.result(5)
    assert order.index("quiet") < 8, order


def test_times_add_up(workers: Workers) -> None:
    batcher = Batcher(served(StandInRuntime(batch_s=0.05)), workers, Limits())
    start = time.perf_counter()
    times = submit(batcher)[0].result(5).times
    elapsed = time.perf_counter() - start
    assert 0.05 <= times.inference_s < sum(vars(times).values()) <= elapsed
    assert all(seconds >= 0 for seconds in vars(times).values())


def test_batches_are_inferred_side_by_side_where_the_model_can() -> None:
    workers = Workers(2, streams=2)
    wide, narrow = StandInRuntime(), StandInRuntime()
    wide.streams = 2
    for runtime in (wide, narrow):
        runtime.gate.clear()
    both = [Batcher(served(runtime), workers, Limits()) for runtime in (wide, narrow)]
    first = submit(both[0], 2)
    while both[0].waiting:  # until both are being inferred, each in a batch of its own
        time.sleep(0.001)
    wide.gate.set()
    assert [future.result(5).batch_size for future in first] == [1, 1]
    second = submit(both[1])
    assert narrow.entered.wait(5)
    second += submit(both[1], 2)
    time.sleep(0.1)
    assert both[1].waiting == 2, "a model of one stream is called by one thread at a time"
    narrow.gate.set()
    assert [future.result(5).batch_size for future in second] == [1, 2, 2]
    workers.close()
