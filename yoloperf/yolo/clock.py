"""How long training steps take, and how long they wait for their batches."""

import time
from statistics import median
from typing import Any

import torch

from yoloperf.yolo.device import Compute

_WARMUP_STEPS = 3  # the first steps of a process allocate, choose algorithms and capture a graph: they are left out of rates


class StepClock:
    """Times of steps and of waiting for data, without a device synchronisation in the loop."""

    def __init__(self, compute: Compute) -> None:
        self.compute, self.warmup_left = compute, _WARMUP_STEPS
        self.on_gpu = compute.device.type == "cuda"

    def start_epoch(self) -> None:
        self.compute.synchronise()
        self.images: list[int] = []
        self.waits: list[float] = []
        self.marks: list[Any] = []
        self._mark()
        self._waiting = time.perf_counter()

    def data_ready(self) -> None:
        self.waits.append(time.perf_counter() - self._waiting)

    def step_done(self, images: int) -> None:
        self.images.append(images)
        self._mark()
        self._waiting = time.perf_counter()

    def _mark(self) -> None:
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def end_epoch(self) -> dict[str, float | None]:
        """images_per_s, step_time_s and data_time_s (medians) of the steps after warm-up; None where none are left."""
        self.compute.synchronise()
        pairs = zip(self.marks, self.marks[1:], strict=False)
        times = [start.elapsed_time(end) * 1e-3 if self.on_gpu else end - start for start, end in pairs]
        skip = min(self.warmup_left, len(times))
        self.warmup_left -= skip
        times, waits, images = times[skip:], self.waits[skip:], self.images[skip:]
        if not times:
            return {"images_per_s": None, "step_time_s": None, "data_time_s": None}
        return {"images_per_s": sum(images) / sum(times), "step_time_s": median(times), "data_time_s": median(waits)}
