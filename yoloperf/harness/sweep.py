"""The sweep: make every cell done, one after the other, and go on where the last call stopped."""

import os
import signal
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from yoloperf.core import lock
from yoloperf.core.rundir import RunDir
from yoloperf.harness.outcome import DONE
from yoloperf.harness.progress import Progress
from yoloperf.harness.state import CellState, place, state_of
from yoloperf.harness.supervise import Context, run_cell
from yoloperf.harness.sweepfile import Cell, SweepSpec


@dataclass(frozen=True)
class Place:
    """A cell, its folder and where it stands."""

    cell: Cell
    run: RunDir
    state: CellState


class StopRequests:
    """Counts SIGINT, SIGTERM and the end of the terminal (SIGHUP, unless ignored: nohup) instead of dying of them, so that a stop
    never falls between two steps that belong together."""

    def __init__(self, signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) -> None:
        self.count = 0
        self._signals = [number for number in signals if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]

    def __call__(self) -> int:
        return self.count

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if number == signal.SIGHUP:
            _mute_the_terminal()

    @contextmanager
    def listening(self) -> Iterator["StopRequests"]:
        """Main thread only."""
        before = {number: signal.signal(number, self._note) for number in self._signals}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _mute_the_terminal() -> None:
    """Nothing can be written to a terminal that is gone, nor to a `tee` that went with it: what is no file of ours goes nowhere."""
    with open(os.devnull, "w") as nowhere:
        for stream in (1, 2):
            if not stat.S_ISREG(os.fstat(stream).st_mode):
                os.dup2(nowhere.fileno(), stream)


def survey(sweep: SweepSpec, folder: Path) -> list[Place]:
    """Every cell of the sweep with its state in `folder`, which is `<logs>/<platform>/<sweep>`."""
    return [Place(cell, run, state_of(cell, run)) for cell, run in place(sweep.cells(), folder)]


@contextmanager
def claimed(sweep: SweepSpec, folder: Path) -> Iterator[None]:
    """Hold the sweep's folder. Raises Busy naming the sweep that has it, UserError when it cannot be written."""
    with lock.held(folder / ".sweep.lock", f"sweep {sweep.name} in {folder}"):
        yield


def run_sweep(places: list[Place], context: Context, stop: StopRequests, progress: Progress) -> str | None:
    """Run every cell that is not done, in turn. Returns why the sweep ended early, None when every cell had its turn.

    A cell that fails is left behind and the next one starts, unless the first two fail in the same way: then all would.
    """
    failures: list[tuple[Any, str]] = []
    ran = 0
    for item in places:
        if item.state.done:
            if item.state.settled:
                item.run.write(item.state.settled)
            continue
        if stop():
            break
        progress.started(item.cell, item.run)
        try:
            content = run_cell(item.cell, item.run, context, stop, progress.tick)
        except lock.Busy as busy:
            progress.skipped(item.cell, str(busy))
            continue
        progress.finished(item.cell, content)
        ran += 1
        if content["status"] == "failed":
            failures.append((content["exit_code"], content["reason"].replace(str(item.run.path), "")))
        if ran == 2 and len(failures) == 2 and failures[0] == failures[1]:
            return f"the first two cells failed in the same way, so the rest was not tried: {content['reason']}"
    return "stopped" if stop() else None


def tally(places: list[Place]) -> dict[str, int]:
    """How many cells are in which state, done ones summed up."""
    counts = Counter(item.state.state for item in places)
    return {"cells": len(places), "done": sum(counts[state] for state in DONE), **counts}
