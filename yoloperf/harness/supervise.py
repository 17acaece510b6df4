"""One cell, from its lock to its last word in run.json. A sweep here and a task of a job array run cells the same way."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from yoloperf import __version__
from yoloperf.core import lock
from yoloperf.core.environment import collect
from yoloperf.core.rundir import SUPERSEDED, RunDir
from yoloperf.harness.engines import trainer_of
from yoloperf.harness.launch import local
from yoloperf.harness.outcome import Console, judge, memory_kills, read_console
from yoloperf.harness.profilers import Profiler, gnu_time
from yoloperf.harness.sampling.sampler import Sampler
from yoloperf.harness.state import finished, state_of
from yoloperf.harness.sweepfile import Cell

_ORPHAN_S = 10.0  # what a killed sweep's training process may take to die, GPU context included


@dataclass(frozen=True)
class Context:
    """What the runs of a sweep have in common."""

    sweep: str
    platform: str
    profiler: Profiler
    trainer: Sequence[str] | None = None  # in place of the engine's, for tests
    timeout_s: float | None = None
    patience_s: float | None = None  # see local.run


def command(cell: Cell, run: RunDir, context: Context, resume: bool) -> list[str]:
    """The whole command line of a run, its wrappers included."""
    trainer = context.trainer or trainer_of(cell.spec.engine)
    argv = [*trainer, *cell.spec.argv(), "--save-dir", str(run.path), *context.profiler.train_flags()]
    return context.profiler.wrap(argv + ["--resume"] * resume, run)


def run_cell(
    cell: Cell,
    run: RunDir,
    context: Context,
    stop: Callable[[], int] = lambda: 0,
    tick: Callable[[], None] = lambda: None,
    stopped_as: Callable[[Console], tuple[str, str | None]] = lambda console: ("cancelled", "stopped on request"),
) -> dict[str, Any]:
    """Run a cell that is not done, or go on with it, and return what run.json says then. `stop` and `tick`: see local.run.

    stopped_as: status and reason of an attempt that `stop` brought to an end.

    Raises Busy when another process runs the cell.
    """
    with lock.held(run.lock, f"cell {cell.trial}", wait_s=_ORPHAN_S) as descriptor:
        state = state_of(cell, run, mine=True)
        if state.settled:
            run.write(state.settled)
        if state.done:
            return run.read() or {}
        _sweep_up(run)
        resume = state.resumes
        if not resume:
            _set_aside(run)
        offset = run.console.stat().st_size if run.console.exists() else 0
        content = _begun(cell, run, context, resume, offset)
        run.write(content)
        for path in run.path.glob("profile.*"):  # of an earlier attempt: the two would be read as one
            path.unlink()
        context.profiler.prepare(run)
        kills = memory_kills()
        with Sampler(run.device_csv, len(content["attempts"]), cell.spec.device) as sampler:

            def watch(leader: int) -> None:
                sampler.tick(leader)
                tick()

            ended = local.run(content["argv"], run.console, descriptor, context.timeout_s, stop, watch, context.patience_s)
            context.profiler.end(run)
            console = read_console(run.console, offset)
            seen = _accounted(ended, context.profiler)
            resources = sampler.finish(ended.user_s + ended.system_s if seen else None, console.device)
        if console.exit_code is not None:  # the trainer's own: a profiler around it may end otherwise
            ended = replace(ended, exit_code=console.exit_code)
        status, reason = judge(console, ended.exit_code, ended, memory_kills() - kills)
        if ended.stopped == "stop" and status == "cancelled":
            status, reason = stopped_as(console)
        end = {"status": status, "reason": reason, "gained": console.gained, "resources": resources}
        content = finished(content, {**end, **_accounts(ended, seen, console.exit_code is not None)})
        content["profile_reason"] = context.profiler.collect(run)
        run.write(content)
        return content


def _sweep_up(run: RunDir) -> None:
    """Take away what kills left of atomic writes: a half checkpoint of YOLOv3 is a quarter of a gigabyte."""
    for path in (run.run_json, run.profile, run.last_weights, run.best_weights):
        for crumb in path.parent.glob(f".{path.name}.*"):
            crumb.unlink()


def _set_aside(run: RunDir) -> None:
    """Empty the folder for a new run: what an edited sweep or a failure without a checkpoint left goes to `superseded/<trial>-<its hash>`.

    run.json goes last: a kill in between is no different from a kill before.
    """
    left = sorted((path for path in run.path.iterdir() if path != run.lock), key=lambda path: path == run.run_json)
    if not left:
        return
    name = f"{run.path.name}-{(run.read() or {}).get('spec_hash', 'unknown')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    target = next(path for path in (run.path.parent / SUPERSEDED / each for each in names) if not path.exists())
    target.mkdir(parents=True)
    for path in left:
        path.rename(target / path.name)


def _begun(cell: Cell, run: RunDir, context: Context, resume: bool, offset: int) -> dict[str, Any]:
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    before = run.read() or {}
    attempts = [{"status": "interrupted", **attempt} for attempt in before.get("attempts", [])]
    return {
        "spec": asdict(cell.spec),
        "spec_hash": cell.spec.hash,
        "platform": context.platform,
        "sweep": context.sweep,
        "trial": cell.trial,
        "argv": command(cell, run, context, resume),
        "status": "running",
        "reason": None,
        "exit_code": None,
        "started_at": before.get("started_at", now),
        "wall_s": None,
        "timeout_s": context.timeout_s,
        "profiler": context.profiler.name,
        "profile_reason": None,
        "version": __version__,
        "environment": collect(cell.spec.data),
        "attempts": [*attempts, {"started_at": now, "resumed": resume, "console_offset": offset}],
    }


def _accounted(ended: local.Ended, profiler: Profiler) -> bool:
    """Whether the kernel's figures of the command hold the trainer's: a killed GNU time had not waited for it."""
    return profiler.waits_for_trainer and not (ended.killed and gnu_time.find())


def _accounts(ended: local.Ended, seen: bool, has_block: bool) -> dict[str, Any]:
    """How the attempt ended and what it used. `accounting` says where the CPU times and the memory are to be read."""
    return {
        "exit_code": ended.exit_code,
        "wall_s": ended.wall_s,
        "accounting": "GNU time" if has_block else "wait4" if seen else None,
        "user_s": round(ended.user_s, 3) if seen else None,
        "system_s": round(ended.system_s, 3) if seen else None,
        "max_rss_bytes": ended.max_rss_bytes if seen else None,
    }
