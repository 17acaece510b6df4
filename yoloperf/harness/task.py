"""The batch process of a Slurm task: runs one cell, and when Slurm wants the node back, puts itself into the queue again."""

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

from yoloperf.core import lock
from yoloperf.harness.launch import slurm
from yoloperf.harness.launch.submission import Submission, announce, said, survey_of
from yoloperf.harness.outcome import Console
from yoloperf.harness.profilers import make_profiler
from yoloperf.harness.state import finished
from yoloperf.harness.supervise import run_cell
from yoloperf.harness.sweep import Place, StopRequests

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def run_task(submission: Submission, task: int) -> dict[str, Any]:
    """Run the cell of a task and return its run.json. A task that was asked to stop requeues its job, as long as that helps.

    Raises UserError when the cell cannot begin here: another process runs it, or the node has no such profiler.
    """
    cell, run = submission.cells[task]
    announce(task, cell.trial)
    requeue = False

    def stopped_as(console: Console) -> tuple[str, str | None]:
        nonlocal requeue
        ordered = said(_own_output())
        if ordered:  # Slurm ends the job: whether it comes back is Slurm's decision
            return ordered
        before = (run.read() or {}).get("attempts", [])[:-1]
        if before and before[-1]["status"] == "preempted" and not (before[-1].get("gained") or console.gained):
            return "timeout", "twice in a row no step was gained before the task had to stop: ask for more --time"
        requeue = _job_number() is not None
        return "preempted", console.run_end.get("reason") or "stopped before it could write a checkpoint"

    with StopRequests(_SIGNALS).listening() as stop:
        profiler, why = make_profiler(submission.profiler, submission.profile_steps, {cell.spec.device})
        print(f"profiler: {profiler.name} ({why})", flush=True)
        # Slurm may signal several times for one reason; only a person who asks again is in a hurry
        content = run_cell(cell, run, submission.context(profiler), lambda: min(stop(), 1), stopped_as=stopped_as)
        print(f"{content['status']}  {cell.trial}  {content['reason'] or ''}".rstrip(), flush=True)
        if requeue:
            refused = slurm.requeue(_job_number() or "")
            print(f"not requeued: {refused}" if refused else "requeued", flush=True)
    return content


def settle(submission: Submission) -> list[Place]:
    """Write the last word of the cells whose task could not: killed for memory or at its time limit, or ended before the cell began.

    Returns those.
    """
    settled = []
    for item in survey_of(submission):
        if not item.state.settled and item.state.state in ("missing", "queued", "running", "interrupted", "changed"):
            continue
        try:
            with lock.held(item.run.lock, f"cell {item.cell.trial}"):
                before = item.run.read()
                if before is None:
                    item.run.write(_never_began(submission, item))
                elif before["status"] == "running":
                    end = {"status": item.state.state, "reason": item.state.reason, "exit_code": None}
                    item.run.write(item.state.settled or finished(before, end))
                else:
                    continue
        except lock.Busy:
            continue
        settled.append(item)
    return settled


def _never_began(submission: Submission, item: Place) -> dict[str, Any]:
    return {
        "spec": asdict(item.cell.spec),
        "spec_hash": item.cell.spec.hash,
        "platform": submission.platform,
        "sweep": submission.sweep,
        "trial": item.cell.trial,
        "status": item.state.state,
        "reason": item.state.reason,
        "exit_code": None,
        "wall_s": None,
        "attempts": [],
    }


def _job_number() -> str | None:
    """Number of the job that this process is the batch process of: 12_3 for a task of an array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")


def _own_output() -> Path:
    """The file that this process prints into, wherever --output put it: Slurm says there why it ends the job, before it signals."""
    return Path(os.path.realpath("/proc/self/fd/2"))
