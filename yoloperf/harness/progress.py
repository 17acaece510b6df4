"""What people see while a sweep runs: a line for every finished cell, and on a terminal a live one below."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from yoloperf.core import events
from yoloperf.core.rundir import RunDir
from yoloperf.core.units import show_seconds
from yoloperf.harness.outcome import DONE
from yoloperf.harness.sweepfile import Cell

_REFRESH_S = 0.5


def left_s(todo: Sequence[Cell], walls: Sequence[tuple[Cell, float]]) -> float | None:
    """Estimate of the seconds that `todo` takes: per epoch like the cells of the same model, data and image size in `walls`.

    Where there is none of them yet, like all cells of `walls`; None when that is empty.
    """
    if not walls:
        return None
    total = 0.0
    for cell in todo:
        alike = [(other, wall_s) for other, wall_s in walls if _kind(other) == _kind(cell)] or walls
        total += cell.spec.epochs * sum(wall_s for _, wall_s in alike) / sum(other.spec.epochs for other, _ in alike)
    return total


def _kind(cell: Cell) -> tuple[str, str, int]:
    return cell.spec.model, cell.spec.data, cell.spec.img_size


def _redrawable() -> bool:
    """Whether a line of stdout can be drawn anew: on a terminal, and below a notebook's cell, which says that it is none."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel.")


class Progress:
    """Counts, the running trial with its epoch, and the time that the rest will take."""

    def __init__(self, finished: Sequence[tuple[Cell, float | None]], todo: Sequence[Cell]) -> None:
        """finished: the cells that are done with their wall time where it is known; todo: those that will run."""
        self._total = len(finished) + len(todo)
        self._done = len(finished)
        self._failed = 0
        self._walls = [(cell, wall_s) for cell, wall_s in finished if wall_s]
        self._todo = list(todo)
        self._bar = None
        if _redrawable():
            layout = "|{bar:12}| {desc}"
            self._bar = tqdm(total=self._total, initial=self._done, bar_format=layout, file=sys.stdout, leave=False, dynamic_ncols=True)

    def started(self, cell: Cell, run: RunDir) -> None:
        self._cell, self._run = cell, run
        self._events: EventTail | None = None
        self._began = time.monotonic()
        self._epoch = 0
        self._next = 0.0

    def tick(self) -> None:
        """Refresh the live line, at most twice a second."""
        now = time.monotonic()
        if self._bar is None or now < self._next:
            return
        self._next = now + _REFRESH_S
        if self._events is None:  # not before the attempt is on record, with the place where its log begins
            attempts = (self._run.read() or {}).get("attempts") or [{}]
            self._events = EventTail(self._run.console, attempts[-1].get("console_offset", 0))
        for event in self._events.read():
            self._epoch = event.get({"run_start": "start_epoch", "epoch": "epoch"}.get(event["key"], ""), self._epoch)
        epochs = self._cell.spec.epochs
        running = f"epoch {min(self._epoch + 1, epochs)}/{epochs} of {self._cell.trial}"
        self._bar.set_description_str(f"{self._counts()}, 1 running{self._eta(now - self._began)} | {running}")

    def finished(self, cell: Cell, content: dict[str, Any]) -> None:
        """Count the cell and print its line: status, trial, wall time and reason; and why it has no profile."""
        done = content["status"] in DONE
        self._done += done
        self._failed += not done and content["status"] != "cancelled"
        self._todo.remove(cell)
        wall_s = content["wall_s"]
        if content["status"] == "ok" and wall_s:
            self._walls.append((cell, wall_s))
        if self._bar is not None:
            self._bar.set_description_str(self._counts(), refresh=False)
            self._bar.update(done)
        said = [content["status"].ljust(9), cell.trial, *([show_seconds(wall_s)] if wall_s is not None else []), content["reason"] or ""]
        self._say("  ".join(said).rstrip() + f"  ({self._counts()}{self._eta()})")
        if content["status"] == "ok" and content.get("profile_reason"):
            self._say(f"{'':11}no profile: {content['profile_reason']}")

    def skipped(self, cell: Cell, why: str) -> None:
        """Say why a cell was left out."""
        self._todo.remove(cell)
        self._say(f"skipped    {cell.trial}  {why}")

    def close(self) -> None:
        """Take the live line away."""
        if self._bar is not None:
            self._bar.close()

    def _counts(self) -> str:
        return f"{self._done}/{self._total} done" + (f", {self._failed} failed" if self._failed else "")

    def _eta(self, elapsed_s: float = 0.0) -> str:
        """elapsed_s: what of the running cell's time is over; a cell that takes longer than estimated has no time left."""
        if not self._todo or not self._walls:
            return ""
        first, rest = left_s(self._todo[:1], self._walls), left_s(self._todo[1:], self._walls)
        return f", about {show_seconds(max(first - elapsed_s, 0.0) + rest)} left" if first is not None and rest is not None else ""

    def _say(self, line: str) -> None:
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line, file=sys.stdout)


class EventTail:
    """The events that were appended to a growing log since the last look."""

    def __init__(self, path: Path, position: int) -> None:
        """The first look begins at the byte `position`."""
        self._path, self._position = path, position

    def read(self) -> list[dict[str, Any]]:
        """New events, whole lines only."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            text, newline, _ = stream.read().rpartition(b"\n")
        self._position += len(text) + len(newline)
        return events.read(text.decode(errors="replace").splitlines())[0]
