"""Runs the cells of a study that are not done, one after the other, unattended."""

import json
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from yoloperf.core.environment import collect
from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_seconds
from yoloperf.offload.cells import Job
from yoloperf.offload.study import Study


def run_cells(every: Sequence[Job], todo: Sequence[Job], study: Study) -> None:
    """Measure `todo` of `every` cell. One that cannot be measured is kept as failed, with the reason, and the rest goes on.

    KeyboardInterrupt passes through: what is finished is on disk, the cell that ran will run again.
    """
    environment = collect(study.data)
    walls = _Walls(every)
    with _terminable():
        for number, job in enumerate(todo, 1):
            left_s = walls.left_s(todo[number - 1 :])
            about = f" (about {show_seconds(left_s)} left)" if left_s is not None else ""
            print(f"[{number}/{len(todo)}] {job.name}{about}", flush=True)
            content = _measure(job, study, environment)
            walls.add(job, content)
            reason = f": {content['reason']}" if content["reason"] else ""
            print(f"{'':{len(str(len(todo))) * 2 + 4}}{content['status']}, {show_seconds(content['wall_s'])}{reason}", flush=True)


def _measure(job: Job, study: Study, environment: dict[str, Any]) -> dict[str, Any]:
    job.clear()
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    begin = time.perf_counter()
    summary: dict[str, Any] | None = None
    reason: str | None = None
    try:
        measured = job.part.measure(job.cell, study, job.folder)
        json.dumps(measured, allow_nan=False)
        summary = measured
    except UserError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # a fault of ours in one cell does not take the others of an unattended study along
        write_atomic(job.folder / "crash.txt", traceback.format_exc())
        reason = f"a fault of yoloperf: {type(error).__name__}: {' '.join(str(error).split())} (see {job.folder / 'crash.txt'})"
    content = {
        "status": "failed" if summary is None else "ok",
        "reason": reason,
        "summary": summary,
        "started_at": started_at,
        "wall_s": round(time.perf_counter() - begin, 3),
        "environment": environment,
    }
    job.write(content)
    return content


class _Walls:
    """How long cells took: what is left takes as long as the others of its part, or, where there are none, as all others."""

    def __init__(self, every: Sequence[Job]) -> None:
        self._walls: dict[str, list[float]] = {}
        for job in every:
            self.add(job, job.read() or {})

    def add(self, job: Job, content: dict[str, Any]) -> None:
        if content.get("status") == "ok":
            self._walls.setdefault(job.part.name, []).append(content["wall_s"])

    def left_s(self, todo: Sequence[Job]) -> float | None:
        known = [wall_s for walls in self._walls.values() for wall_s in walls]
        return sum(fmean(self._walls.get(job.part.name, known)) for job in todo) if known else None


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM and a terminal that goes end a study as Ctrl-C does: services and links are taken down."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    kinds = [kind for kind in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(kind) is not signal.SIG_IGN]  # nohup stays
    before = {kind: signal.signal(kind, stop) for kind in kinds}
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: every finished cell is kept, and the same command goes on from here", file=sys.stderr)
        raise
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
