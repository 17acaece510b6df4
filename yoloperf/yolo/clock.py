"""How long training steps take, and how long they wait for their batches."""

import time
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from yoloperf.yolo.device import Compute

_WARMUP_STEPS = 3  # the first steps of a process allocate, choose algorithms and capture a graph: they are left out of rates


class StepClock:
    """Times of steps and of waiting for data, without a device synchronisation in the loop.

    On a GPU both are the device's times, by events between the steps: while it computes, the host's waiting costs nothing.
    """

    def __init__(self, compute: Compute) -> None:
        self.compute, self.warmup_left = compute, _WARMUP_STEPS
        self.on_gpu = compute.device.type == "cuda"

    def start_epoch(self) -> None:
        self.compute.synchronise()
        self.images: list[int] = []
        self.starts: list[Any] = []
        self.ends: list[Any] = [self._mark()]  # the first is the epoch's start

    def data_ready(self) -> None:
        self.starts.append(self._mark())

    def step_done(self, images: int) -> None:
        self.images.append(images)
        self.ends.append(self._mark())

    def _mark(self) -> Any:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def end_epoch(self) -> dict[str, float | None]:
        """images_per_s, step_time_s and data_time_s (medians) of the steps after warm-up; None where none are left."""
        self.compute.synchronise()
        times = [self._between(*marks) for marks in pairwise(self.ends)]
        waits = [self._between(*marks) for marks in zip(self.ends, self.starts, strict=False)]
        skip = min(self.warmup_left, len(times))
        self.warmup_left -= skip
        times, waits, images = times[skip:], waits[skip:], self.images[skip:]
        if not times:
            return {"images_per_s": None, "step_time_s": None, "data_time_s": None}
        return {"images_per_s": sum(images) / sum(times), "step_time_s": median(times), "data_time_s": median(waits)}

    def _between(self, start: Any, end: Any) -> float:
        """Seconds."""
        return float(start.elapsed_time(end) * 1e-3 if self.on_gpu else end - start)
