"""No profiler: the bare command."""

from yoloperf.core.rundir import RunDir


class NoProfiler:
    name = "none"
    why_auto = "no other profiler works here"

    def unavailable(self) -> str | None:
        return None

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        return argv

    def train_flags(self) -> list[str]:
        return []

    def collect(self, run: RunDir) -> str | None:
        return None
