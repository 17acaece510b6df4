"""Where the cells of a sweep stand: nothing but what their folders say."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec, from_mapping
from yoloperf.harness.outcome import DONE, judge, read_console
from yoloperf.harness.sweepfile import Cell

_RESUMED = ("interrupted", "cancelled", "preempted", "timeout")


@dataclass(frozen=True)
class CellState:
    """state: ok, oom (these two are done), queued, running, failed, timeout, cancelled, preempted, interrupted, changed or missing."""

    state: str
    reason: str | None = None
    epochs_done: int = 0
    wall_s: float | None = None
    checkpoint: bool = False  # there is one to go on from
    settled: dict[str, Any] | None = None  # what run.json should say: its supervisor died between the end of the command and saying so

    @property
    def done(self) -> bool:
        return self.state in DONE

    @property
    def resumes(self) -> bool:
        """Whether the next attempt goes on from the last checkpoint."""
        return self.state in _RESUMED or (self.state == "failed" and self.checkpoint)

    @property
    def why(self) -> str:
        """Whether the cell runs in the next sweep, and why."""
        if self.done:
            return "is done" if self.state == "ok" else f"is done, out of memory being a result: {self.reason}"
        if self.state == "queued":
            return f"is queued: {self.reason}"
        if self.state == "running":
            return f"is running, {self.epochs_done} epochs done"
        if self.resumes and self.epochs_done:
            return f"will go on after epoch {self.epochs_done}: {self.reason}"
        return f"will run: {self.reason}"


def state_of(cell: Cell, run: RunDir, mine: bool = False) -> CellState:
    """The state of a cell from its folder, which stays as it is. mine: the caller holds its lock, so nobody else runs it."""
    content = run.read()
    if content is None:
        return CellState("missing", "has not run yet")
    difference = changed(content, cell.spec)
    if difference:
        return CellState("changed", difference)
    attempts = content.get("attempts") or [{}]
    console = read_console(run.console, attempts[-1].get("console_offset", 0))
    spoken = console if console.events else read_console(run.console)  # its trainer is starting, or died in its start
    status, reason, settled = content["status"], content.get("reason"), None
    if status == "running" and (mine or not lock.is_held(run.lock)):
        if console.exit_code is None:
            ended = spoken.epochs_done >= cell.spec.epochs
            status, reason = (
                "interrupted",
                "interrupted after the last epoch" if ended else f"interrupted in epoch {spoken.epochs_done + 1}",
            )
        else:
            status, reason = judge(console, console.exit_code)
            settled = finished(content, {"status": status, "reason": reason, "exit_code": console.exit_code})
    return CellState(status, reason, spoken.epochs_done, content.get("wall_s"), run.last_weights.exists(), settled)


def finished(content: dict[str, Any], end: dict[str, Any]) -> dict[str, Any]:
    """run.json after an attempt: `end` goes into its last attempt, its status, reason and exit code into the run.

    wall_s of the run is the sum over its attempts, None when the end of one of them was not seen.
    """
    attempts = [*content["attempts"][:-1], {**content["attempts"][-1], **end}]
    walls = [attempt.get("wall_s") for attempt in attempts]
    wall_s = None if None in walls else round(sum(walls), 3)
    return {**content, **{key: end[key] for key in ("status", "reason", "exit_code")}, "wall_s": wall_s, "attempts": attempts}


def changed(content: dict[str, Any], spec: TrialSpec) -> str | None:
    """The first key in which the recorded spec differs from the cell's, or None. A field that was not recorded has its default."""
    if not isinstance(content.get("spec"), dict):
        return "its run.json has no spec"
    try:
        recorded = asdict(from_mapping(content["spec"]))
    except UserError as error:
        return f"its recorded spec is no longer valid: {error}"
    for key, value in asdict(spec).items():
        if recorded[key] != value:
            return f"{key} was {recorded[key]!r} and is {value!r} now"
    return None


def place(cells: list[Cell], folder: Path) -> Iterator[tuple[Cell, RunDir]]:
    """The folder of every cell: that of its spec under whatever name it ran, else the one named after the trial.

    So a new axis, which lengthens the names of all trials, does not make finished cells run again.
    """
    known: dict[str, RunDir] = {}
    for path in sorted(folder.glob("*/run.json")):
        run = RunDir(path.parent)
        content = run.read()
        if content is not None and "spec_hash" in content:
            known[content["spec_hash"]] = run
    for cell in cells:
        named = RunDir(folder / cell.trial)
        content = named.read()
        here = content is not None and changed(content, cell.spec) is None
        yield cell, named if here else known.get(cell.spec.hash, named)
