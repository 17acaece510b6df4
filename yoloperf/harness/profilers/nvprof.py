"""nvprof: the profiler of the 2020 study, for GPUs up to Turing and CUDA up to 12.

Several processes a run (more than one device) are beyond it: it follows the first one only.
"""

import functools
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from yoloperf.core.rundir import RunDir
from yoloperf.harness.gpu import gpus, torch_cuda
from yoloperf.harness.profilers import gnu_time, outside

_OUTPUT = "profile.txt"
_ROW = re.compile(r"^\s*(?:GPU activities:)?\s*\d+\.\d+%\s+\S+\s+\d+\s", re.MULTILINE)
_SAID = re.compile(r"^=+\d*=+ (?:Warning|Error): (.+)|^(No kernels were profiled)", re.MULTILINE)


@functools.cache
def find() -> str | None:
    """Path of the binary: on PATH, or in a CUDA toolkit where they are installed."""
    places = sorted(Path("/usr/local").glob("cuda*/bin/nvprof"), reverse=True)
    return shutil.which("nvprof") or next((str(path) for path in places), None)


def unsupported() -> str | None:
    """Why it could not work here even if it were installed, or None.

    Limits: profiler user's guide of CUDA 11 (compute capability), release notes of CUDA 13.0 (removed). It is the CUDA of the
    program that counts: a driver for CUDA 13 still runs programs, and nvprof, of CUDA 12.
    """
    here = gpus()
    if here.reason:
        return here.reason
    too_new = [str(gpu) for gpu in here.visible if gpu.capability >= (8, 0)]
    if too_new:
        return f"{too_new[0]} is too new: nvprof knows compute capabilities below 8.0"
    built = torch_cuda()
    if built and built[0] >= 13:
        return f"torch is built for CUDA {built[0]}.{built[1]}, and nvprof ended with CUDA 12"
    return None


@dataclass(frozen=True)
class NvprofProfiler:
    """Profiles `steps` steps; the printed summary is profile.txt."""

    steps: int
    name = "nvprof"
    why_auto = "this GPU and this CUDA are still nvprof's, as in the 2020 study"
    waits_for_trainer = True

    def unavailable(self) -> str | None:
        return unsupported() or (None if find() else "nvprof is not installed (`yoloperf doctor` says how)")

    def prepare(self, run: RunDir) -> None:
        return None

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        log = outside.literal(run.path / _OUTPUT)
        # Unified memory is not used by torch, and where containers forbid to profile it nvprof stops with an error
        flags = ["--profile-from-start", "off", "--unified-memory-profiling", "off", "--log-file", log]
        return gnu_time.wrap([find() or "nvprof", *flags, *argv])

    def train_flags(self) -> list[str]:
        return outside.train_flags(self.steps)

    def end(self, run: RunDir) -> None:
        return None

    def collect(self, run: RunDir) -> str | None:
        try:
            text = (run.path / _OUTPUT).read_text(errors="replace")
        except FileNotFoundError:
            return "nvprof wrote no output"
        if _ROW.search(text.partition("API calls")[0]):
            return None
        said = [warning or nothing for warning, nothing in _SAID.findall(text)]
        return f"nvprof recorded no kernels: {said[0]}" if said else "nvprof recorded no kernels: the profiled steps were not reached"
