"""Profilers behind one protocol. A new one is a class in a file of its own and a line in `_profilers`.

A profiler's output stays as it is in the run folder (`profile.*`); reading it is the parser's job.
"""

import socket
from collections.abc import Collection
from typing import Protocol

from yoloperf.core.errors import UserError, choose
from yoloperf.core.rundir import RunDir
from yoloperf.harness.profilers.none import NoProfiler
from yoloperf.harness.profilers.nsys import NsysProfiler
from yoloperf.harness.profilers.nvprof import NvprofProfiler
from yoloperf.harness.profilers.torch import TorchProfiler

NAMES = ("auto", "nvprof", "nsys", "torch", "none")


class Profiler(Protocol):
    """Makes a kernel summary of a run: as a wrapper of its command, through flags of the trainer, or both."""

    @property
    def name(self) -> str:
        """What --profiler calls it."""

    @property
    def why_auto(self) -> str:
        """Why `auto` takes it where it works."""

    @property
    def waits_for_trainer(self) -> bool:
        """Whether the command is the trainer's parent, so that what the kernel accounts to it holds the trainer."""

    def unavailable(self) -> str | None:
        """Why it cannot work here, or None."""

    def prepare(self, run: RunDir) -> None:
        """Called just before the command starts, for what it needs and what an earlier attempt left."""

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        """The command with GNU time and the profiler around it, the output of the latter going into the run folder.

        GNU time counts the processes that its command waits for, so where it stands depends on the profiler.
        """

    def train_flags(self) -> list[str]:
        """Flags that the trainer needs for it."""

    def end(self, run: RunDir) -> None:
        """Called when the command has ended: let what it left running come to its end, and the console be whole."""

    def collect(self, run: RunDir) -> str | None:
        """Called after that: bring the output into the form that is parsed. Returns why there is none, or None."""


def profilers(steps: int) -> list[Profiler]:
    """Every profiler, the one that `auto` prefers first."""
    return [NvprofProfiler(steps), NsysProfiler(steps), TorchProfiler(steps), NoProfiler()]


def make_profiler(name: str, steps: int, devices: Collection[str] = (), here: bool = True) -> tuple[Profiler, str]:
    """The profiler of that name and why it is taken. Raises UserError when it cannot work on this machine.

    devices: --device of the runs, for which `auto` takes one that suits them all. here: False where the runs take place on
    another machine, which will see whether a profiler that was named works.
    """
    choose(name, NAMES, "profiler")
    if steps < 1:
        raise UserError(f"--profile-steps must be at least 1, not {steps}; --profiler none switches profiling off")
    refused = ""
    for profiler in profilers(steps):
        if name not in ("auto", profiler.name):
            continue
        if name == profiler.name and not here:
            return profiler, "asked for"
        reason = profiler.unavailable() or (_unsuited(profiler.name, devices) if name == "auto" else None)
        if reason is None:
            return profiler, f"auto: {profiler.why_auto}{refused}" if name == "auto" else "asked for"
        if name == profiler.name:
            raise UserError(f"profiler {name} cannot work on {socket.gethostname()}: {reason}; choose --profiler auto or --profiler none")
        refused += f"; not {profiler.name}: {reason}"
    raise AssertionError("the bare command always works")


def _unsuited(name: str, devices: Collection[str]) -> str | None:
    if name in ("nvprof", "nsys") and "cpu" in devices:
        return "--device cpu is asked for"
    if name == "nvprof" and any("," in device for device in devices):
        return "it follows one process, and a run on several GPUs has more"
    return None
