"""What Slurm's commands print, and how a command is brought to its end. The queue itself is tested in tests/slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec
from yoloperf.harness.launch import local, slurm, submission
from yoloperf.harness.launch.slurm import Job
from yoloperf.harness.state import state_of
from yoloperf.harness.sweep import Place
from yoloperf.harness.sweepfile import Cell

ROOT = Path(__file__).parents[2]
# `sacct -nPX -o JobName,JobID,State,NodeList`, the forms of man sacct: tasks that never began are one line
ACCOUNTS = """\
grid|12_[0-2,5%4]|PENDING|None assigned
grid|12_3|CANCELLED by 1000|n1
grid|12_4|OUT_OF_MEMORY|n2
grid|12_6|RUNNING|n3
"""
QUEUE = "grid|12|6|COMPLETING|n3|None\ngrid|12|7|PENDING||Resources\n"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, subprocess.CompletedProcess[str] | OSError]:
    """What Slurm's commands answer."""
    answers: dict[str, subprocess.CompletedProcess[str] | OSError] = {}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        answer = answers[command[0]]
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "_run", run)
    return answers


def printed(text: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, text, "slurm_load_jobs error: Unable to contact slurm controller")


def test_accounting_tells_of_tasks_that_have_left_the_queue(commands: dict[str, object]) -> None:
    commands.update(sacct=printed(ACCOUNTS), squeue=printed(QUEUE))
    jobs, unknown = slurm.jobs(["grid"], "2026-01-01")
    assert unknown is None
    assert {task for _, task in jobs} == {0, 1, 2, 3, 4, 5, 6, 7}
    assert all(jobs["grid", task].waits for task in (0, 1, 2, 5, 7))
    assert jobs["grid", 3].verdict == ("cancelled", "the job was cancelled")
    assert jobs["grid", 4].verdict == ("oom", "Slurm killed the job for memory")
    assert jobs["grid", 6] == Job("12_6", "COMPLETING", "n3"), "the queue knows better than the accounting, which lags"


def test_without_accounting_the_queue_suffices_and_the_other_way_round(commands: dict[str, object]) -> None:
    commands.update(sacct=OSError(2, "No such file"), squeue=printed(QUEUE))
    assert len(slurm.jobs(["grid"], "2026-01-01")[0]) == 2
    commands.update(sacct=printed("Slurm accounting storage is disabled", 1))
    assert len(slurm.jobs(["grid"], "2026-01-01")[0]) == 2
    commands.update(sacct=printed(ACCOUNTS), squeue=printed("", 1))
    jobs, unknown = slurm.jobs(["grid"], "2026-01-01")
    assert len(jobs) == 7 and "Unable to contact slurm controller" in str(unknown)


def test_a_job_without_memory_for_its_start_says_nothing_of_the_batch_size(tmp_path: Path) -> None:
    cell = Cell(TrialSpec(cfg="yolov3-tiny"), "trial")
    run = RunDir(tmp_path / "trial")
    output = tmp_path / "task-0.log"
    output.write_text("yoloperf task 0\nslurmstepd: error: Detected 1 oom_kill event\n")
    state = submission._state(Place(cell, run, state_of(cell, run)), output, Job("12_0", "OUT_OF_MEMORY", "n1"))
    assert (state.state, state.done) == ("failed", False)
    assert str(state.reason).startswith("Slurm killed the job for memory before the cell began")


def test_a_scheduler_that_grants_more_time_lets_a_checkpoint_be_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PATIENCE_S", 0.01)
    monkeypatch.setattr(local, "_AFTER_TERM_S", 0.01)
    writes = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, lambda *_: (time.sleep(0.5), print('written'), sys.exit(3)))\n"
        "print('began', flush=True)\ntime.sleep(60)"
    )

    def ended(patience_s: float | None) -> tuple[local.Ended, str]:
        console = tmp_path / f"{patience_s}.log"
        lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
        try:
            asked = lambda: int(console.exists() and b"began" in console.read_bytes())  # noqa: E731
            return local.run([sys.executable, "-c", writes], console, lock, None, asked, lambda pid: None, patience_s), console.read_text()
        finally:
            os.close(lock)

    hurried, text = ended(None)
    assert hurried.killed and "written" not in text
    granted, text = ended(30.0)
    assert granted.exit_code == 3 and "written" in text


def test_a_container_sees_the_scratch_folder_that_the_site_names(tmp_path: Path) -> None:
    script = (ROOT / "slurm" / "env.sh").read_text()
    script = script.replace("# SLURM_TMPDIR=/scratch/", f"SLURM_TMPDIR={tmp_path}/").replace("# yoloperf=(apptainer", "yoloperf=(apptainer")
    environment = {"PATH": os.environ["PATH"], "HOME": "/home", "SLURM_JOB_ID": "7"}
    command = ["bash", "-euc", script + '\nprintf "%s\n" "${yoloperf[@]}"']
    words = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"{tmp_path},{tmp_path}/7" in words
