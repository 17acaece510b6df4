"""torch.profiler: the trainer itself profiles a bounded window of steps after the timed training."""

import importlib.util
from dataclasses import dataclass

from yoloperf.core.rundir import RunDir
from yoloperf.harness.profilers import gnu_time


@dataclass(frozen=True)
class TorchProfiler:
    """`steps` training steps are profiled; their summary is RunDir.profile."""

    steps: int
    name = "torch"
    why_auto = "it works on every device and leaves the timed steps alone"
    waits_for_trainer = True

    def unavailable(self) -> str | None:
        return None if importlib.util.find_spec("torch") else "torch is not installed"

    def prepare(self, run: RunDir) -> None:
        return None

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        return gnu_time.wrap(argv)

    def train_flags(self) -> list[str]:
        return ["--profile-steps", str(self.steps)]

    def end(self, run: RunDir) -> None:
        return None

    def collect(self, run: RunDir) -> str | None:
        return None
