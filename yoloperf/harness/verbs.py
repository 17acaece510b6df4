"""`yoloperf sweep`, `status` and `explain`."""

import argparse
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.spec import ENGINES
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.harness import slurm_verbs
from yoloperf.harness.estimate import estimate
from yoloperf.harness.launch.submission import overlaid
from yoloperf.harness.profilers import NAMES, gnu_time, make_profiler
from yoloperf.harness.progress import Progress
from yoloperf.harness.supervise import Context, command
from yoloperf.harness.sweep import Place, StopRequests, claimed, run_sweep, survey, tally
from yoloperf.harness.sweepfile import SweepSpec, load_sweep, slug, with_engine

LAUNCHERS = ("local", *slurm_verbs.LAUNCHERS)


@dataclass(frozen=True)
class _Target:
    """A sweep on a platform, and the folder of its runs."""

    sweep: SweepSpec
    platform: str
    folder: Path

    def title(self, places: list[Place]) -> str:
        counts = tally(places)
        others = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if name not in ("cells", "done", "ok"))
        done = f"{counts['done']} of {counts['cells']} cells done" + (f" ({others})" if others else "")
        return f"{self.sweep.name} on {self.platform}: {done}; {self.folder}"


def _place_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--platform", help="name of the machine, a folder below --logs (default: its host name)")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of all runs (default: logs)")
    parser.add_argument("--engine", help=f"trainer of every cell: {' or '.join(ENGINES)} (default: what the sweep file says)")


def _target(file: Path, args: argparse.Namespace) -> _Target:
    platform = args.platform if args.platform is not None else slug(socket.gethostname())
    if slug(platform) != platform:
        raise UserError(f"platform {platform!r} becomes a folder: use letters, digits and _ . + -, such as {slug(platform)}")
    sweep = load_sweep(file)
    if args.engine is not None:
        sweep = with_engine(sweep, args.engine)
    return _Target(sweep, platform, args.logs / platform / sweep.name)


def _configure_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file, see sweeps/README.md")
    _place_flags(parser)
    parser.add_argument("--launcher", default="local", help="local (default), slurm, or slurm-script, which only writes the scripts")
    parser.add_argument("--profiler", default="auto", help=f"{', '.join(NAMES)} (default: auto, which says what it takes and why)")
    parser.add_argument("--profile-steps", type=int, default=10, metavar="N", help="training steps that it looks at (default: 10)")
    parser.add_argument("--dry-run", action="store_true", help="print every command that would run, and an estimate of time, cost and disk")
    slurm_verbs.add_flags(parser)


def sweep_cells(args: argparse.Namespace, trainer: Sequence[str] | None = None) -> Result:
    """Run the cells of a sweep that are not done. Exit code 1 when some are not done at the end, 130 when it was stopped.

    trainer: the training command in place of train.py, which takes the same flags.
    """
    choose(args.launcher, LAUNCHERS, "launcher")
    target = _target(args.file, args)
    by_slurm = args.launcher in slurm_verbs.LAUNCHERS
    devices = {cell.spec.device for cell in target.sweep.cells()}
    profiler, why = make_profiler(args.profiler, args.profile_steps, devices, here=not by_slurm)
    context = Context(target.sweep.name, target.platform, profiler, trainer, target.sweep.timeout_s)
    if args.dry_run:
        return _dry_run(target, context, by_slurm)
    if by_slurm:
        return slurm_verbs.submit(args, target.sweep, target.platform, target.folder, trainer)
    with claimed(target.sweep, target.folder):
        places = survey(target.sweep, target.folder)
        print(target.title(places))
        print(f"profiler: {profiler.name} ({why}); accounting: {gnu_time.find() or 'wait4, since there is no GNU time here'}", flush=True)
        progress = Progress(
            [(item.cell, item.state.wall_s) for item in places if item.state.done],
            [item.cell for item in places if not item.state.done],
        )
        with StopRequests().listening() as stop:
            try:
                early = run_sweep(places, context, stop, progress)
            finally:
                progress.close()
    places = survey(target.sweep, target.folder)
    counts = tally(places)
    print(target.title(places))
    result = _result(target, places, stopped_early=early)
    if counts["done"] == counts["cells"]:
        return 0, result
    if stop.count:
        print(f"stopped; go on with: {_again(args, target)}")
    elif early:
        print(early)
    return 130 if stop.count else 1, result


def _again(args: argparse.Namespace, target: _Target) -> str:
    profiler = ["--profiler", args.profiler, "--profile-steps", str(args.profile_steps)]
    engine = ["--engine", args.engine] if args.engine else []
    return shlex.join(["yoloperf", "sweep", str(args.file), "--platform", target.platform, "--logs", str(args.logs), *engine, *profiler])


def _dry_run(target: _Target, context: Context, by_slurm: bool) -> Result:
    places = survey(target.sweep, target.folder)
    if by_slurm:
        places, _ = overlaid(places, target.folder)
    todo = [item for item in places if not (slurm_verbs.is_left_alone(item) if by_slurm else item.state.done)]
    lines = {item.cell.trial: shlex.join(command(item.cell, item.run, context, item.state.resumes)) for item in todo}
    print(*lines.values(), sep="\n", end="\n" if lines else "")
    print(target.title(places))
    left = [(item.cell, item.state.epochs_done if item.state.resumes else 0) for item in todo]
    guess = estimate(left, target.folder.parents[1], target.platform)
    print(*guess.lines(), sep="\n", end="\n" if todo else "")
    return 0, {**_result(target, places), "commands": lines, "estimate": guess.as_json()}


def _configure_status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="sweep files")
    _place_flags(parser)


def _status(args: argparse.Namespace) -> Result:
    results = []
    for file in args.files:
        target = _target(file, args)
        places, unknown = overlaid(survey(target.sweep, target.folder), target.folder)
        print(target.title(places))
        if unknown:
            print(f"  the queue is unknown, so this is what the files say: {unknown}")
        width = max(len(item.cell.trial) for item in places)
        for item in places:
            state, epochs = item.state, item.cell.spec.epochs
            wall = "" if state.wall_s is None else show_seconds(state.wall_s)
            done = f"{state.epochs_done:3}/{epochs:<3} epochs"
            print(f"  {item.cell.trial:{width}}  {state.state:11}  {done}  {wall:>8}  {_note(item)}".rstrip())
        results.append(_result(target, places))
    return 0, {"sweeps": results}


def _note(item: Place) -> str:
    return "" if item.state.state in ("missing", "ok") else item.state.reason or ""


def _configure_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file")
    parser.add_argument("trial", nargs="?", metavar="TRIAL", help="one cell, by its trial name (default: all)")
    _place_flags(parser)


def _explain(args: argparse.Namespace) -> Result:
    target = _target(args.file, args)
    places, _ = overlaid(survey(target.sweep, target.folder), target.folder)
    if args.trial is not None:
        choose(args.trial, [item.cell.trial for item in places], f"trial of {target.sweep.name}")
        places = [item for item in places if item.cell.trial == args.trial]
    for item in places:
        print(f"{item.cell.trial}: {item.state.why}")
    return 0, _result(target, places)


def _result(target: _Target, places: list[Place], **more: Any) -> dict[str, Any]:
    return {
        "sweep": target.sweep.name,
        "platform": target.platform,
        "folder": str(target.folder),
        "counts": tally(places),
        **more,
        "cells": [
            {
                "trial": item.cell.trial,
                "spec_hash": item.cell.spec.hash,
                "folder": str(item.run.path),
                "state": item.state.state,
                "reason": item.state.reason,
                "why": item.state.why,
                "done": item.state.done,
                "epochs_done": item.state.epochs_done,
                "epochs": item.cell.spec.epochs,
                "wall_s": item.state.wall_s,
            }
            for item in places
        ],
    }


sweep = Verb(
    help="train every cell of a sweep that is not done yet",
    example="yoloperf sweep sweeps/smoke.yaml --platform laptop",
    configure=_configure_sweep,
    run=sweep_cells,
)
status = Verb(
    help="show which cells of a sweep are done, running, failed or missing",
    example="yoloperf status sweeps/study.yaml --platform laptop",
    configure=_configure_status,
    run=_status,
)
explain = Verb(
    help="say for every cell of a sweep why it would run again, or why not",
    example="yoloperf explain sweeps/smoke.yaml yolov3-tiny_smear_bs4_ep1_lr1_s0 --platform laptop",
    configure=_configure_explain,
    run=_explain,
)
