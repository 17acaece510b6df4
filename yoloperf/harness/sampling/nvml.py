"""The GPUs of a run, from NVML. What a device does not tell is unknown, and why is kept."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yoloperf.core import nvml
from yoloperf.core.samples import CLOCK_REASONS

_WHOLE = "MIG: NVML tells it of the whole GPU only, which others may use"
# What NVML answers for a MIG device itself
_OF_MIG = ("gpu_mem_used_bytes", "gpu_mem_bytes", "gpu_mem_run_bytes", "gpu_other_processes")


@dataclass
class _Device:
    """A GPU or a MIG device."""

    name: str
    handle: Any
    mig: bool = False
    mute: set[str] = field(default_factory=set)  # what it will never tell


class GpuSampler:
    """The GPUs that a run with this --device uses, open until `close`. `reasons`: column, or "gpu" for all of them -> why it is empty."""

    def __init__(self, device: str, environ: Mapping[str, str]) -> None:
        """device: as in TrialSpec; environ: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER hold here."""
        self.reasons: dict[str, str] = {}
        self._devices: list[_Device] = []
        self._open = ExitStack()
        if device == "cpu":
            return
        try:
            with ExitStack() as stack:
                self._nvml = stack.enter_context(nvml.opened())
                self._devices = [self._device(which) for which in self._chosen(device, environ)]
                self._open = stack.pop_all()
        except nvml.Unavailable as error:
            self.reasons["gpu"] = str(error)

    def close(self) -> None:
        self._devices = []
        self._open.close()

    def _chosen(self, device: str, environ: Mapping[str, str]) -> list[int | str]:
        """What --device means among the devices that CUDA would show."""
        library = self._nvml
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        kinds = [nvml.text(library.nvmlDeviceGetName(handle)) for handle in handles]
        uuids = [nvml.text(library.nvmlDeviceGetUUID(handle)) for handle in handles]
        seen = nvml.visible(environ.get("CUDA_VISIBLE_DEVICES"), environ.get("CUDA_DEVICE_ORDER"), kinds, uuids)
        wanted = [int(word) for word in device.replace("cuda:", "").split(",") if word.isdigit()] or [0]
        if max(wanted) >= len(seen):
            raise nvml.Unavailable("no GPU is visible (CUDA_VISIBLE_DEVICES)" if handles else "NVML: there is no GPU")
        chosen = [which for number in wanted if (which := seen[number]) is not None]
        if len(chosen) < len(wanted):
            raise nvml.Unavailable("which of these unlike GPUs CUDA numbers how is not known: set CUDA_DEVICE_ORDER=PCI_BUS_ID")
        return chosen

    def _device(self, which: int | str) -> _Device:
        library = self._nvml
        if isinstance(which, str):
            return _Device(which, library.nvmlDeviceGetHandleByUUID(which), mig=True)
        handle = library.nvmlDeviceGetHandleByIndex(which)
        if not (self._try(library.nvmlDeviceGetMigMode, handle) or [0])[0]:
            return _Device(str(which), handle)
        count = library.nvmlDeviceGetMaxMigDeviceCount(handle)
        parts = [part for number in range(count) if (part := self._try(library.nvmlDeviceGetMigDeviceHandleByIndex, handle, number))]
        if len(parts) != 1:
            raise nvml.Unavailable(f"GPU {which} is cut into {len(parts)} MIG devices: name one in CUDA_VISIBLE_DEVICES")
        return _Device(nvml.text(library.nvmlDeviceGetUUID(parts[0])), parts[0], mig=True)

    def _try(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None

    def sample(self, pids: frozenset[int]) -> list[dict[str, Any]]:
        """Columns of device.csv for every GPU. pids: the run's processes."""
        return [self._sample(device, pids) for device in self._devices]

    def _sample(self, device: _Device, pids: frozenset[int]) -> dict[str, Any]:
        library, handle = self._nvml, device.handle

        def ask(column: str, call: Callable[..., Any], *arguments: Any) -> Any:
            return self._ask(device, column, call, handle, *arguments)

        util = ask("gpu_util_pct", library.nvmlDeviceGetUtilizationRates)
        memory = ask("gpu_mem_used_bytes", library.nvmlDeviceGetMemoryInfo)
        power_mw = ask("gpu_power_w", library.nvmlDeviceGetPowerUsage)
        energy_mj = ask("gpu_energy_j", library.nvmlDeviceGetTotalEnergyConsumption)  # Volta and newer
        reasons = ask("clock_reasons", self._clock_reasons)
        return {
            "gpu": device.name,
            "gpu_util_pct": util and util.gpu,
            "gpu_mem_used_bytes": memory and memory.used,
            "gpu_mem_bytes": memory and memory.total,
            "gpu_power_w": None if power_mw is None else power_mw / 1000,
            "gpu_energy_j": None if energy_mj is None else energy_mj / 1000,
            "gpu_clock_mhz": ask("gpu_clock_mhz", library.nvmlDeviceGetClockInfo, library.NVML_CLOCK_SM),
            "gpu_clock_max_mhz": ask("gpu_clock_max_mhz", library.nvmlDeviceGetMaxClockInfo, library.NVML_CLOCK_SM),
            "gpu_temp_c": ask("gpu_temp_c", library.nvmlDeviceGetTemperature, library.NVML_TEMPERATURE_GPU),
            "clock_reasons": None if reasons is None else words(reasons),
            **self._processes(ask("gpu_other_processes", library.nvmlDeviceGetComputeRunningProcesses), pids),
        }

    def _ask(self, device: _Device, column: str, call: Callable[..., Any], *arguments: Any) -> Any:
        if column in device.mute:
            return None
        if device.mig and column not in _OF_MIG:
            self.reasons.setdefault(column, _WHOLE)
            return None
        library = self._nvml
        try:
            return call(*arguments)
        except library.NVMLError as error:
            self.reasons.setdefault(column, f"NVML: {error}")
            if error.value in (library.NVML_ERROR_NOT_SUPPORTED, library.NVML_ERROR_NO_PERMISSION, library.NVML_ERROR_FUNCTION_NOT_FOUND):
                device.mute.add(column)
            return None

    def _clock_reasons(self, handle: Any) -> int:
        """The mask, under its name of today or, with an old driver or binding, the one that it had."""
        library = self._nvml
        try:
            return int(library.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except (AttributeError, library.NVMLError) as error:
            if getattr(error, "value", library.NVML_ERROR_FUNCTION_NOT_FOUND) != library.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
            return int(library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _processes(self, found: list[Any] | None, pids: frozenset[int]) -> dict[str, Any]:
        """Memory of the run's processes and number of the others.

        In a container, many drivers give the numbers that processes have outside. So who is none of ours is only known to be
        somebody else where one of the numbers is ours, or where all of them are processes here.
        """
        if found is None:
            return {}
        ours = [process for process in found if process.pid in pids]
        sizes = [process.usedGpuMemory for process in ours]
        if found and not ours and not all(Path(f"/proc/{process.pid}").exists() for process in found):
            self.reasons["gpu_other_processes"] = "NVML numbers processes as they are outside this container"
            return {}
        return {
            "gpu_mem_run_bytes": sum(sizes) if sizes and None not in sizes else None,
            "gpu_other_processes": len(found) - len(ours),
        }


def words(mask: int) -> str:
    """Clocks event reasons as words of CLOCK_REASONS, "none" for none; a bit that is not in nvml.h yet by its number."""
    found = [word for bit, word in CLOCK_REASONS.items() if mask & bit]
    rest = mask & ~sum(CLOCK_REASONS)
    return "+".join([*found, *([hex(rest)] if rest else [])]) or "none"
