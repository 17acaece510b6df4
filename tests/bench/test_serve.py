"""bench/serve.py: its in-process side, on a model that computes nothing, and the arithmetic of overload."""

import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.service.conftest import picture
from yoloperf.service.batcher import Workers
from yoloperf.service.model import ServedModel

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script of that folder."""
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


class Runtime:
    """One box a picture; the first call of each thread waits for those of the other streams."""

    name, precision, img_size = "standin", "fp32", 64

    def __init__(self, streams: int) -> None:
        self.streams, self.together = streams, threading.Barrier(streams)
        self.seen: set[int] = set()
        self.batches: list[int] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if threading.get_ident() not in self.seen:
            self.seen.add(threading.get_ident())
            self.together.wait(20)
        self.batches.append(len(pixels))
        return np.tile(np.float32([32, 32, 60, 40, 1, 0.5]), (len(pixels), 1, 1))


@pytest.mark.parametrize(("streams", "batches"), [(1, [16, 16, 8]), (2, [1] * 40)])
def test_every_stream_is_busy_with_batches_as_the_service_has_them(
    script: Callable[[str], ModuleType], tmp_path: Path, streams: int, batches: list[int]
) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(picture(1))
    runtime, workers = Runtime(streams), Workers(2, streams)
    usual = sys.getswitchinterval()
    assert script("in_process").pictures_per_second(ServedModel("standin", ["thing"], "0" * 12, runtime), workers, 40 * [path]) > 0
    workers.close()
    assert runtime.batches == batches and sys.getswitchinterval() == usual


def test_bound_of_what_is_accepted_is_a_full_queue(script: Callable[[str], ModuleType]) -> None:
    wait_bound = script("serve").wait_bound
    assert wait_bound(40.0, 1) == (64 + 16) / 40
    assert wait_bound(40.0, 2) == (64 + 2) / 40
