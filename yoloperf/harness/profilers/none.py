"""No profiler: the bare command."""

from yoloperf.core.rundir import RunDir
from yoloperf.harness.profilers import gnu_time


class NoProfiler:
    name = "none"
    why_auto = "no other profiler works here"
    waits_for_trainer = True

    def unavailable(self) -> str | None:
        return None

    def prepare(self, run: RunDir) -> None:
        return None

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        return gnu_time.wrap(argv)

    def train_flags(self) -> list[str]:
        return []

    def end(self, run: RunDir) -> None:
        return None

    def collect(self, run: RunDir) -> str | None:
        return None
