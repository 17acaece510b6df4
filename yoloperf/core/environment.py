"""The machine that a run takes place on, as far as it can be seen without the trainer: what is unknown is None."""

import itertools
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOURCE_ROOT = Path(__file__).resolve().parents[2]  # the working tree, where the package was not installed elsewhere


def collect() -> dict[str, Any]:
    """The facts for run.json, keyed like the columns of RunRecord where there is one."""
    return {
        "hostname": socket.gethostname(),
        "os": platform.platform(),
        "python": platform.python_version(),
        "cpu_name": _cpu_name(),
        "cpu_count": _cpu_count(),
        "mem_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "git_commit": git_commit(SOURCE_ROOT),
        "container": _container(os.environ),
        "colab": os.environ.get("COLAB_RELEASE_TAG"),
        **_slurm(os.environ),
        **_gpu(os.environ.get("CUDA_VISIBLE_DEVICES")),
    }


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None


def _cpu_count() -> int | None:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()


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


def _gpu(visible: str | None) -> dict[str, Any]:
    """Name and memory of the GPU that a run would use, from NVML.

    CUDA numbers devices by speed and NVML by bus, so with unlike devices in one machine the index alone
    does not say which is meant: name and memory stay None then (the trainer's own events have them).
    """
    absent = {"gpu_name": None, "gpu_mem_bytes": None, "gpu_count": None, "driver": None}
    try:
        import pynvml
    except ImportError:
        return absent
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return absent
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        devices = [(_text(pynvml.nvmlDeviceGetName(handle)), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)) for handle in handles]
        uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return absent
    finally:
        pynvml.nvmlShutdown()
    words = None
    if visible is not None:  # CUDA stops reading at the first entry that is no device, such as -1
        words = list(itertools.takewhile(lambda word: word not in ("", "-1"), map(str.strip, visible.split(","))))
    chosen = devices if words is None else [device for device, uuid in zip(devices, uuids, strict=True) if _means(words, uuid)]
    if words is not None and all(word.isdigit() for word in words):
        chosen = devices if len(set(devices)) == 1 and words else []
    name, memory = chosen[0] if len(set(chosen)) == 1 else (None, None)
    return {"gpu_name": name, "gpu_mem_bytes": memory, "gpu_count": len(devices) if words is None else len(words), "driver": driver}


def _means(words: list[str], uuid: str) -> bool:
    return any(uuid.startswith(word) for word in words)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
