"""The clock of training steps, on a GPU made up: work is queued by the host and done later, one after the other."""

from dataclasses import dataclass

import pytest
import torch

from yoloperf.yolo.clock import StepClock
from yoloperf.yolo.device import Compute


@dataclass
class _Gpu:
    """Times in seconds. Events are marks in the queue, as CUDA's: each is passed when what was queued before it is done."""

    host: float = 0.0
    free: float = 0.0

    def queue(self, work: float) -> None:
        self.free = max(self.free, self.host) + work


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> _Gpu:
    gpu = _Gpu()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            gpu.queue(0)
            self.at = gpu.free

        def elapsed_time(self, end: "Event") -> float:
            return (end.at - self.at) * 1e3

    def synchronise(device: torch.device) -> None:
        gpu.host = max(gpu.host, gpu.free)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronise)
    return gpu


@pytest.mark.parametrize(
    ("loading", "painting", "step", "waiting"),
    [
        (0.04, 0.0, 0.05, 0.0),  # the host needs nearly as long for a batch, but while the device computes
        (0.08, 0.0, 0.05, 0.03),  # the device waits for what the host is slower by
        (0.01, 0.02, 0.05, 0.02),  # pictures painted by the device itself are no step
    ],
)
def test_waiting_is_the_time_of_the_device_between_steps(gpu: _Gpu, loading: float, painting: float, step: float, waiting: float) -> None:
    clock = StepClock(Compute(torch.device("cuda", 0), "bf16", 1))
    clock.start_epoch()
    for _ in range(8):
        gpu.host += loading
        gpu.queue(painting)
        clock.data_ready()
        gpu.queue(step)
        clock.step_done(8)
    rates = clock.end_epoch()
    assert rates["data_time_s"] == pytest.approx(waiting)
    assert rates["step_time_s"] == pytest.approx(step + waiting)
    assert rates["images_per_s"] == pytest.approx(8 / (step + waiting))


def test_an_epoch_within_the_warm_up_has_no_rates(gpu: _Gpu) -> None:
    clock = StepClock(Compute(torch.device("cuda", 0), "bf16", 1))
    for epoch in range(2):
        clock.start_epoch()
        for _ in range(2):
            clock.data_ready()
            gpu.queue(1.0)
            clock.step_done(8)
        assert clock.end_epoch()["step_time_s"] == (None if epoch == 0 else pytest.approx(1.0))
