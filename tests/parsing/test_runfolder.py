"""Run folders: run.json, the console and the profile into one row."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.parsing.parse import parse_paths

SPEC = {"data": "bccd.yaml", "weights": "yolov3-tiny.weights", "batch_size": 4, "epochs": 2, "img_size": 416, "seed": 7}
START = {"key": "run_start", "spec": SPEC, "engine": "yoloperf", "model": "yolov3-tiny", "dataset": "bccd", "precision_mode": "bf16"}
LOSSES = {"box_loss": 0.5, "obj_loss": 0.25, "cls_loss": 0.125}
EPOCH = {"key": "epoch", **LOSSES, "precision": 0.5, "recall": 0.75, "map50": 0.625, "train_s": 9.5}
END = {"key": "run_end", "status": "ok", "epochs_done": 2, "images_per_s": 20.5, "step_time_s": 0.25, "data_time_s": 0.01}
KERNEL = {"name": "aten::mkldnn_convolution", "calls": 10, "total_s": 0.75, "avg_s": 0.075, "min_s": 0.05, "max_s": 0.125}
OTHER = {"name": "aten::native_batch_norm", "calls": 10, "total_s": 0.25, "avg_s": 0.025, "min_s": 0.02, "max_s": 0.03}
OK_BLOCK = (GOLDEN / "gnu_time_ok.txt").read_text()


def block(user: str, system: str, wall: str, rss: int) -> str:
    lines = []
    for line in OK_BLOCK.splitlines():
        label = line.rpartition(": ")[0]
        for start, value in (("\tUser", user), ("\tSystem", system), ("\tElapsed", wall), ("\tMaximum", rss)):
            if line.startswith(start):
                line = f"{label}: {value}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def event(**fields: Any) -> str:
    return ":::YOLOPERF " + json.dumps(fields) + "\n"


CONSOLE = event(**START) + "a line for people\n" + event(epoch=1, **EPOCH) + event(epoch=2, **EPOCH) + event(**END)


def make(folder: Path, console: str = CONSOLE + block("61.25", "7.75", "0:34.50", 2000), profile: Any = None, **run_json: Any) -> Path:
    folder.mkdir(parents=True)
    content = {"spec": SPEC, "spec_hash": "abc", "platform": "p", "sweep": "s", "trial": "t", "status": "ok", "exit_code": 0, **run_json}
    content.setdefault("attempts", [{"accounting": "GNU time", "wall_s": 34.6}])
    (folder / "run.json").write_text(json.dumps(content))
    (folder / "console.log").write_text(console)
    if profile is not None:
        (folder / "profile.json").write_text(json.dumps(profile))
    return folder


def test_a_run_folder_is_one_row(tmp_path: Path) -> None:
    profile = {"profiler": "torch", "domain": "cpu", "steps": 3, "kernels": [KERNEL, OTHER], "reason": None}
    environment = {"hostname": "h1", "cpu_name": "EPYC", "cpu_count": 2, "mem_bytes": 100, "git_commit": "abc+", "gpu_name": None}
    folder = make(tmp_path / "x", profile=profile, wall_s=34.6, environment=environment, argv=["a", "b"])
    result = parse_paths([folder])
    (run,) = result.runs
    assert result.rejected == []
    assert (run.run_id, run.platform, run.sweep, run.trial, run.spec_hash) == ("p/s/t", "p", "s", "t", "abc")
    assert (run.engine, run.model, run.dataset, run.weights, run.precision_mode) == (
        "yoloperf",
        "yolov3-tiny",
        "bccd",
        "yolov3-tiny.weights",
        "bf16",
    )
    assert (run.batch_size, run.epochs, run.epochs_done, run.img_size, run.seed) == (4, 2, 2, 416, 7)
    assert (run.status, run.reason, run.exit_code, run.attempts, run.command) == ("ok", None, 0, 1, "a b")
    assert (run.user_s, run.system_s, run.wall_s, run.max_rss_bytes) == (61.25, 7.75, 34.6, 2000 * 1024)  # wall: all attempts, of run.json
    assert (run.images_per_s, run.step_time_s, run.data_time_s, run.mfu) == (20.5, 0.25, 0.01, None)
    assert (run.box_loss, run.obj_loss, run.cls_loss, run.precision, run.recall, run.map50) == (0.5, 0.25, 0.125, 0.5, 0.75, 0.625)
    assert (run.hostname, run.cpu_name, run.cpu_count, run.git_commit, run.gpu_name) == ("h1", "EPYC", 2, "abc+", None)
    assert (run.biggest_kernel_domain, run.biggest_kernel_name, run.biggest_kernel_avg_s) == ("cpu", KERNEL["name"], 0.075)
    assert run.biggest_kernel_share == 0.75
    assert [epoch.epoch for epoch in result.epochs] == [1, 2]
    assert [(kernel.name, kernel.share, kernel.operator) for kernel in result.kernels] == [
        (KERNEL["name"], 0.75, "convolution forward"),
        (OTHER["name"], 0.25, "batch norm"),
    ]


def test_a_gpu_kernel_goes_before_an_operator(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", profile={"profiler": "torch", "domain": "cpu", "steps": 1, "kernels": [KERNEL]})
    (folder / "profile.txt").write_bytes((GOLDEN / "nvprof_cuda8.txt").read_bytes())
    (run,) = parse_paths([folder]).runs
    assert (run.biggest_kernel_domain, run.biggest_kernel_avg_s) == ("gpu", 2e-4)


def test_an_empty_profile_says_why(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", profile={"profiler": "torch", "domain": "cpu", "steps": 0, "kernels": [], "reason": "nothing ran"})
    (run,) = parse_paths([folder]).runs
    assert (run.profile_reason, run.biggest_kernel_name, run.biggest_kernel_avg_s) == ("nothing ran", None, None)


def test_device_samples_beside_the_run_are_taken(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    (folder / "device.csv").write_bytes((GOLDEN / "nvidia_smi_query.csv").read_bytes())
    (run,) = parse_paths([folder]).runs
    assert (run.gpu_util_pct, run.gpu_power_w, run.status) == (40.0, 50.5, "ok")


def test_a_run_that_is_still_running_is_incomplete(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", CONSOLE.partition(':::YOLOPERF {"key": "run_end"')[0], status="running", exit_code=None)
    (run,) = parse_paths([folder]).runs
    assert (run.status, run.epochs_done, run.exit_code, run.user_s) == ("incomplete", 2, None, None)


@pytest.mark.parametrize("status", ["oom", "timeout", "preempted", "cancelled", "failed"])
def test_a_failed_cell_is_a_row_with_its_reason(tmp_path: Path, status: str) -> None:
    console = CONSOLE.partition(':::YOLOPERF {"key": "run_end"')[0]
    (run,) = parse_paths([make(tmp_path / "x", console, status=status, reason="because", exit_code=1)]).runs
    assert (run.status, run.reason, run.exit_code) == (status, "because", 1)


def test_the_log_may_say_more_exactly_why_a_run_failed(tmp_path: Path) -> None:
    console = CONSOLE.partition(':::YOLOPERF {"key": "run_end"')[0] + event(key="run_end", status="oom", reason="batch too large")
    (run,) = parse_paths([make(tmp_path / "x", console, status="failed", reason="exit code 1", exit_code=1)]).runs
    assert (run.status, run.reason) == ("oom", "batch too large")
    assert "run.json says failed" in str(run.notes)


def test_times_of_attempts_are_summed_when_every_attempt_has_them(tmp_path: Path) -> None:
    console = CONSOLE + block("10.00", "1.00", "0:20.00", 1000) + CONSOLE + block("30.00", "3.00", "0:24.00", 3000)
    attempts = [{"accounting": "GNU time"}, {"accounting": "GNU time"}]
    (run,) = parse_paths([make(tmp_path / "x", console, attempts=attempts)]).runs
    assert (run.attempts, run.user_s, run.system_s, run.wall_s, run.cpu_percent) == (2, 40.0, 4.0, 44.0, 100.0)
    assert run.max_rss_bytes == 3000 * 1024
    assert "sums over 2 attempts" in str(run.notes)


def test_a_killed_attempt_is_accounted_for_by_the_kernel(tmp_path: Path) -> None:
    killed = {"accounting": "wait4", "user_s": 5.5, "system_s": 0.5, "wall_s": 8.0, "max_rss_bytes": 5000 * 1024}
    attempts = [killed, {"accounting": "GNU time"}]
    (run,) = parse_paths([make(tmp_path / "x", CONSOLE + block("30.00", "3.00", "0:24.00", 3000), attempts=attempts)]).runs
    assert (run.user_s, run.wall_s, run.max_rss_bytes) == (35.5, 32.0, 5000 * 1024)


def test_times_are_left_empty_when_an_attempt_lacks_them(tmp_path: Path) -> None:
    attempts = [{"accounting": None}, {"accounting": "GNU time"}]
    (run,) = parse_paths([make(tmp_path / "x", CONSOLE + block("30.00", "3.00", "0:24.00", 3000), attempts=attempts)]).runs
    assert (run.user_s, run.system_s, run.cpu_percent, run.max_rss_bytes) == (None, None, None, None)
    assert "left empty" in str(run.notes)


def test_a_resumed_epoch_counts_once(tmp_path: Path) -> None:
    resumed = event(**{**START, "start_epoch": 1}) + event(epoch=2, **{**EPOCH, "map50": 0.875}) + event(**END)
    result = parse_paths([make(tmp_path / "x", CONSOLE + resumed)])
    assert [(epoch.epoch, epoch.map50) for epoch in result.epochs] == [(1, 0.625), (2, 0.875)]


def test_damaged_parts_of_a_run_folder_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", CONSOLE + ":::YOLOPERF {half an eve\n" + block("1.00", "1.00", "0:02.00", 10))
    (folder / "profile.json").write_text("{")
    result = parse_paths([folder])
    assert result.runs[0].user_s == 1.0
    assert result.runs[0].rejected_lines == 1
    assert [(Path(item.path).name, item.line) for item in result.rejected] == [("profile.json", None), ("console.log", 6)] or [
        (Path(item.path).name, item.line) for item in result.rejected
    ] == [("console.log", 6), ("profile.json", None)]


def test_an_unreadable_run_json_is_reported(tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    (folder / "run.json").write_text('{"spec": ')
    result = parse_paths([folder])
    assert result.runs == []
    assert "run.json" in result.rejected[0].reason


@pytest.mark.parametrize("value", ["4", True, None, [4], 4.5])
def test_a_value_of_the_wrong_type_is_no_value(tmp_path: Path, value: Any) -> None:
    (run,) = parse_paths([make(tmp_path / "x", spec={**SPEC, "batch_size": value}, console="")]).runs
    assert run.batch_size is None
