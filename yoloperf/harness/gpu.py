"""The GPUs that a run on this machine would see, and what the installed torch was built for: asked without torch."""

import functools
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from yoloperf.core import nvml


@dataclass(frozen=True)
class Gpu:
    """One device. capability: CUDA compute capability, such as (7, 5)."""

    name: str
    capability: tuple[int, int]
    memory_bytes: int
    uuid: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability[0]}.{self.capability[1]})"


@dataclass(frozen=True)
class Gpus:
    """visible: the devices that CUDA may use here; every device where which ones are meant cannot be told.

    cuda: the newest CUDA that the driver runs, such as (12, 8). reason: why `visible` is empty, None when it is not.
    """

    visible: tuple[Gpu, ...] = ()
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    reason: str | None = None


@functools.cache
def gpus() -> Gpus:
    """Ask NVML, once a process."""
    try:
        with nvml.opened() as library:
            handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
            there = [
                Gpu(
                    nvml.text(library.nvmlDeviceGetName(handle)),
                    tuple(library.nvmlDeviceGetCudaComputeCapability(handle)),
                    int(library.nvmlDeviceGetMemoryInfo(handle).total),
                    nvml.text(library.nvmlDeviceGetUUID(handle)),
                )
                for handle in handles
            ]
            driver = nvml.text(library.nvmlSystemGetDriverVersion())
            number = int(library.nvmlSystemGetCudaDriverVersion())
    except nvml.Unavailable as unavailable:
        return Gpus(reason=f"no NVIDIA GPU can be used: {unavailable}")
    shown, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
    indices = nvml.visible(shown, order, [(gpu.name, gpu.memory_bytes) for gpu in there], [gpu.uuid for gpu in there])
    chosen = [there[index] for index in indices if isinstance(index, int)]
    visible = tuple(chosen if len(chosen) == len(indices) else there)
    reason = None if visible else "no GPU is in this machine" if not there else f"CUDA_VISIBLE_DEVICES={shown!r} shows no GPU"
    return Gpus(visible, driver, (number // 1000, number % 1000 // 10), reason)


@functools.cache
def torch_cuda() -> tuple[int, int] | None:
    """The CUDA that the installed torch was built with, read from its files; None without torch or for a CPU wheel."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b[^=\n]*= *['\"](\d+)\.(\d+)", text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None
