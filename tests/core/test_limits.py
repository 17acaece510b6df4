from pathlib import Path
from types import SimpleNamespace

import pytest

from yoloperf.core import limits
from yoloperf.core.limits import Neighbours, available_cores, memory_limit


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder with /proc/self/cgroup and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(16)))


JOB = "system.slice/slurmstepd.scope/job_7/step_0"


@pytest.mark.parametrize(
    ("groups", "files", "cores", "memory"),
    [
        ("", {}, 16, None),
        # version 2: the top group of a container
        ("0::/\n", {"cpu.max": "250000 100000\n", "memory.max": "8589934592\n"}, 2, 2**33),
        ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, 16, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1, None),
        # nested: the tightest counts, wherever it is
        (f"0::/{JOB}\n", {f"{JOB}/cpu.max": "max 100000", "system.slice/slurmstepd.scope/job_7/cpu.max": "400000 100000"}, 4, None),
        (f"0::/{JOB}\n", {f"{JOB}/memory.max": "2147483648", "system.slice/memory.max": "1073741824"}, 16, 2**30),
        # version 1, as in an old Docker: the path is the host's and only the top is mounted
        (
            "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "300000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "1073741824",
            },
            3,
            2**30,
        ),
        # version 1 without limits
        (
            "4:memory:/\n1:cpu:/\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "9223372036854771712"},
            16,
            None,
        ),
    ],
)
def test_the_tightest_control_group_holds(tmp_path: Path, groups: str, files: dict[str, str], cores: int, memory: int | None) -> None:
    root = machine(tmp_path, groups, files)
    assert available_cores(root) == cores
    assert memory_limit(root) == memory


def test_what_neighbours_leave_is_the_machine_without_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two seconds four cores did 3 s of work, 1 s of it this process's own and its children's."""
    clocks = {"machine": 100.0, "own": 10.0, "wall": 0.0}
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(limits.psutil, "cpu_times", lambda: SimpleNamespace(user=clocks["machine"] - 20, nice=5, system=15))
    monkeypatch.setattr(limits.os, "times", lambda: (clocks["own"] - 3, 1, 1, 1, 0))
    monkeypatch.setattr(limits.time, "perf_counter", lambda: clocks["wall"])
    neighbours = Neighbours()
    clocks.update(machine=103.0, own=11.0, wall=2.0)
    assert neighbours.free_cores() == pytest.approx(3.0)
