"""The runtime of a service without the service: what `bench/serve.py` compares it with."""

import sys
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

from yoloperf.service.batcher import Workers, largest_batch
from yoloperf.service.limits import Limits
from yoloperf.service.model import Options, Placed, Seen, ServedModel
from yoloperf.service.settings import Settings
from yoloperf.yolo.images import Pixels

AHEAD = 2  # batches of a stream that are decoded while it computes one


def pictures_per_second(model: ServedModel, workers: Workers, paths: list[Path]) -> float:
    """Every stream is kept busy, in batches as large as the service's, while other threads decode ahead for it."""
    size = largest_batch(Settings.max_batch, model.streams)
    batches = iter([paths[start : start + size] for start in range(0, len(paths), size)])  # each goes to the stream that is next

    def read(path: Path) -> tuple[Pixels, Placed]:
        return model.prepare(model.decode(path.read_bytes(), Limits(), path.name))

    def compute() -> list[Future[Seen]]:
        ahead: deque[list[Future[tuple[Pixels, Placed]]]] = deque()
        finishing: list[Future[Seen]] = []

        def infer() -> None:
            inputs, placed = zip(*(future.result() for future in ahead.popleft()), strict=True)
            raw = model.infer(list(inputs))
            finishing.extend(workers.finisher.submit(model.finish, own, where, Options()) for own, where in zip(raw, placed, strict=True))

        for batch in batches:
            ahead.append([workers.pool.submit(read, path) for path in batch])
            if len(ahead) > AHEAD:
                infer()
        while ahead:
            infer()
        return finishing

    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)  # as `yoloperf serve` does
    start = time.perf_counter()
    streams = [workers.device.submit(compute) for _ in range(model.streams)]
    found = [future.result() for stream in streams for future in stream.result()]
    seconds = time.perf_counter() - start
    sys.setswitchinterval(usual)
    assert len(found) == len(paths) and any(len(seen.boxes) for seen in found)
    return len(paths) / seconds
