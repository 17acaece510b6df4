"""A sweep's cells handed to Slurm: what was submitted is frozen in a folder, so that no later edit shifts a task to another cell.

`<logs>/<platform>/<sweep>/.slurm/<number>/` holds submission.json, the two scripts and the output of every task.
"""

import hashlib
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from yoloperf.core.environment import SOURCE_ROOT
from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir, write_atomic
from yoloperf.core.spec import from_mapping
from yoloperf.harness.launch import slurm
from yoloperf.harness.profilers import Profiler
from yoloperf.harness.state import CellState, state_of
from yoloperf.harness.supervise import Context
from yoloperf.harness.sweep import Place
from yoloperf.harness.sweepfile import Cell

_FOLDER = ".slurm"  # hidden: its files are no logs of runs
_MARK = "yoloperf task "  # begins the first line of every start of a task in its output
_PATIENCE_S = 105.0  # of the 120 s that slurm/sweep.sbatch asks for, what a step and a checkpoint may take
_OPTION = re.compile(r"^#SBATCH.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Submission:
    """An array of cells: task N runs cells[N]."""

    folder: Path
    name: str  # of the job, unique
    sweep: str
    platform: str
    submitted_at: str
    timeout_s: float | None
    profiler: str
    profile_steps: int
    trainer: list[str] | None
    cells: list[tuple[Cell, RunDir]]

    @property
    def script(self) -> Path:
        return self.folder / "sweep.sbatch"

    @property
    def collect_script(self) -> Path:
        return self.folder / "collect.sbatch"

    def output(self, task: int) -> Path:
        """What a task and Slurm wrote, start after start."""
        return self.folder / f"task-{task}.log"

    def context(self, profiler: Profiler) -> Context:
        return Context(self.sweep, self.platform, profiler, self.trainer, self.timeout_s, _PATIENCE_S)


def freeze(sweep_folder: Path, places: Sequence[Place], **facts: Any) -> Submission:
    """Write down which cells the next array consists of. `facts`: the further fields of a Submission."""
    above = sweep_folder.absolute() / _FOLDER
    number = next(number for number in itertools.count(1) if not (above / str(number)).exists())
    folder = above / str(number)
    now = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    token = hashlib.sha256(f"{folder} {now} {os.getpid()}".encode()).hexdigest()[:6]
    name = f"yoloperf-{facts['sweep']}-{token}"
    cells = [(item.cell, RunDir(item.run.path.absolute())) for item in places]
    submission = Submission(folder, name, submitted_at=now, cells=cells, **facts)
    content = {key: value for key, value in vars(submission).items() if key not in ("folder", "cells")}
    listed = [{"trial": cell.trial, "spec_hash": cell.spec.hash, "run": str(run.path), "spec": asdict(cell.spec)} for cell, run in cells]
    write_atomic(folder / "submission.json", json.dumps({**content, "cells": listed}, indent=1) + "\n")
    return submission


def load(folder: Path) -> Submission:
    """Raises UserError where there is none."""
    path = folder.absolute() / "submission.json"
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{folder} holds no submission ({error.strerror}): make one with --launcher slurm-script") from error
    cells = [(Cell(item["trial"], from_mapping(item["spec"])), RunDir(item["run"])) for item in content.pop("cells")]
    return Submission(folder.absolute(), cells=cells, **content)


def submissions(sweep_folder: Path) -> list[Submission]:
    """Those of a sweep, the latest first."""
    folders = [path.parent for path in sweep_folder.glob(f"{_FOLDER}/*/submission.json")]
    return [load(folder) for folder in sorted(folders, key=lambda folder: -int(folder.name))]


def write_scripts(submission: Submission, at_once: int, options: Sequence[str], shared: Sequence[str]) -> None:
    """Write both scripts: the readable ones of slurm/ with the options of this submission behind their own.

    options: of sbatch, for the array; shared: those that the collecting job takes, too.
    """
    last = len(submission.cells) - 1
    common = [f"--chdir={os.getcwd()}", *shared]
    array = [f"--job-name={submission.name}", f"--array=0-{last}%{at_once}", f"--output={submission.folder}/task-%a.log"]
    collect = [f"--job-name={submission.name}-collect", f"--output={submission.folder}/collect.log"]
    stems = sorted({Path(cell.spec.data).stem for cell, _ in submission.cells})
    _write(submission.script, [*array, *common, *options], submission, stems)
    _write(submission.collect_script, [*collect, *common], submission, ())  # it trains nothing


def _write(path: Path, options: list[str], submission: Submission, staged: Sequence[str]) -> None:
    template = SOURCE_ROOT / "slurm" / path.name
    try:
        text = template.read_text()
    except OSError as error:
        raise UserError(f"cannot read {template} ({error.strerror}): Slurm needs the source tree, git clone it") from error
    lines = [
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "",
        f"set -- {shlex.quote(str(submission.folder))}",
        f"export YOLOPERF_ROOT={shlex.quote(str(SOURCE_ROOT))}",
        f': "${{YOLOPERF_PYTHON:={sys.executable}}}" "${{YOLOPERF_STAGE={" ".join(staged)}}}"',
    ]
    end = list(_OPTION.finditer(text))[-1].end()
    write_atomic(path, text[:end] + "\n".join(lines) + "\n" + text[end:])


def announce(task: int, trial: str) -> None:
    """Begin a task's output; what Slurm writes behind it is about this start."""
    print(f"{_MARK}{task}: {trial}", file=sys.stderr, flush=True)  # where Slurm's words go, too


def said(output: Path, since: str | None = None) -> tuple[str, str] | None:
    """Status and reason that Slurm wrote behind the last start of a task; None where it wrote nothing.

    since: only if the output was written to after this ISO time.
    """
    try:
        if since and output.stat().st_mtime < datetime.fromisoformat(since).timestamp():
            return None
        text = output.read_text(errors="replace")
    except OSError:
        return None
    return slurm.last_words(text.rpartition(f"\n{_MARK}")[2])


def overlaid(places: Sequence[Place], sweep_folder: Path) -> tuple[list[Place], str | None]:
    """The places with what Slurm knows of them: queued, running elsewhere, or how it ended them. Files stay as they are.

    Also returns why the queue is unknown; None where it is known or nothing was ever submitted.
    """
    all_of_them = submissions(sweep_folder)
    if not all_of_them:
        return list(places), None
    jobs, unknown = slurm.jobs([each.name for each in all_of_them], min(each.submitted_at for each in all_of_them)[:10])
    tasks: dict[str, tuple[Submission, int, slurm.Job | None]] = {}  # by spec: the latest task, but an active one before all
    for submission in reversed(all_of_them):
        for task, (cell, _) in enumerate(submission.cells):
            before = tasks.get(cell.spec.hash)
            if not (before and before[2] and before[2].active):
                tasks[cell.spec.hash] = submission, task, jobs.get((submission.name, task))
    shown = []
    for item in places:
        if item.cell.spec.hash in tasks and not item.state.done:
            submission, task, job = tasks[item.cell.spec.hash]
            item = replace(item, state=_state(item, submission.output(task), job))
        shown.append(item)
    return shown, unknown


def _state(item: Place, output: Path, job: slurm.Job | None) -> CellState:
    state = item.state
    if job and job.waits:
        again = f" to go on after epoch {state.epochs_done}" if state.resumes and state.epochs_done else ""
        return replace(state, state="queued", reason=f"job {job.number} waits{again}: {job.where}")
    if job and job.active:
        return replace(state, state="running", reason=f"job {job.number} on {job.where}")
    if state.state == "missing" and job:
        status, reason = job.verdict or ("failed", "the job ended")
        if status == "oom":  # of Python's start or of staging: no batch size was tried
            status = "failed"
        last = _last_line(output)
        return replace(state, state=status, reason=f"{reason} before the cell began" + (f": {last}" if last else ""))
    if state.state == "interrupted":
        content = item.run.read() or {}
        since = (content.get("attempts") or [{}])[-1].get("started_at")
        verdict = said(output, since) or (job.verdict if job else None)
        if verdict:
            return replace(state, state=verdict[0], reason=verdict[1])
    return state


def _last_line(output: Path) -> str:
    try:
        lines = output.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def survey_of(submission: Submission) -> list[Place]:
    """The cells of one submission with their state, what Slurm knows included."""
    places = [Place(cell, run, state_of(cell, run)) for cell, run in submission.cells]
    return overlaid(places, submission.folder.parents[1])[0]
