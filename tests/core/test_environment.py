import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloperf.core.environment import collect, git_commit


def test_what_is_collected_is_json_and_names_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    found = json.loads(json.dumps(collect(), allow_nan=False))
    assert 1 <= found["cpu_count"] <= len(os.sched_getaffinity(0))
    assert found["torch"]
    assert found["mem_bytes"] > 2**27
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["slurm_job_id"] == "12_3"


def test_the_commit_says_when_the_tree_had_changes(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        return subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True).stdout.strip()

    assert git_commit(tmp_path) is None
    git("init")
    assert git_commit(tmp_path) is None, "no commit yet"
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")[:12]
    (tmp_path / "untracked").write_text("")
    assert git_commit(tmp_path) == head
    (tmp_path / "file").write_text("b")
    assert git_commit(tmp_path) == head + "+"


def nvml(*devices: tuple[str, int]) -> Any:
    """A stand-in for the NVML binding of a machine with these devices."""
    return SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(devices),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda index: devices[index][0],
        nvmlDeviceGetMemoryInfo=lambda index: SimpleNamespace(total=devices[index][1]),
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}abc",
        nvmlSystemGetDriverVersion=lambda: b"550.54",
    )


T4, P40 = ("Tesla T4", 15 * 2**30), ("Tesla P40", 24 * 2**30)


@pytest.mark.parametrize(
    ("devices", "visible", "name", "count"),
    [
        ([T4], None, "Tesla T4", 1),
        ([T4, T4], "1", "Tesla T4", 1),
        ([T4, P40], None, None, 2),  # which one CUDA calls 0 is not NVML's to say
        ([T4, P40], "0", None, 1),
        ([T4, P40], "GPU-1", "Tesla P40", 1),
        ([T4], "", None, 0),
        ([T4], "-1", None, 0),
        ([], None, None, 0),
    ],
)
def test_the_gpu_is_named_only_where_there_is_no_doubt(
    monkeypatch: pytest.MonkeyPatch, devices: list[tuple[str, int]], visible: str | None, name: str | None, count: int
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(*devices))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = collect()
    assert (found["gpu_name"], found["gpu_count"], found["driver"]) == (name, count, "550.54")
    assert (found["gpu_mem_bytes"] is None) == (name is None)


def test_a_machine_without_nvml_has_no_gpu_that_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert collect()["gpu_name"] is None
