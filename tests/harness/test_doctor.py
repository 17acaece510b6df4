import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yoloperf.cli import load, main, parser_for
from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.harness import doctor_machine, doctor_storage, install
from yoloperf.harness.doctor_machine import Torch, built_for
from yoloperf.harness.doctor_storage import Plan
from yoloperf.harness.finding import Finding
from yoloperf.harness.gpu import Gpu, Gpus
from yoloperf.harness.profilers import gnu_time, nsys, nvprof

ROOT = Path(__file__).parents[2]
P40 = Gpu("Tesla P40", (6, 1), 24 << 30, "GPU-1")
T4 = Gpu("Tesla T4", (7, 5), 15 << 30, "GPU-2")
H200 = Gpu("NVIDIA H200", (9, 0), 141 << 30, "GPU-3")
CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU132 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts GPUs and a torch into the machine, and nothing else."""

    def make(
        *devices: Gpu, cuda: str | None = "13.2", archs: tuple[str, ...] = CU132, sees: bool = True, driver: tuple[int, int] = (13, 0)
    ) -> None:
        here = Gpus(devices, "580.65", driver, None if devices else "no NVIDIA GPU can be used: NVML: Driver Not Loaded")
        found = Torch("2.15.0", cuda, archs, sees, "")
        for module in (doctor_machine, nvprof, nsys):
            monkeypatch.setattr(module, "gpus", lambda: here)
        monkeypatch.setattr(doctor_machine, "ask_torch", lambda: found)
        monkeypatch.setattr(nvprof, "torch_cuda", lambda: tuple(map(int, cuda.split("."))) if cuda else None)
        monkeypatch.setattr(nvprof, "find", lambda: None)
        monkeypatch.setattr(nsys, "find", lambda: (None, "nsys is not installed"))

    return make


@pytest.fixture
def ubuntu(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A machine with apt-get, run by root; the dict is what apt knows: pattern -> packages."""
    known: dict[str, list[str]] = {}
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in ("apt-get", "apt-cache") else None)
    monkeypatch.setattr(install, "_newest", lambda pattern: known.get(pattern))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("COLAB_RELEASE_TAG", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return known


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


# ---- does the wheel support the GPU ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "archs", "works"),
    [
        (P40, CU126, True),  # sm_60 runs on 6.1
        (P40, CU132, False),
        (T4, CU132, True),
        (T4, ("sm_80",), False),
        (H200, ("sm_80", "sm_86"), False),  # binaries stay within a major version
        (H200, ("sm_80", "compute_80"), True),  # PTX does not
        (H200, ("sm_100",), False),
        (Gpu("B200", (10, 0), 1, ""), ("sm_90a", "sm_90"), False),
        (Gpu("RTX 5090", (12, 0), 1, ""), CU132, True),
        (H200, (), False),
    ],
)
def test_built_for(gpu: Gpu, archs: tuple[str, ...], works: bool) -> None:
    assert built_for(gpu, archs) is works


def test_pascal_needs_the_wheel_of_cuda_12_6(machine: Machine) -> None:
    machine(P40)
    finding = by_check(doctor_machine.check_gpu())["wheel of torch"]
    assert (finding.state, finding.fatal) == ("missing", True)
    assert finding.next_step and "cu126 wheels" in finding.next_step
    assert finding.why and "Pascal and Volta" in finding.why


def test_the_wheel_of_cuda_12_6_serves_pascal(machine: Machine) -> None:
    machine(P40, cuda="12.6", archs=CU126)
    assert by_check(doctor_machine.check_gpu())["wheel of torch"].state == "ok"


def test_a_driver_that_is_too_old_leaves_the_cpu(machine: Machine) -> None:
    machine(T4, sees=False, driver=(12, 4))
    finding = by_check(doctor_machine.check_gpu())["wheel of torch"]
    assert (finding.state, finding.fatal) == ("missing", False)
    assert finding.why == "the driver runs CUDA up to 12.4" and finding.next_step and "cu126" in finding.next_step


def test_no_gpu_is_a_note(machine: Machine) -> None:
    machine()
    [finding] = doctor_machine.check_gpu()
    assert (finding.state, finding.fatal) == ("note", False) and "Driver Not Loaded" in finding.what


def test_no_torch_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "ask_torch", lambda: "torch is not installed")
    finding = by_check(doctor_machine.check_packages())["torch"]
    assert finding.fatal and finding.next_step == install.torch()


def test_a_broken_torch_says_what_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_ASK_TORCH", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    assert doctor_machine.ask_torch.__wrapped__() == "ImportError: libcudart.so.13: cannot open shared object file"


def test_the_real_torch_answers() -> None:
    found = doctor_machine.ask_torch()
    assert isinstance(found, Torch)
    assert bool(found.architectures) is (found.cuda is not None)


# ---- profilers --------------------------------------------------------------------------------------------------------------


def test_profilers_of_a_new_gpu(machine: Machine, ubuntu: dict[str, Any]) -> None:
    machine(H200)
    found = by_check(doctor_machine.check_profilers())
    assert found["profiler nvprof"].state == "note" and found["profiler nvprof"].next_step is None, "installing it would not help"
    assert found["profiler nsys"].state == "missing" and "nsight-systems" in (found["profiler nsys"].next_step or "")
    assert found["profiler torch"].what == "works: --profiler auto takes it"


def test_profilers_of_an_old_gpu(machine: Machine, ubuntu: dict[str, Any]) -> None:
    machine(T4, cuda="12.6", archs=CU126)
    finding = by_check(doctor_machine.check_profilers())["profiler nvprof"]
    assert finding.state == "missing" and "cuda-nvprof-12" in (finding.next_step or "")


def test_an_nsys_without_a_temporary_folder_needs_no_installation(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(H200)
    monkeypatch.setattr(nsys, "find", lambda: ("/usr/bin/nsys", None))
    monkeypatch.setattr(nsys, "scratch_parent", lambda: None)
    finding = by_check(doctor_machine.check_profilers())["profiler nsys"]
    assert finding.next_step is None and "TMPDIR" in finding.what


def test_no_gnu_time(monkeypatch: pytest.MonkeyPatch, ubuntu: dict[str, Any]) -> None:
    monkeypatch.setattr(gnu_time, "find", lambda: None)
    finding = doctor_machine.check_accounting()
    assert (finding.state, finding.fatal, finding.next_step) == ("missing", False, "apt-get install -y time")


# ---- installing -------------------------------------------------------------------------------------------------------------


def test_apt_names_what_it_knows(ubuntu: dict[str, Any]) -> None:
    ubuntu["^nsight-systems-20[0-9.]+$"] = "nsight-systems-2026.1.3"
    assert install.nsys() == "apt-get install -y nsight-systems-2026.1.3"


def test_else_nvidias_repository_comes_first(ubuntu: dict[str, Any]) -> None:
    assert install.nvprof().startswith("add NVIDIA's repository") and install.nvprof().endswith("apt-get install -y cuda-nvprof-12-6")


def test_colab_takes_an_exclamation_mark(ubuntu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20261101")
    assert install.gnu_time() == "!apt-get install -y time"
    assert install.torch("cu126").startswith("!pip install ")


def test_others_than_root_take_sudo(ubuntu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install.gnu_time() == "sudo apt-get install -y time"


def test_conda_needs_no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_PREFIX", "/opt/conda")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert install.nvprof() == 'conda install -y -c nvidia "cuda-nvprof<13"'


def test_a_cluster_without_any_of_these_is_sent_to_its_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    assert "module avail" in install.nsys()


# ---- energy -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("energy_j", "power_w", "state", "what"),
    [(5.0, 60.0, "ok", "counter"), (None, 60.0, "ok", "sampled"), (None, None, "note", "none")],
)
def test_energy_of_the_gpu(monkeypatch: pytest.MonkeyPatch, energy_j: float | None, power_w: float | None, state: str, what: str) -> None:
    sample = {"gpu_energy_j": energy_j, "gpu_power_w": power_w}
    reasons = {"gpu_energy_j": "NVML: Not Supported", "gpu_power_w": "NVML: Insufficient Permissions"}
    devices = SimpleNamespace(sample=lambda pids: [sample], close=lambda: None, reasons=reasons)
    monkeypatch.setattr(doctor_machine, "GpuSampler", lambda device, environ: devices)
    finding = by_check(doctor_machine.check_energy())["energy of the GPU"]
    assert finding.state == state and what in finding.what


def test_energy_of_the_cpu_that_only_root_may_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "RAPL: Permission denied: energy_uj; root may open it to all with chmod a+r"
    monkeypatch.setattr(doctor_machine, "Rapl", lambda: SimpleNamespace(reason=reason))
    finding = by_check(doctor_machine.check_energy())["energy of the CPU"]
    assert finding.state == "missing" and finding.next_step and finding.next_step.endswith("energy_uj")


# ---- places -----------------------------------------------------------------------------------------------------------------


def test_slurm_colab_and_containers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_JOB_ID", "77"), ("COLAB_RELEASE_TAG", "release-colab"), ("APPTAINER_CONTAINER", "/x.sif")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    found = by_check(doctor_machine.check_place())
    assert found["Slurm"].what == "within job 77" and found["Colab"].what == "release-colab" and found["container"].what == "apptainer"


# ---- storage ----------------------------------------------------------------------------------------------------------------

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    for split, count in (("train", 3), ("val", 2)):
        (tmp_path / "set" / split).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "set" / split / f"{number}.jpg").touch()
    yaml = tmp_path / "set" / "cells.yaml"
    yaml.write_text("path: .\ntrain: train\nval: val\nnames: [cell]\n")
    return Plan(str(yaml), 416, "yolov3", tmp_path / "logs")


def test_a_data_set_that_fits(plan: Plan) -> None:
    found = by_check(doctor_storage.check_data(plan))
    assert found["data set"].what.startswith("cells: 3 + 2 images")
    assert found["disk for images"].state == found["memory"].state == "ok"
    assert "2.48 MiB" in found["disk for images"].what  # 5 images, 416 x 416 pixels, 3 bytes


def test_no_room_for_decoded_images_is_not_fatal(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 1000))
    monkeypatch.setattr(doctor_storage, "memory_limit", lambda: 1 << 20)
    found = by_check(doctor_storage.check_data(plan))
    assert (found["disk for images"].state, found["disk for images"].fatal) == ("missing", False)
    assert found["memory"].state == "note"


def test_no_room_for_checkpoints_is_fatal(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, 2 << 30))
    assert doctor_storage.check_disk(plan).fatal
    assert not doctor_storage.check_disk(Plan(None, 416, "yolov3-tiny", plan.logs)).fatal


def test_a_missing_data_set_names_the_line_that_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    [finding] = doctor_storage.check_data(Plan("bccd.yaml", 416, "yolov3", tmp_path))
    assert finding.fatal and finding.next_step == "yoloperf data fetch bccd"


def test_the_folder_of_logs_is_left_as_it_was(plan: Plan) -> None:
    before = sorted(plan.logs.parent.iterdir())
    assert doctor_storage.check_logs(plan).state == "ok"
    assert sorted(plan.logs.parent.iterdir()) == before


@pytest.mark.parametrize("fault", ["read-only", "no locks", "locks of no use"])
def test_a_folder_of_logs_that_does_not_do(plan: Plan, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    if fault == "read-only":

        def refuse(*args: Any, **keys: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(doctor_storage.tempfile, "TemporaryDirectory", refuse)
    elif fault == "no locks":

        def unsupported(*args: Any, **keys: Any) -> None:
            raise UserError("the file system has no file locks")

        monkeypatch.setattr(lock, "held", unsupported)
    else:
        monkeypatch.setattr(lock, "is_held", lambda path: False)
    finding = doctor_storage.check_logs(plan)
    assert finding.state == "missing" and "--logs" in (finding.next_step or "")


# ---- the verb ---------------------------------------------------------------------------------------------------------------


def run(*flags: str) -> tuple[int, dict[str, Any]]:
    return load("doctor").run(parser_for("doctor", load("doctor")).parse_args(flags))


def test_exit_code_says_whether_training_works(plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--data", str(plan.data), "--logs", str(plan.logs)]
    code, result = run(*flags)
    assert (code, result["works"]) == (0, True)
    assert "training works here; profiler " in capsys.readouterr().out
    monkeypatch.setattr(doctor_machine, "ask_torch", lambda: "torch is not installed")
    code, result = run(*flags)
    assert (code, result["works"]) == (1, False)
    assert "training does not work here yet: torch" in capsys.readouterr().out


def test_unknown_model_and_size_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", "yolov3-tinny"]) == 2
    assert "did you mean 'yolov3-tiny'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--img", "417")


def test_a_real_run_on_this_machine(tmp_path: Path) -> None:
    """As a process, so that nothing is patched: JSON only, and every finding says what state it is in."""
    command = [sys.executable, "-m", "yoloperf", "doctor", "--json", "--logs", str(tmp_path / "logs")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    result = json.loads(done.stdout)
    assert done.returncode == (0 if result["works"] else 1)
    checks = by_check(Finding(**finding) for finding in result["findings"])
    assert {"torch", "profiler nvprof", "profiler nsys", "profiler torch", "GNU time", "folder of logs"} <= set(checks)
    assert all(finding.state in ("ok", "missing", "note") for finding in checks.values())
    assert result["works"], "this machine runs the tests, so it can train"
    assert not (tmp_path / "logs").exists()
