"""Samples of GPUs, process tree and processors beside a command, taken in the loop that watches it: no thread, no second process."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from yoloperf.core import samples
from yoloperf.harness.sampling.nvml import GpuSampler
from yoloperf.harness.sampling.rapl import Rapl
from yoloperf.harness.sampling.tree import Tree

_EVERY_S = (0.2, 1.0, 30.0)  # at first, later, and at most: RAPL's counter must be read before it goes round
# column of device.csv -> the column of RunRecord that comes of it, where the names differ
_FIGURE = {
    "gpu_mem_used_bytes": "gpu_mem_peak_bytes",
    "gpu_energy_j": "energy_j",
    "gpu_temp_c": "gpu_temp_peak_c",
    "clock_reasons": "throttled_share",
}
_HAS_PROC = Path("/proc/self/stat").exists()
# What GPUs, host and memory may each cost: a share of a core, and something at the start, so that a short run has samples too
_SHARE, _GRANT_S = 0.003, 0.02


class _Turn:
    """When a source is due: after a tenth of the time that has gone by, within bounds, and later where its samples have been dear."""

    def __init__(self) -> None:
        self._due_s = 0.0
        self.cost_s = 0.0

    def take(self, now_s: float, sample: Callable[[], None]) -> None:
        """Take a sample if it is time. now_s: since the beginning."""
        if now_s < self._due_s:
            return
        began = time.thread_time()
        sample()
        cost_s = time.thread_time() - began
        self.cost_s += cost_s
        at_first, later, most = _EVERY_S
        affordable_s = (self.cost_s + cost_s - _GRANT_S) / _SHARE
        self._due_s = min(max(now_s + min(max(now_s / 10, at_first), later), affordable_s), now_s + most)


class Sampler:
    """Appends to device.csv while a command runs, and sums up. Use it as a context, from before the command's start to after its end."""

    def __init__(self, path: Path, attempt: int, device: str) -> None:
        """attempt: its number, from 1; device: as in TrialSpec."""
        self._attempt = attempt
        self._totals = samples.Totals()
        self._began = time.monotonic()
        self._clock_s = time.time()  # once: a clock that is set meanwhile must not tear the samples apart
        self._file = _Appended(path)
        self._gpus = GpuSampler(device, os.environ)
        self._rapl = Rapl()
        self._tree: Tree | None = None
        self._turns = {self._sample_gpus: _Turn(), self._sample_host: _Turn(), self._sample_memory: _Turn()}

    def __enter__(self) -> Self:
        self.tick(None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._gpus.close()
        self._file.close()

    def tick(self, leader: int | None) -> None:
        """Take the samples that are due. leader: first process of the command's session, None before it runs."""
        if self._tree is None and leader is not None and _HAS_PROC:
            self._tree = Tree(leader)
        now_s = time.monotonic() - self._began
        for sample, turn in self._turns.items():
            turn.take(now_s, sample)

    def finish(self, cpu_s: float | None, device: str | None) -> dict[str, Any]:
        """Take the last samples and return what all of them come to, as run.json keeps it: columns, and reasons for those that are missing.

        cpu_s: CPU time of the command and the children that it waited for, None where that is not known.
        device: where the trainer says that it ran, None where it does not say.
        """
        self._sample_gpus()
        tree = {} if self._tree is None else {"tree_cpu_s": self._tree.cpu_s(cpu_s or 0.0)}
        self._take([{**tree, "cpu_energy_j": self._rapl.read_j()}])
        on_cpu = (device or "").startswith("cpu")
        found = self._totals.resources(None if device is None else not on_cpu)
        return {
            **found,
            "sampling_cpu_s": round(sum(turn.cost_s for turn in self._turns.values()), 4),
            "reason": {name: why for name, why in self._reasons(on_cpu).items() if name not in found},
        }

    def _reasons(self, on_cpu: bool) -> dict[str, str]:
        """Column, "gpu" for all of a GPU's, or device.csv -> why it is empty."""
        found = {_FIGURE.get(name, name): why for name, why in self._gpus.reasons.items()}
        if on_cpu:
            found = {"gpu": "the trainer ran on the CPU"}
        if self._rapl.reason:
            found["cpu_energy_j"] = self._rapl.reason
        found["tree_peak_bytes"] = "the command ended before its first sample" if _HAS_PROC else "there is no /proc here"
        if self._file.reason:
            found["device.csv"] = self._file.reason
        return found

    def _sample_gpus(self) -> None:
        self._take(self._gpus.sample(self._tree.pids if self._tree else frozenset()))

    def _sample_host(self) -> None:
        tree = self._tree.sample() if self._tree else {}
        self._take([{**tree, "cpu_energy_j": self._rapl.read_j()}])

    def _sample_memory(self) -> None:
        if self._tree:
            self._take([self._tree.memory()])

    def _take(self, found: Iterable[dict[str, Any]]) -> None:
        stamp = {"time_s": round(self._clock_s + time.monotonic() - self._began, 3), "attempt": self._attempt}
        rows = [{**stamp, **sample} for sample in found if sample]
        for row in rows:
            self._totals.add(row)
        if rows:
            self._file.write("".join(map(samples.row, rows)))


class _Appended:
    """device.csv: whole lines, each batch in one write, so that a kill leaves no half line. A full disk ends the file, not the run."""

    def __init__(self, path: Path) -> None:
        self.reason: str | None = None
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            header = samples.header().encode()
            size = os.fstat(self._descriptor).st_size
            known = os.pread(self._descriptor, len(header), 0) == header
            cut = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError as error:
            self.reason = f"{path}: {error.strerror}"
            return
        self.write("\n" * cut + samples.header() * (not known))

    def write(self, text: str) -> None:
        if self._descriptor is None or not text:
            return
        try:
            whole = os.write(self._descriptor, text.encode()) == len(text)
        except OSError:
            whole = False
        if not whole:
            self.reason = "the disk was full while sampling"
            self.close()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
