"""Checks of `yoloperf doctor` on the machine: torch, driver, profilers, accounting, energy, and where it is."""

import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from yoloperf.core.environment import collect
from yoloperf.core.units import show_bytes
from yoloperf.harness import install
from yoloperf.harness.finding import Finding
from yoloperf.harness.gpu import Gpu, gpus
from yoloperf.harness.profilers import gnu_time, nsys, nvprof, profilers
from yoloperf.harness.sampling.nvml import GpuSampler
from yoloperf.harness.sampling.rapl import Rapl

# module -> package; what a training imports besides torch
_MODULES = {
    "torchvision": "torchvision",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "psutil": "psutil",
    "tqdm": "tqdm",
    "faster_coco_eval": "faster-coco-eval",
}
# get_arch_list() is empty where no GPU is usable; what it reads then is the same
_ASK_TORCH = (
    "import json, torch; "
    "flags = torch._C._cuda_getArchFlags() if torch.version.cuda else None; "
    "archs = torch.cuda.get_arch_list() or (flags or '').split(); "
    "print(json.dumps([torch.__version__, torch.version.cuda, archs, torch.cuda.is_available()]))"
)


@dataclass(frozen=True)
class Torch:
    """The installed torch: architectures such as sm_75 that its kernels were built for, and whether it can use a GPU now."""

    version: str
    cuda: str | None
    architectures: tuple[str, ...]
    sees_gpu: bool
    said: str


@functools.cache
def ask_torch() -> Torch | str:
    """Ask torch in a process of its own; why it does not answer where it does not."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    done = subprocess.run([sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, check=False)
    said = next((line.strip() for line in reversed(done.stderr.splitlines()) if "Warning" in line or "Error" in line), "")
    if done.returncode:
        return said or f"import torch ends with exit code {done.returncode}"
    version, cuda, architectures, sees_gpu = json.loads(done.stdout.splitlines()[-1])
    return Torch(version, cuda, tuple(architectures), sees_gpu, said)


def built_for(gpu: Gpu, architectures: tuple[str, ...]) -> bool:
    """Whether kernels of these architectures run on the GPU.

    Binaries (sm_) run on their own minor version and later ones of the same major; PTX (compute_) on all later ones
    (CUDA C++ programming guide, binary and PTX compatibility).
    """
    for name in architectures:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)", name)
        if found is None:  # such as sm_90a: for that one alone
            continue
        made = int(found[2]), int(found[3])
        if made <= gpu.capability and (found[1] == "compute" or made[0] == gpu.capability[0]):
            return True
    return False


def check_packages() -> Iterator[Finding]:
    found = ask_torch()
    if isinstance(found, str):
        yield Finding("torch", "missing", found, next_step=install.torch(), fatal=True)
    else:
        kind = f"CUDA {found.cuda}, kernels for {' '.join(found.architectures)}" if found.cuda else "CPU only"
        yield Finding("torch", "ok", f"{found.version} ({kind})")
    missing = [package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        yield Finding("packages", "missing", " ".join(missing), next_step=install.package(*missing), fatal=True)


def check_gpu() -> Iterator[Finding]:
    here, found = gpus(), ask_torch()
    if here.reason:
        step = {"docker": "start the container with --gpus all", "apptainer": "start the container with --nv"}.get(
            str(collect()["container"])
        )
        if "nvidia-ml-py" in here.reason:
            step = install.package("nvidia-ml-py")
        yield Finding("GPU", "note", here.reason, "trainings run on the CPU", step)
        return
    cuda = ".".join(map(str, here.cuda or ()))
    for gpu in here.visible:
        yield Finding("GPU", "ok", f"{gpu}, {show_bytes(gpu.memory_bytes)}; driver {here.driver}, for CUDA up to {cuda}")
    if isinstance(found, str):
        return
    for gpu in dict.fromkeys(here.visible):
        if found.cuda and not built_for(gpu, found.architectures):
            yield Finding(
                "wheel of torch",
                "missing",
                f"torch {found.version} has no kernels for {gpu}",
                "from torch 2.11, Pascal and Volta are in the wheels of CUDA 12.6 only" if gpu.capability < (7, 5) else None,
                install.torch("cu126" if gpu.capability < (7, 5) else None),
                fatal=found.sees_gpu,  # else it does not try to use it
            )
            return
    if not found.sees_gpu:
        old = bool(found.cuda and here.cuda and here.cuda[0] < int(found.cuda.partition(".")[0]))
        why = f"the driver runs CUDA up to {cuda}" if old else found.said or "torch.cuda.is_available() says no"
        step = install.torch("cu126" if old and here.cuda and here.cuda[0] == 12 else None) if old or not found.cuda else None
        yield Finding("wheel of torch", "missing", f"torch {found.version} cannot use the GPU: trainings run on the CPU", why, step)
    else:
        yield Finding("wheel of torch", "ok", "it supports every visible GPU")


def check_profilers() -> Iterator[Finding]:
    """What auto would take, and of the others why not and what would help."""
    taken = False
    for profiler in profilers(1):
        if profiler.name == "none":
            continue
        reason = profiler.unavailable()
        if reason:
            line = _profiler_line(profiler.name)
            yield Finding(f"profiler {profiler.name}", "missing" if line else "note", reason, next_step=line)
        else:
            yield Finding(f"profiler {profiler.name}", "ok", "works" if taken else "works: --profiler auto takes it", profiler.why_auto)
            taken = True


def _profiler_line(name: str) -> str | None:
    """The line that installs it, None where that would not help."""
    if name == "nvprof":
        return None if nvprof.unsupported() else install.nvprof()
    if name == "nsys":
        return None if gpus().reason or nsys.find()[0] else install.nsys()
    return install.torch()


def check_accounting() -> Finding:
    path = gnu_time.find()
    if path:
        return Finding("GNU time", "ok", path)
    why = "CPU time and memory come from the kernel's own accounting (wait4) instead; a log has no block of GNU time"
    return Finding("GNU time", "missing", "not installed", why, install.gnu_time())


def check_energy() -> Iterator[Finding]:
    devices = GpuSampler("auto", os.environ)
    try:
        samples = devices.sample(frozenset())
    finally:
        devices.close()
    for sample in samples:
        if sample["gpu_energy_j"] is not None:
            yield Finding("energy of the GPU", "ok", "NVML's energy counter", "exact between two readings")
        elif sample["gpu_power_w"] is not None:
            reason = devices.reasons.get("gpu_energy_j")
            yield Finding("energy of the GPU", "ok", "power, sampled and summed", f"no energy counter, which begins with Volta ({reason})")
        else:
            yield Finding("energy of the GPU", "note", "none", devices.reasons.get("gpu_power_w"))
    if not samples:
        yield Finding("energy of the GPU", "note", "none", devices.reasons.get("gpu"))
    reason = Rapl().reason
    if reason is None:
        yield Finding("energy of the CPU", "ok", "RAPL's counters")
    elif "chmod" in reason:
        step = install.privileged("chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj")
        yield Finding("energy of the CPU", "missing", "RAPL may not be read", reason, step)
    else:
        yield Finding("energy of the CPU", "note", "none", reason)


def check_place() -> Iterator[Finding]:
    facts = collect()
    yield Finding(
        "machine", "note", f"{facts['hostname']}: {facts['cpu_name']}, {facts['cpu_count']} of {os.cpu_count()} cores, {facts['os']}"
    )
    if facts["slurm_job_id"]:
        yield Finding("Slurm", "note", f"within job {facts['slurm_job_id']}", "this is the node; the login node may have other tools")
    elif shutil.which("sbatch"):
        why = "the doctor spoke of this machine; on a node: srun yoloperf doctor"
        yield Finding("Slurm", "note", "sbatch is here: --launcher slurm", why)
    if facts["colab"]:
        why = "its disk is lost at the end: results belong on Drive, data on the local disk"
        yield Finding("Colab", "note", str(facts["colab"]), why)
    if facts["container"]:
        yield Finding("container", "note", str(facts["container"]))
    if "microsoft" in platform.release().lower():
        why = "nsys needs CuptiUseRawGpuTimestamps=false in the file that `nsys -z` names"
        yield Finding("WSL", "note", "Windows Subsystem for Linux", why)
