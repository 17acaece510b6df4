"""Sweeps under nvprof and nsys: the fakes run the real command line and print what the real tools print."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloperf.core.errors import UserError
from yoloperf.core.record import KernelRecord
from yoloperf.core.rundir import RunDir
from yoloperf.harness import gpu, supervise
from yoloperf.harness.gpu import Gpu, Gpus
from yoloperf.harness.outcome import judge
from yoloperf.harness.profilers import gnu_time, make_profiler, nsys, nvprof
from yoloperf.harness.profilers.nsys import NsysProfiler
from yoloperf.parsing.parse import parse_paths

ROOT = Path(__file__).parents[2]
FAKES = Path(__file__).with_name("fakes")
T4 = Gpu("Tesla T4", (7, 5), 15 << 30, "GPU-1")
H200 = Gpu("NVIDIA H200", (9, 0), 141 << 30, "GPU-2")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Puts GPUs into the machine, tools onto PATH, and a CUDA under torch."""

    def make(*devices: Gpu, tools: tuple[str, ...] = (), cuda: tuple[int, int] | None = (12, 6)) -> None:
        here = Gpus(devices, "580.65", (13, 0), None if devices else "no NVIDIA GPU can be used: NVML: Driver Not Loaded")
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in tools:
            (folder / tool).symlink_to(FAKES / tool)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        monkeypatch.setattr(nvprof, "torch_cuda", lambda: cuda)
        for module in (nvprof, nsys):
            monkeypatch.setattr(module, "gpus", lambda: here)
            module.find.cache_clear()

    yield make
    nvprof.find.cache_clear()
    nsys.find.cache_clear()


def only_run(house: Any) -> tuple[RunDir, dict[str, Any]]:
    [(trial, content)] = house.runs().items()
    return house.run(trial), content


def kernels(run: RunDir) -> list[KernelRecord]:
    """What the parser makes of the folder; nothing in it may be left unread."""
    parsed = parse_paths([run.path])
    assert [rejected.reason for rejected in parsed.rejected] == []
    return parsed.kernels


# ---- the choice -------------------------------------------------------------------------------------------------------------


def chosen(name: str = "auto", **options: Any) -> tuple[str, str]:
    profiler, why = make_profiler(name, 5, **options)
    return profiler.name, why


def test_auto_takes_nvprof_on_a_gpu_of_its_time(machine: Machine) -> None:
    machine(T4, tools=("nvprof", "nsys"))
    name, why = chosen()
    assert name == "nvprof" and why.startswith("auto: ")


def test_auto_takes_nsys_on_a_new_gpu_and_says_why_not_nvprof(machine: Machine) -> None:
    machine(H200, tools=("nvprof", "nsys"))
    name, why = chosen()
    assert name == "nsys"
    assert "not nvprof: NVIDIA H200 (compute capability 9.0) is too new" in why


def test_auto_knows_that_nvprof_ended_with_cuda_12(machine: Machine) -> None:
    machine(T4, tools=("nvprof", "nsys"), cuda=(13, 2))
    name, why = chosen()
    assert name == "nsys" and "torch is built for CUDA 13.2" in why


def test_auto_is_content_with_torch(machine: Machine) -> None:
    machine(H200)
    name, why = chosen()
    assert name == "torch" and "not nsys: nsys is not installed" in why


def test_auto_suits_the_devices_of_the_runs(machine: Machine) -> None:
    machine(T4, tools=("nvprof", "nsys"))
    name, why = chosen(devices=["auto", "cpu"])
    assert name == "torch" and "not nsys: --device cpu is asked for" in why
    assert chosen("nsys", devices=["cpu"])[0] == "nsys"
    name, why = chosen(devices=["0,1"])
    assert name == "nsys" and "not nvprof: it follows one process" in why


def test_a_missing_profiler_is_refused_before_the_run_with_the_way_out(machine: Machine) -> None:
    machine(H200)
    with pytest.raises(UserError, match=r"nsys is not installed .*choose --profiler auto"):
        make_profiler("nsys", 5)


def test_a_wrapper_that_leads_nowhere_is_no_nsys(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_NSYS", "broken")
    machine(H200, tools=("nsys",))
    assert "does not work: ERROR: no nsight-systems folder found" in (NsysProfiler(5).unavailable() or "")


def test_nsys_needs_a_temporary_folder_that_allows_programs(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200, tools=("nsys",))
    monkeypatch.setattr(nsys, "scratch_parent", lambda: None)
    assert "TMPDIR" in (NsysProfiler(5).unavailable() or "")


def test_scratch_is_where_programs_may_run() -> None:
    parent = nsys.scratch_parent()
    assert parent is not None
    program = parent / f"yoloperf-test-{os.getpid()}"
    shutil.copy("/bin/true", program)
    try:
        subprocess.run([str(program)], check=True)
    finally:
        program.unlink()


def test_nsys_is_found_where_colab_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "opt/nvidia/nsight-compute/2025.1.1/host/target-linux-x64/nsys"
    place.parent.mkdir(parents=True)
    place.symlink_to(FAKES / "nsys")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    nsys.find.cache_clear()
    try:
        assert nsys.find(tmp_path) == (str(place), None)
    finally:
        nsys.find.cache_clear()


# ---- nsys ---------------------------------------------------------------------------------------------------------------------


def test_nsys_run_ends_as_kernels(house: Any, machine: Machine) -> None:
    machine(H200, tools=("nsys",))
    house.write()
    assert house.sweep("--profiler", "nsys")[0] == 0
    run, content = only_run(house)
    assert content["profile_reason"] is None and content["profiler"] == "nsys"
    found = {row.name: row for row in kernels(run) if row.domain == "gpu"}
    first = found["void cudnn::detail::wgrad_alg0_engine<__half, int=128, int=5>(int, int, float*)"]
    assert (first.calls, first.total_s, first.avg_s) == (12, 0.006, 0.0005)
    assert len(found) == 3 and sum(row.share or 0 for row in found.values()) == pytest.approx(1)
    assert (run.path / "nsight.nsys-rep").exists(), "the report is kept for nsys-ui"
    assert not list(run.path.glob("*.sqlite")) and not NsysProfiler(1)._scratch(run).exists()


@pytest.mark.skipif(gnu_time.find() is None, reason="no GNU time")
def test_gnu_time_counts_the_trainer_that_an_agent_started(house: Any, machine: Machine) -> None:
    machine(H200, tools=("nsys",))
    house.write()
    house.sweep("--profiler", "nsys")
    run, content = only_run(house)
    words = content["argv"]
    assert words.index("profile") < words.index("-v") < words.index("--epochs")
    [record] = parse_paths([run.path]).runs
    assert content["attempts"][0]["accounting"] == "GNU time"
    assert record.status == "ok" and record.user_s and record.max_rss_bytes and record.max_rss_bytes > 10 << 20


def test_without_gnu_time_the_figures_of_nsys_are_not_taken_for_the_trainers(
    house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(H200, tools=("nsys",))
    monkeypatch.setattr(gnu_time, "find", lambda: None)
    house.write()
    assert house.sweep("--profiler", "nsys")[0] == 0
    run, content = only_run(house)
    [record] = parse_paths([run.path]).runs
    assert content["attempts"][0]["accounting"] is None
    assert (record.user_s, record.cpu_percent, record.max_rss_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("old", None),
        ("empty", "the capture of nsys does not contain CUDA kernel data"),
        ("unreached", "nsys wrote no report: the profiled steps were not reached"),
        ("stats_fails", "nsys stats made no kernel table of nsight.nsys-rep: ERROR: Could not open the report"),
        ("importer", None),
    ],
)
def test_nsys_tells_why_there_is_no_profile(
    house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: str, reason: str | None
) -> None:
    machine(H200, tools=("nsys",))
    monkeypatch.setenv("FAKE_NSYS", mode)
    house.write()
    assert house.sweep("--profiler", "nsys")[0] == 0, "the training itself is done"
    run, content = only_run(house)
    assert (content["status"], content["exit_code"]) == ("ok", 0)
    if reason is None:
        assert content["profile_reason"] is None and len(kernels(run)) == 4
    else:
        assert content["profile_reason"].startswith(reason)
        assert f"no profile: {reason}" in capsys.readouterr().out
        assert kernels(run) == []
        [record] = parse_paths([run.path]).runs
        assert record.profile_reason == content["profile_reason"] and record.biggest_kernel_name is None


def test_nsys_that_cannot_start_the_trainer_is_named_in_the_reason(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200, tools=("nsys",))
    monkeypatch.setenv("FAKE_NSYS", "refused")
    house.write()
    assert house.sweep("--profiler", "nsys")[0] == 1
    _, content = only_run(house)
    assert content["status"] == "failed" and "Operation not permitted" in content["reason"]
    assert "Operation not permitted" in content["profile_reason"]


def test_stale_exports_and_reports_are_not_read(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200, tools=("nsys",))
    house.write(epochs=3, hyp="crash")
    house.sweep("--profiler", "nsys")
    [trial] = house.runs()
    run = house.run(trial)
    for name in ("nsight.nsys-rep", "nsight.sqlite", "profile.csv"):
        (run.path / name).write_text("of an earlier attempt")
    profiler = NsysProfiler(5)
    profiler.prepare(run)
    assert not list(run.path.glob("nsight.*"))
    (run.path / "nsight.nsys-rep").write_text("report")
    (run.path / "nsight.sqlite").write_text("an export that nsys would reuse")
    assert profiler.collect(run) is None
    assert "kernel_of_an_older_run" not in (run.path / "profile.csv").read_text()


def test_an_earlier_attempts_profile_does_not_stay(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200, tools=("nsys",))
    house.write(epochs=2)
    house.sweep("--profiler", "nsys")
    run, content = only_run(house)
    run.write({**content, "status": "cancelled"})
    monkeypatch.setenv("FAKE_NSYS", "unreached")
    assert house.sweep("--profiler", "nsys")[0] == 0
    assert not (run.path / "profile.csv").exists() and not (run.path / "nsight.nsys-rep").exists()
    assert "no report" in only_run(house)[1]["profile_reason"]


def test_nothing_outlives_a_run_that_is_stopped(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch, helpers: Any) -> None:
    machine(H200, tools=("nsys",))
    monkeypatch.setattr(nsys, "_CHECKPOINT_S", 0.5)
    house.write(hyp="hang", timeout_s=1.0)
    house.sweep("--profiler", "nsys")
    run, content = only_run(house)
    assert content["status"] == "timeout"
    pids = [pid for _, pid in house.work(content["trial"])]
    assert pids
    helpers.wait_for(lambda: not any(map(helpers.alive, pids)))


def test_what_the_trainer_says_after_nsys_was_stopped_is_heard(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200, tools=("nsys",))
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(supervise, "judge", lambda console, *rest: (heard.append(console.run_end), judge(console, *rest))[1])
    house.write(hyp="long", epochs=20, timeout_s=4.0)
    house.sweep("--profiler", "nsys")
    run, content = only_run(house)
    assert content["status"] == "timeout" and run.last_weights.exists()
    assert heard[0]["status"] == "preempted" and content["attempts"][0]["gained"]


# ---- nvprof -------------------------------------------------------------------------------------------------------------------


def test_nvprof_run_ends_as_kernels(house: Any, machine: Machine) -> None:
    machine(T4, tools=("nvprof",))
    house.write()
    assert house.sweep("--profiler", "nvprof")[0] == 0
    run, content = only_run(house)
    assert content["profile_reason"] is None
    found = [row for row in kernels(run) if row.domain == "gpu"]
    assert len(found) == 4 and found[0].name.startswith("void cudnn::detail::wgrad_alg0_engine<__half, int=128")
    assert (found[0].calls, found[0].avg_s) == (800, 0.002)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("permission", "nvprof recorded no kernels: The user does not have permission to profile"),
        ("too_new", "nvprof recorded no kernels: nvprof is not supported on devices with compute capability 8.0"),
    ],
)
def test_nvprof_tells_why_there_is_no_profile(
    house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch, mode: str, reason: str
) -> None:
    machine(T4, tools=("nvprof",))
    monkeypatch.setenv("FAKE_NVPROF", mode)
    house.write()
    assert house.sweep("--profiler", "nvprof")[0] == 0
    run, content = only_run(house)
    assert content["profile_reason"].startswith(reason)
    assert [row for row in kernels(run) if row.domain == "gpu"] == []


def test_nvprof_that_cannot_start_the_trainer_is_named(house: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(T4, tools=("nvprof",))
    monkeypatch.setenv("FAKE_NVPROF", "refused")
    house.write()
    assert house.sweep("--profiler", "nvprof")[0] == 1
    _, content = only_run(house)
    assert content["status"] == "failed" and "Operation not permitted" in content["profile_reason"]


def test_per_cent_signs_in_a_path_are_no_placeholders(tmp_path: Path, machine: Machine) -> None:
    machine(T4, tools=("nvprof", "nsys"))
    run = RunDir(tmp_path / "50%h")
    for name in ("nvprof", "nsys"):
        profiler, _ = make_profiler(name, 3)
        assert any("50%%h" in word for word in profiler.wrap(["python"], run))


@pytest.mark.skipif(gnu_time.find() is None, reason="no GNU time")
def test_the_classic_line_by_hand_still_makes_a_row(tmp_path: Path) -> None:
    """/usr/bin/time -v nvprof python train.py ... &> file.txt, as in 2020: nothing in train.py needs the harness."""
    data = tmp_path / "smear.yaml"
    smear = "from yoloperf.datasets.smear import generate; from pathlib import Path; import sys"
    code = f"{smear}; generate(Path(sys.argv[1]), {{'train': 4, 'val': 2, 'test': 1}}, (96, 64), 0)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "smear")], cwd=ROOT, check=True)
    data.write_text((ROOT / "data/smear.yaml").read_text().replace("path: smear", f"path: {tmp_path / 'smear'}"))
    flags = f"--data {data} --cfg yolov3-tiny --img 64 --batch 2 --epochs 1 --device cpu --threads 1 --save-dir {tmp_path / 'run'}"
    log = tmp_path / "bare_metal_bs2_ep1_lr1_tiny.txt"
    line = f"{gnu_time.find()} -v {FAKES / 'nvprof'} {sys.executable} train.py {flags} > {log} 2>&1"
    subprocess.run(line, shell=True, cwd=ROOT, check=True, timeout=120)
    parsed = parse_paths([log])
    [record] = parsed.runs
    assert (record.status, record.batch_size, record.epochs, record.profiler) == ("ok", 2, 1, "nvprof")
    assert record.max_rss_bytes and record.max_rss_bytes > 100 << 20
    assert record.biggest_kernel_name and record.biggest_kernel_name.startswith("void cudnn::detail::wgrad")
    assert len(parsed.kernels) == 6 and not parsed.rejected


# ---- the machine ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "names"),
    [(None, ["A", "A"]), ("1", ["A"]), ("GPU-0", ["A"]), ("-1", []), ("", [])],
)
def test_visible_gpus(monkeypatch: pytest.MonkeyPatch, shown: str | None, names: list[str]) -> None:
    library = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "A",
        nvmlDeviceGetCudaComputeCapability=lambda handle: (7, 0),
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=16 << 30),
        nvmlDeviceGetUUID=lambda handle: f"GPU-{handle}",
        nvmlSystemGetDriverVersion=lambda: b"560.35",
        nvmlSystemGetCudaDriverVersion=lambda: 12060,
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    found = gpu.gpus.__wrapped__()
    assert [device.name for device in found.visible] == names
    assert (found.cuda, found.driver) == ((12, 6), "560.35")
    assert bool(found.reason) is not bool(names)


def test_the_cuda_of_torch_is_read_without_importing_it() -> None:
    code = "import sys; from yoloperf.harness.gpu import torch_cuda; print(torch_cuda()); assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    truth = "import torch; v = torch.version.cuda; print(tuple(map(int, v.split('.'))) if v else None)"
    assert said == subprocess.run([sys.executable, "-c", truth], check=True, capture_output=True, text=True).stdout


def test_reasons_are_json(house: Any, machine: Machine) -> None:
    machine()
    house.write()
    _, result = house.sweep("--profiler", "auto")
    json.dumps(result, allow_nan=False)
    assert only_run(house)[1]["profiler"] == "torch"
