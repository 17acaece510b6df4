"""Process tree, processors and the sampler: real processes, and a powercap tree of files where there is none of the machine's."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yoloperf.core.samples import header, parse_row
from yoloperf.harness.launch import local
from yoloperf.harness.profilers import gnu_time
from yoloperf.harness.sampling import sampler as sampling
from yoloperf.harness.sampling import tree as trees
from yoloperf.harness.sampling.rapl import Rapl
from yoloperf.harness.sampling.sampler import Sampler
from yoloperf.harness.sampling.tree import Tree
from yoloperf.parsing.parse import parse_paths

MIB = 2**20
USE = """
import os, sys, time
def hold(mib):
    memory = bytearray(mib << 20)
    for place in range(0, len(memory), 4096):
        memory[place] = 1
    return memory
def spend(seconds):
    while time.process_time() < seconds:
        pass
def ready():
    print("ready", flush=True)
    time.sleep(60)
"""
# three processes of 60 MiB each that share another 60
FAMILY = """
shared = hold(60)
pipe = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        own = hold(60)
        os.write(pipe[1], b"x")
        time.sleep(60)
for _ in range(3):
    os.read(pipe[0], 1)
ready()
"""

Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program in a session of its own and waits until it says that it is ready."""
    running = []

    def run(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", USE + program], stdout=subprocess.PIPE, text=True, start_new_session=True)
        running.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield run
    for process in running:
        os.killpg(process.pid, 9)
        process.communicate()


def test_memory_is_that_of_the_whole_tree_shared_pages_once(start: Start) -> None:
    tree = Tree(start(FAMILY).pid)
    assert tree.sample()["tree_processes"] == 4
    found = tree.memory()
    assert found["tree_source"] == "pss"
    assert 240 * MIB < found["tree_bytes"] < 290 * MIB


def test_without_proportional_sizes_shared_pages_count_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start(FAMILY)

    def refuse(path: str, *words: Any) -> Any:
        if path.endswith("smaps_rollup"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open(path, *words)

    monkeypatch.setattr(trees, "open", refuse, raising=False)
    tree = Tree(process.pid)
    tree.sample()
    found = tree.memory()
    assert found["tree_source"] == "rss"
    assert found["tree_bytes"] > 400 * MIB


def test_a_process_that_left_the_session_is_still_of_the_tree(start: Start) -> None:
    tree = Tree(
        start("""
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(write, b"x")
    time.sleep(60)
os.read(read, 1)
ready()
""").pid
    )
    assert tree.sample()["tree_processes"] == 2
    assert os.getpid() not in tree.pids
    (left,) = tree.pids - {min(tree.pids)}
    os.kill(left, 9)


def test_cpu_time_of_children_that_nobody_waits_for_is_kept() -> None:
    """The kernel's own account of the command leaves them out."""
    program = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if child == 0:
    spend(0.4)
    ready()
sys.stdin.readline()
os.kill(child, 9)
spend(0.1)
print("ready", flush=True)
sys.stdin.readline()
"""
    command = [sys.executable, "-c", USE + program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        tree = Tree(process.pid)
        assert tree.sample()["tree_processes"] == 2
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        assert tree.sample()["tree_processes"] == 1
        assert tree.cpu_s() >= 0.47
        process.stdin.write("\n")
        process.stdin.flush()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    waited_s = usage.ru_utime + usage.ru_stime
    assert waited_s < 0.35
    assert tree.cpu_s(waited_s) >= waited_s + 0.38


def test_children_that_were_waited_for_count_once(start: Start) -> None:
    tree = Tree(
        start("""
for _ in range(2):
    if os.fork() == 0:
        spend(0.2)
        os._exit(0)
    os.wait()
ready()
""").pid
    )
    first = tree.sample()["tree_cpu_s"]
    assert 0.38 <= first < 0.9
    assert tree.sample()["tree_cpu_s"] == pytest.approx(first, abs=0.05)


class Powercap:
    """The files of /sys/class/powercap."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, zone: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> None:
        folder = self.root / zone
        folder.mkdir(parents=True, exist_ok=True)
        for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
            (folder / file).write_text(f"{value}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path / "powercap")


def test_packages_and_memory_are_summed_and_parts_are_not(powercap: Powercap) -> None:
    def put(package_uj: int) -> None:
        powercap.put("intel-rapl:0", "package-0", package_uj)
        powercap.put("intel-rapl:0:0", "core", 10 * package_uj)
        powercap.put("intel-rapl:0:1", "dram", package_uj // 2)
        powercap.put("intel-rapl:1", "package-1", package_uj)
        powercap.put("intel-rapl:2", "psys", 100 * package_uj)
        powercap.put("intel-rapl-mmio:0", "package-0", package_uj)

    put(2_000_000)
    rapl = Rapl(powercap.root)
    assert rapl.read_j() == 0.0
    put(6_000_000)
    assert rapl.read_j() == 4.0 + 2.0 + 4.0
    assert rapl.reason is None


def test_a_counter_goes_round(powercap: Powercap) -> None:
    powercap.put("intel-rapl:0", "package-0", 9_000_000, range_uj=10_000_000)
    rapl = Rapl(powercap.root)
    powercap.put("intel-rapl:0", "package-0", 2_000_000, range_uj=10_000_000)
    assert rapl.read_j() == 3.0
    powercap.put("intel-rapl:0", "package-0", 2_500_000, range_uj=10_000_000)
    assert rapl.read_j() == 3.5


def test_a_machine_without_rapl_says_so(tmp_path: Path) -> None:
    rapl = Rapl(tmp_path / "absent")
    assert rapl.read_j() is None
    assert "no counter" in str(rapl.reason)


def test_a_counter_for_root_only_says_what_to_do(powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    powercap.put("intel-rapl:0", "package-0", 1)
    whole = Path.read_text

    def refuse(path: Path, *words: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *words)

    monkeypatch.setattr(Path, "read_text", refuse)
    rapl = Rapl(powercap.root)
    assert rapl.read_j() is None
    assert "chmod a+r" in str(rapl.reason)


def test_a_counter_that_goes_away_leaves_no_figure(powercap: Powercap) -> None:
    powercap.put("intel-rapl:0", "package-0", 1)
    rapl = Rapl(powercap.root)
    (powercap.root / "intel-rapl:0" / "energy_uj").unlink()
    assert rapl.read_j() is None
    assert "No such file" in str(rapl.reason)


def run(folder: Path, program: str, attempt: int = 1, device: str = "cpu", said: str | None = None) -> tuple[dict[str, Any], local.Ended]:
    """A command as the harness runs it, sampled."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        with Sampler(folder / "device.csv", attempt, device) as sampler:
            argv = gnu_time.wrap([sys.executable, "-c", USE + program])
            ended = local.run(argv, folder / "console.log", lock, 30.0, lambda: 0, sampler.tick)
            resources = sampler.finish(ended.user_s + ended.system_s, said)
    finally:
        os.close(lock)
    return json.loads(json.dumps(resources, allow_nan=False)), ended


def read(path: Path) -> list[dict[str, Any]]:
    first, *lines = path.read_text().splitlines()
    assert first + "\n" == header()
    return [parse_row(first.split(","), line) for line in lines]


CHILDREN = """
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        memory = hold(80)
        time.sleep(1.2)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
spend(0.2)
"""


def test_a_short_command_is_sampled_from_beginning_to_end(tmp_path: Path) -> None:
    resources, ended = run(tmp_path, CHILDREN)
    assert ended.exit_code == 0
    assert 160 * MIB < resources["tree_peak_bytes"] < 260 * MIB
    assert resources["tree_peak_bytes"] > 1.5 * ended.max_rss_bytes or ended.max_rss_bytes > 130 * MIB
    assert resources["tree_cpu_s"] == pytest.approx(ended.user_s + ended.system_s, abs=0.02)
    assert resources["sampled_s"] == pytest.approx(ended.wall_s, abs=0.5)
    rows = read(tmp_path / "device.csv")
    assert len(rows) >= 4
    assert {row["attempt"] for row in rows} == {1}
    assert [row["time_s"] for row in rows] == sorted(row["time_s"] for row in rows)
    assert abs(rows[-1]["time_s"] - time.time()) < 10


def test_attempts_append_and_a_torn_line_stays_alone(tmp_path: Path) -> None:
    run(tmp_path, "pass")
    path = tmp_path / "device.csv"
    whole = path.read_text()
    path.write_text(whole + "1795245696.189,1,,,")
    run(tmp_path, "pass", attempt=2)
    lines = path.read_text().splitlines()
    assert lines.count(header().strip()) == 1
    assert "1795245696.189,1,,," in lines
    assert lines[-1].split(",")[1] == "2"


def test_samples_of_another_kind_get_a_header_below_them(tmp_path: Path) -> None:
    (tmp_path / "device.csv").write_text("timestamp,power\n1,2\n")
    run(tmp_path, "pass")
    assert header().strip() in (tmp_path / "device.csv").read_text().splitlines()


def test_a_full_disk_ends_the_file_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "device.csv").symlink_to("/dev/full")
    resources, ended = run(tmp_path, CHILDREN)
    assert ended.exit_code == 0
    assert resources["tree_peak_bytes"] > 0
    assert "full" in resources["reason"]["device.csv"]


def test_what_is_missing_has_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(sampling, "Rapl", lambda: Rapl(tmp_path / "absent"))
    resources, _ = run(tmp_path, "pass", device="auto")
    assert resources["reason"]["gpu"] == "nvidia-ml-py is not installed"
    assert "energy_j" not in resources
    assert resources["reason"]["cpu_energy_j"].startswith("RAPL: ")


def test_a_run_on_the_cpu_has_the_processors_energy(tmp_path: Path, powercap: Powercap, monkeypatch: pytest.MonkeyPatch) -> None:
    powercap.put("intel-rapl:0", "package-0", 1_000_000)
    monkeypatch.setattr(sampling, "Rapl", lambda: Rapl(powercap.root))
    with Sampler(tmp_path / "device.csv", 1, "cpu") as sampler:
        powercap.put("intel-rapl:0", "package-0", 46_000_000)
        resources = sampler.finish(1.0, "cpu")
        of_a_gpu_run = sampler.finish(1.0, "cuda:0")
    assert (resources["energy_j"], resources["energy_source"], resources["cpu_energy_j"]) == (45.0, "rapl", 45.0)
    assert "energy_j" not in of_a_gpu_run
    assert of_a_gpu_run["cpu_energy_j"] == 45.0


class Idle:
    """A GPU that another run heats."""

    reasons: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *words: Any) -> None:
        self.joules = 0.0

    def sample(self, pids: frozenset[int]) -> list[dict[str, Any]]:
        self.joules += 25.0
        return [{"gpu": "0", "gpu_util_pct": 90, "gpu_energy_j": self.joules}]

    def close(self) -> None:
        self.closed = True


def test_a_gpu_that_the_trainer_does_not_use_gives_no_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "GpuSampler", Idle)
    resources, _ = run(tmp_path, "pass", device="auto", said="cuda:0")
    assert resources["energy_source"] == "counter"
    resources, _ = run(tmp_path, "pass", device="auto", said="cpu")
    assert "gpu_util_pct" not in resources
    assert resources["reason"]["gpu"] == "the trainer ran on the CPU"


def test_a_dear_source_is_sampled_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Dear(Idle):
        def sample(self, pids: frozenset[int]) -> list[dict[str, Any]]:
            calls.append(time.monotonic())
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            return []

    monkeypatch.setattr(sampling, "GpuSampler", Dear)
    resources, _ = run(tmp_path, "time.sleep(1)", device="auto")
    assert len(calls) == 2, "at the beginning and at the end: 0.02 s may be spent every 6.7 s"
    assert resources["sampling_cpu_s"] < 0.1


TRIAL = "yolov3-tiny_smear_bs4_ep5_lr1_s0"


def test_a_sweeps_runs_are_sampled(house: Any) -> None:
    house.write(batch=4, epochs=5, hyp="slow")
    assert house.sweep()[0] == 0
    (attempt,) = house.run(TRIAL).read()["attempts"]
    assert attempt["resources"]["tree_cpu_s"] > 0
    (row,) = parse_paths([house.run(TRIAL).path]).runs
    assert row.status == "ok"
    assert row.tree_source == "pss"
    assert row.tree_cpu_s is not None
    assert row.tree_peak_bytes is not None
    assert row.tree_peak_bytes >= (row.max_rss_bytes or 0) > 0
    assert row.uncounted_bytes == row.tree_peak_bytes - (row.max_rss_bytes or 0)
    assert row.uncounted_cpu_s == max(row.tree_cpu_s - ((row.user_s or 0) + (row.system_s or 0)), 0.0)


def test_samples_outlive_a_killed_sweep(house: Any, helpers: Any) -> None:
    house.write(batch=4, epochs=5, hyp="slow")
    process = house.start()
    samples = house.run(TRIAL).device_csv
    helpers.wait_for(lambda: len(house.work(TRIAL)) >= 3 and ",pss," in samples.read_text())
    os.kill(process.pid, 9)
    process.communicate()
    assert house.sweep()[0] == 0
    first, second = house.run(TRIAL).read()["attempts"]
    assert "resources" not in first
    assert second["resources"]["tree_cpu_s"] > 0
    assert {line["attempt"] for line in read(samples)} == {1, 2}
    result = parse_paths([house.run(TRIAL).path])
    assert result.rejected == []
    assert (result.runs[0].tree_cpu_s or 0) > second["resources"]["tree_cpu_s"]
