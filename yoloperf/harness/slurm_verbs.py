"""`yoloperf sweep --launcher slurm` and `slurm-script`, and `yoloperf task`, which the jobs call."""

import argparse
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.verb import Result, Verb
from yoloperf.harness.launch import slurm, submission
from yoloperf.harness.launch.submission import Submission, overlaid
from yoloperf.harness.outcome import DONE
from yoloperf.harness.sweep import Place, claimed, survey
from yoloperf.harness.sweepfile import SweepSpec
from yoloperf.harness.task import run_task, settle

LAUNCHERS = ("slurm", "slurm-script")
_SHARED = ("partition", "account")  # the collecting job needs them as well
_OWN = ("time", "mem", "gres", "cpus_per_task")


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("Slurm", "what sbatch takes; what is not given is as slurm/sweep.sbatch says")
    group.add_argument("--partition", metavar="NAME")
    group.add_argument("--account", metavar="NAME")
    group.add_argument("--time", metavar="TIME", help="limit of a cell, such as 04:00:00; it goes on in another job where it takes longer")
    group.add_argument("--mem", metavar="SIZE", help="memory of a cell, such as 16G")
    group.add_argument("--gres", metavar="LIST", help="devices of a cell, such as gpu:v100:1; none for the CPU")
    group.add_argument("--cpus", dest="cpus_per_task", metavar="N", help="CPUs of a cell")
    group.add_argument("--at-once", type=int, default=8, metavar="K", help="cells that run at the same time (default: 8)")
    group.add_argument("--sbatch-arg", action="append", default=[], metavar="ARG", help="any other, as --sbatch-arg=--qos=long; repeatable")


def submit(args: argparse.Namespace, sweep: SweepSpec, platform: str, folder: Path, trainer: Sequence[str] | None) -> Result:
    """Submit an array of the cells that are neither done nor in the queue, and a job that collects the results behind it."""
    if args.at_once < 1:
        raise UserError(f"--at-once must be at least 1, not {args.at_once}")
    with claimed(sweep, folder):
        places, unknown = overlaid(survey(sweep, folder), folder)
        if unknown and args.launcher == "slurm":
            raise UserError(f"what is in the queue already is not known, nothing was submitted: {unknown}")
        todo = [item for item in places if not is_left_alone(item)]
        for item in places:
            if item.state.done and item.state.settled:
                item.run.write(item.state.settled)
        if not todo:
            print("nothing to submit: every cell is done, queued or running")
            return 0, {"submitted": [], "job_id": None, "folder": None}
        frozen = submission.freeze(
            folder, todo, sweep=sweep.name, platform=platform, timeout_s=sweep.timeout_s,
            profiler=args.profiler, profile_steps=args.profile_steps, trainer=list(trainer) if trainer else None,
        )  # fmt: skip
        submission.write_scripts(frozen, args.at_once, [*_options(args, _OWN), *args.sbatch_arg], _options(args, _SHARED))
        result = {"submitted": [item.cell.trial for item in todo], "folder": str(frozen.folder), "job_id": None}
        for item in todo:
            print(f"{item.cell.trial}: {item.state.why}")
        script, collect = _relative(frozen.script), _relative(frozen.collect_script)
        if args.launcher == "slurm-script":
            print(f"{len(todo)} cells; submit them with:")
            print(f"  job=$(sbatch --parsable {script}); sbatch --dependency=afterany:${{job%%;*}} {collect}")
            return 0, result
        try:
            job_id = slurm.submit(frozen.script)
        except slurm.Refused as refused:
            job_id = _accepted(frozen, refused)
        except UserError:
            shutil.rmtree(frozen.folder)
            raise
        result["job_id"] = job_id
    print(f"{len(todo)} cells are array job {job_id}; sbatch {script}")
    try:
        result["collect_job_id"] = slurm.submit(frozen.collect_script, f"--dependency=afterany:{job_id}")
    except UserError as error:
        print(f"but without the job that collects the results: {error}")
    else:
        print(f"job {result['collect_job_id']} then writes {folder / 'runs.csv'}; sbatch --dependency=afterany:{job_id} {collect}")
    return 0, result


def _accepted(frozen: Submission, refused: slurm.Refused) -> str:
    """Number of the array where Slurm has it all the same: sbatch gives up on a slow controller, which may have taken the job by then."""
    found, unknown = slurm.jobs([frozen.name], frozen.submitted_at[:10])
    if found:
        return next(iter(found.values())).number.partition("_")[0]
    if unknown:
        raise UserError(f"{refused}; whether the job is queued all the same is not known ({unknown}): yoloperf status tells") from refused
    shutil.rmtree(frozen.folder)
    raise UserError(f"{refused}; nothing was submitted") from refused


def is_left_alone(item: Place) -> bool:
    """Whether the cell is not submitted: it is done, in the queue or running."""
    return item.state.state in (*DONE, "queued", "running")


def _options(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name in names if (value := getattr(args, name)) is not None]


def _relative(path: Path) -> str:
    return shlex.quote(os.path.relpath(path))


def _configure_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="what was submitted: a folder below .slurm/ of a sweep's folder")
    parser.add_argument("--index", type=int, metavar="N", help="which of its cells (default: the number of the array's task)")
    parser.add_argument("--settle", action="store_true", help="run nothing; write the last word of cells that Slurm ended")


def _task(args: argparse.Namespace) -> Result:
    frozen = submission.load(args.folder)
    if args.settle:
        settled = settle(frozen)
        for item in settled:
            print(f"{item.cell.trial}: {item.state.state}: {item.state.reason}")
        return 0, {"settled": [_row(item) for item in settled]}
    content = run_task(frozen, _index(args.index, frozen))
    return int(content["status"] not in DONE), content


def _index(given: int | None, frozen: Submission) -> int:
    index = given if given is not None else int(os.environ.get("SLURM_ARRAY_TASK_ID", -1))
    if not 0 <= index < len(frozen.cells):
        raise UserError(f"{frozen.folder} has cells 0 to {len(frozen.cells) - 1}: give one with --index, or submit it as an array")
    return index


def _row(item: Place) -> dict[str, Any]:
    return {"trial": item.cell.trial, "status": item.state.state, "reason": item.state.reason}


task = Verb(
    help="run one cell of a sweep that was submitted to Slurm: what a task of the array does",
    example="yoloperf task logs/cluster/study/.slurm/1 --index 3",
    configure=_configure_task,
    run=_task,
)
