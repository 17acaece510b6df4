"""The machine that a run takes place on, as far as it can be seen without the trainer: what is unknown is None."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloperf.core import nvml
from yoloperf.core.datafolder import look
from yoloperf.core.limits import available_cores, memory_limit
from yoloperf.core.storage import storage

_CUDNN = ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cudnn-cu11")  # packages that torch's CUDA wheels bring along
SOURCE_ROOT = Path(__file__).resolve().parents[2]  # the working tree, where the package was not installed elsewhere


def collect(data: str | None = None) -> dict[str, Any]:
    """The facts for run.json, keyed like the columns of RunRecord where there is one.

    data: data YAML of the run, whose folder's speed is measured once a process. torch, CUDA and cuDNN are those that are
    installed here; the trainer's own word on them, in its events, counts more.
    """
    place = look(data) if data else None
    return {
        "hostname": socket.gethostname(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu_name": _cpu_name(),
        "cpu_count": available_cores(),
        "cpu_count_machine": os.cpu_count(),
        "mem_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "mem_limit_bytes": memory_limit(),
        "torch": _version("torch"),
        "cudnn": next((version for name in _CUDNN if (version := _version(name))), None),
        "git_commit": git_commit(SOURCE_ROOT),
        "container": _container(os.environ),
        "colab": os.environ.get("COLAB_RELEASE_TAG"),
        "colab_tier": os.environ.get("YOLOPERF_COLAB_TIER"),  # Colab tells no program which tier it is: its user may
        **_slurm(os.environ),
        **(storage(place.root) if place else {}),
        **_gpu(os.environ),
    }


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit(root: Path) -> str | None:
    """First 12 digits of the commit of the working tree, "+" behind them when tracked files differ; None where there is no git."""
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changes else "")


def _git(root: Path, *words: str) -> str:
    # --no-optional-locks: asking must not get in the way of someone who commits
    done = subprocess.run(["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _container(environ: Mapping[str, str]) -> str | None:
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if Path("/.dockerenv").exists():
        return "docker"
    return "podman" if Path("/run/.containerenv").exists() else None


def _slurm(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Ids of the job; slurm_job_id is `array_task` for a task of an array, as squeue shows it."""
    job = environ.get("SLURM_JOB_ID")
    if "SLURM_ARRAY_TASK_ID" in environ:
        job = f"{environ.get('SLURM_ARRAY_JOB_ID', job)}_{environ['SLURM_ARRAY_TASK_ID']}"
    return {"slurm_job_id": job, "slurm_partition": environ.get("SLURM_JOB_PARTITION"), "slurm_cluster": environ.get("SLURM_CLUSTER_NAME")}


def _gpu(environ: Mapping[str, str]) -> dict[str, Any]:
    """Name and memory of the GPU that a run would use, from NVML; None where it cannot be told (the trainer's own events have them)."""
    try:
        with nvml.opened() as library:
            handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
            names = [nvml.text(library.nvmlDeviceGetName(handle)) for handle in handles]
            sizes = [int(library.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles]
            uuids = [nvml.text(library.nvmlDeviceGetUUID(handle)) for handle in handles]
            driver = nvml.text(library.nvmlSystemGetDriverVersion())
    except nvml.Unavailable:
        return {"gpu_name": None, "gpu_mem_bytes": None, "gpu_count": None, "driver": None}
    devices = list(zip(names, sizes, strict=True))
    seen = nvml.visible(environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER"), devices, uuids)
    chosen = {devices[index] if isinstance(index, int) else (None, None) for index in seen}
    name, memory = chosen.pop() if len(chosen) == 1 else (None, None)
    return {"gpu_name": name, "gpu_mem_bytes": memory, "gpu_count": len(seen), "driver": driver}
