"""Sweeps on a real Slurm of one node."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.harness.conftest import alive, chain
from tests.slurm.conftest import SMALL, SlurmHouse
from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.datasets import smear

LONG = "yolov3-tiny_smear_bs4_ep3_lr1_s0"
SMEAR = """
name: grid
fixed: {data: smear.yaml, cfg: yolov3-tiny, weights: "", img_size: 64, precision: fp32, threads: 1, workers: 1, batch_size: 2, epochs: 4}
"""
SIXTY = "yolov3-tiny_smear_bs{}_ep60_lr1_s0"


def test_every_ending_has_its_status_and_the_second_call_takes_the_unfinished_ones(lab: SlurmHouse) -> None:
    cells = [{"hyp": "long", "epochs": 8}, *({"hyp": name} for name in ("slow", "fail", "oom", "greedy", "hang"))]
    lab.write(axes={"batch": [4, 8]}, hyp="ok", include=cells)
    assert len(lab.submitted("--time", "1")) == 8
    lab.wait(lambda: list(lab.states().values()).count("running") == 2)
    lab.wait(lambda: len(lab.work("yolov3-tiny_smear_bs16_ep8_lr1_s0_hyplong")) > 1)
    lab.cluster.run("sbatch", "--partition=urgent", "--cpus-per-task=8", "--mem=100", "--output=/dev/null", "--wrap=sleep 0.5")
    preempted = lab.wait(lambda: lab.runs()["long", 16]["status"] == "preempted" and lab.runs())
    assert preempted["long", 16]["reason"] == "preempted by a job of higher priority"
    lab.wait(lambda: lab.states()["long", 16] == "queued")
    lab.wait_for_end(100)
    rows = lab.rows()
    assert {key: row["status"] for key, row in rows.items()} == {
        ("ok", 4): "ok",
        ("ok", 8): "ok",
        ("long", 16): "ok",
        ("slow", 16): "ok",
        ("fail", 16): "failed",
        ("oom", 16): "oom",
        ("greedy", 16): "oom",
        ("hang", 16): "timeout",
    }
    assert rows["long", 16]["attempts"] == "2"
    assert "killed the job for memory" in rows["greedy", 16]["reason"]
    assert "no step was gained" in rows["hang", 16]["reason"]
    assert lab.submitted("--sbatch-arg=--hold") == {("fail", 16), ("hang", 16)}
    assert lab.submitted() == set(), "they are in the queue already"


def test_a_time_limit_that_nobody_heard_of_is_a_timeout(lab: SlurmHouse) -> None:
    lab.write(batch=4, hyp="stubborn", epochs=3)
    job = lab.submit("--sbatch-arg=--signal=B:CONT@1", "--time", "1")["job_id"]
    pids = [pid for _, pid in lab.wait(lambda: len(lab.work(LONG)) == 2 and lab.work(LONG))]
    lab.cluster.run("scontrol", "update", f"JobId={job}_0", "EndTime=now+1")  # Slurm looks every half minute
    lab.wait_for_end(70)
    (row,) = lab.rows().values()
    assert (row["status"], row["reason"]) == ("timeout", "the job's time limit")
    assert not any(map(alive, pids))
    assert lab.submitted("--sbatch-arg=--hold") == {("", 4)}


def test_usr1_checkpoints_within_the_epoch_and_the_task_requeues_itself(lab: SlurmHouse) -> None:
    lab.write(batch=4, hyp="long", epochs=3)
    job = lab.submit()["job_id"]
    lab.wait(lambda: len(lab.work(LONG)) == 2)
    lab.cluster.run("scancel", "--batch", "--signal=USR1", f"{job}_0")
    content = lab.wait(lambda: lab.runs()["", 4]["status"] == "preempted" and lab.runs()["", 4])
    assert content["reason"] == "stopped by SIGINT in epoch 2" and content["attempts"][0]["gained"]
    lab.wait(lambda: lab.states()["", 4] == "queued")
    lab.wait_for_end()
    content = lab.runs()["", 4]
    assert [(each["status"], each["resumed"]) for each in content["attempts"]] == [("preempted", False), ("ok", True)]
    step, weights = json.loads(lab.run(LONG).last_weights.read_text())
    assert (step, weights) == (15, chain(content["spec_hash"], 15)), "the same as without the interruption"
    assert lab.rows()["", 4]["status"] == "ok"


def test_a_task_that_gains_nothing_does_not_go_round_for_ever(lab: SlurmHouse) -> None:
    lab.write(batch=4, hyp="hang", epochs=3)
    job = lab.submit()["job_id"]
    for start in (1, 2):
        lab.wait(lambda start=start: len(lab.work(LONG)) == start, hurry=True)
        lab.cluster.run("scancel", "--batch", "--signal=USR1", f"{job}_0")
    lab.wait_for_end()
    content = lab.runs()["", 4]
    assert [each["status"] for each in content["attempts"]] == ["preempted", "timeout"]
    assert "ask for more --time" in content["reason"]


def test_cancelled_cells_do_not_requeue_themselves_and_run_in_the_next_call(lab: SlurmHouse) -> None:
    lab.write(axes={"batch": [4, 8, 16]}, hyp="long", epochs=3)
    job = lab.submit("--at-once", "1")["job_id"]
    lab.wait(lambda: len(lab.work(LONG)) == 2)
    assert sorted(lab.states().values()) == ["queued", "queued", "running"]
    assert lab.sweep("--launcher", "slurm", "--dry-run")[1]["commands"] == {}, "nothing would be submitted"
    lab.cluster.run("scancel", job)
    lab.wait_for_end()
    assert {key: row["status"] for key, row in lab.rows().items()} == {("", batch): "cancelled" for batch in (4, 8, 16)}
    assert lab.rows()["", 16]["reason"] == "the job was cancelled before the cell began"
    assert lab.submitted() == {("", 4), ("", 8), ("", 16)}
    lab.wait_for_end()
    assert set(lab.states().values()) == {"ok"}
    assert [each["resumed"] for each in lab.runs()["", 4]["attempts"]] == [False, True]


def test_a_lost_node_gives_its_cells_back(lab: SlurmHouse) -> None:
    lab.write(batch=4, hyp="long", epochs=3)
    lab.submit()
    lab.wait(lambda: len(lab.work(LONG)) == 2)
    task = lab.task_pid(LONG)
    lab.cluster.run("scontrol", "update", "NodeName=node1", "State=DOWN", "Reason=test")
    lab.wait(lambda: lab.states()["", 4] == "queued" and not alive(task))
    time.sleep(1)  # for slurmd to notice, too
    lab.cluster.run("scontrol", "update", "NodeName=node1", "State=RESUME")
    lab.wait_for_end()
    content = lab.runs()["", 4]
    assert content["status"] == "ok" and content["attempts"][1]["resumed"]
    assert content["attempts"][0]["status"] in ("preempted", "interrupted")


def test_slurmctld_killed_in_the_middle(lab: SlurmHouse) -> None:
    lab.write(axes={"hyp": ["long", "ok"]}, batch=4, epochs=6)
    lab.submit("--at-once", "1")
    lab.wait(lambda: len(lab.work(LONG.replace("ep3", "ep6") + "_hyplong")) == 4)  # slurmctld writes down what it knows every five seconds
    lab.cluster.kill_controller()
    try:
        assert lab.states() == {("long", 4): "running", ("ok", 4): "missing"}
        with pytest.raises(UserError, match="not known, nothing was submitted: squeue: .*controller"):
            lab.submit()
    finally:
        lab.cluster.start_controller()
    assert lab.submitted() == set()
    lab.wait_for_end()
    assert {key: row["status"] for key, row in lab.rows().items()} == {("long", 4): "ok", ("ok", 4): "ok"}
    assert all(len(content["attempts"]) == 1 for content in lab.runs().values())


def test_a_refused_submission_leaves_nothing(lab: SlurmHouse) -> None:
    lab.write(batch=4)
    with pytest.raises(UserError, match="sbatch refused: .*invalid partition specified: nowhere; .*; nothing was submitted$") as refused:
        lab.submit("--partition", "nowhere")
    assert "\n" not in str(refused.value)
    assert lab.states() == {("", 4): "missing"} and not list(lab.folder.glob(".slurm/*"))


def test_a_job_that_was_taken_though_sbatch_gave_up_is_not_submitted_twice(
    lab: SlurmHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.write(batch=4)
    impatient = tmp_path / "bin" / "sbatch"
    impatient.parent.mkdir()
    impatient.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null\necho "sbatch: error: Socket timed out" >&2\nexit 1\n')
    impatient.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{impatient.parent}:{os.environ['PATH']}")
        job = lab.submit("--sbatch-arg=--hold")["job_id"]
    assert [row[0] for row in lab.queue() if "_0" in row[0]] == [f"{job}_0"]
    assert lab.submitted() == set()


def test_an_edited_sweep_does_not_shift_the_tasks(lab: SlurmHouse) -> None:
    lab.write(axes={"batch": [4, 8]})
    job = lab.submit("--sbatch-arg=--hold")["job_id"]
    lab.write(axes={"batch": [2, 4, 8]})
    lab.cluster.run("scontrol", "release", job)
    lab.wait_for_end()
    assert lab.states() == {("", 2): "missing", ("", 4): "ok", ("", 8): "ok"}
    assert all(content["spec"]["batch_size"] == batch for (_, batch), content in lab.runs().items())


def test_a_script_that_a_person_submits_is_known_by_its_name(lab: SlurmHouse, capsys: pytest.CaptureFixture[str]) -> None:
    lab.write(axes={"batch": [4, 8]}, hyp="slow")
    code, _ = lab.sweep("--launcher", "slurm-script", "--gres", "none", "--mem", "300", "--cpus", "1", "--time", "10", "--json")
    assert code == 0 and not lab.queue()
    line = capsys.readouterr().out.splitlines()[-1]
    subprocess.run(["bash", "-ec", line], check=True, capture_output=True)
    assert lab.submitted() == set()
    lab.wait_for_end()
    assert {row["status"] for row in lab.rows().values()} == {"ok"}


def test_a_cell_that_cannot_begin_on_its_node(lab: SlurmHouse) -> None:
    lab.write(batch=4)
    lab.submit("--profiler", "nvprof")
    lab.wait_for_end()
    (row,) = lab.rows().values()
    assert row["status"] == "failed" and "profiler nvprof cannot work" in row["reason"]


def test_the_second_of_two_submissions_at_once_refuses(lab: SlurmHouse) -> None:
    lab.write(batch=4)
    with lock.held(lab.folder / ".sweep.lock", "sweep"), pytest.raises(lock.Busy, match=f"is being run by process {os.getpid()} "):
        lab.submit()
    assert not lab.queue()


def test_data_is_staged_on_the_node(lab: SlurmHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, scratch = tmp_path / "shared data", tmp_path / "scratch"
    for name in ("smear", "other", "smear/.yoloperf"):
        (shared / name).mkdir(parents=True)
    (shared / "smear" / "one.png").write_text("1")
    (shared.parent / "weights").mkdir()
    scratch.mkdir()
    monkeypatch.setenv("YOLOPERF_DATA", str(shared))
    monkeypatch.setenv("SLURM_TMPDIR", str(scratch))
    lab.write(batch=4)
    lab.submit()
    lab.wait_for_end()
    assert lab.states() == {("", 4): "ok"}
    own = scratch / "yoloperf-data"
    assert (own / "smear" / "one.png").read_text() == "1" and not (own / "smear").is_symlink()
    assert not (own / "smear" / ".yoloperf").exists()
    assert (own / "other").readlink() == shared / "other" and (own / "weights").is_symlink()
    (script,) = lab.folder.glob(".slurm/*/collect.sbatch")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["bash", script], env={**os.environ, "SLURM_TMPDIR": str(elsewhere)}, check=True, capture_output=True)
    assert (elsewhere / "yoloperf-data" / "smear").is_symlink(), "the collecting job copies nothing"


def test_twenty_kills_of_anything_lose_nothing(lab: SlurmHouse) -> None:
    """SIGKILL of the call that submits, of tasks and of trainings, at random."""
    lab.write(axes={"batch": [4, 8, 16, 32]}, hyp="slow", epochs=60)
    chance = random.Random(2020)
    kills = 0
    while kills < 20:
        if chance.random() < 0.3:
            calling = lab.start("--launcher", "slurm", *SMALL)
            time.sleep(chance.uniform(0.2, 0.6))
            calling.kill()
            calling.communicate()
            kills += calling.returncode == -signal.SIGKILL
        lab.submit()
        time.sleep(chance.uniform(0.1, 0.6))
        running = [key for key, state in lab.states().items() if state == "running" and lab.work(SIXTY.format(key[1]))]
        if running:
            trial = SIXTY.format(chance.choice(running)[1])
            try:
                os.kill(lab.task_pid(trial) if chance.random() < 0.7 else lab.work(trial)[-1][1], signal.SIGKILL)
                kills += 1
            except (FileNotFoundError, ProcessLookupError, IndexError):
                continue  # it has just ended, or begun anew
        elif set(lab.states().values()) == {"ok"}:
            break
    while set(lab.states().values()) != {"ok"}:
        lab.submit()
        lab.wait_for_end()
    assert kills >= 20, "the trainings ended before"
    for content in lab.runs().values():
        run = lab.run(content["trial"])
        assert [each["status"] for each in content["attempts"]].count("ok") == 1
        assert json.loads(run.last_weights.read_text()) == [300, chain(content["spec_hash"], 300)]
        logs = [run.console, *lab.folder.glob(f"superseded/{content['trial']}*/console.log")]
        assert not any("BlockingIOError" in log.read_text() for log in logs), "two processes worked on it at once"


def test_a_training_that_slurm_stopped_ends_like_one_that_it_did_not(lab: SlurmHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.file.parent)
    monkeypatch.delenv("YOLOPERF_DATA", raising=False)
    smear.generate(Path("datasets/smear"), {"train": 24, "val": 2, "test": 1}, size=(160, 120))
    lab.file.write_text(SMEAR)
    jobs = {}
    for logs in ("whole", "cut"):
        command = ["sweep", "grid.yaml", "--platform", "here", "--logs", logs, "--launcher", "slurm", "--profiler", "none", *SMALL]
        done = subprocess.run([sys.executable, "-m", "yoloperf", *command, "--mem=2G", "--json"], capture_output=True, text=True)
        jobs[logs] = json.loads(done.stdout.splitlines()[-1])["job_id"]
    lab.folder = Path("cut", "here", "grid").absolute()
    cut = lab.run("yolov3-tiny_smear_bs2_ep4_lr1_s0")
    lab.wait(lambda: cut.console.exists() and '"key": "epoch"' in cut.console.read_text())
    lab.cluster.run("scancel", "--batch", "--signal=USR1", f"{jobs['cut']}_0")
    lab.wait_for_end()
    attempts = (cut.read() or {})["attempts"]
    assert [each["status"] for each in attempts] == ["preempted", "ok"]
    lab.folder = Path("whole", "here", "grid").absolute()
    lab.wait_for_end()
    states = [torch.load(run.last_weights, weights_only=True)["state"] for run in (lab.run(cut.path.name), cut)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
