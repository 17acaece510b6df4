"""NVML as a stand-in module plays it: there is no GPU where the tests run. Codes and texts are those of nvml.h and nvidia-ml-py."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from yoloperf.core.samples import CLOCK_REASONS, Totals
from yoloperf.harness.sampling import nvml
from yoloperf.harness.sampling.nvml import GpuSampler, words

TEXTS = {
    1: "Uninitialized",
    3: "Not Supported",
    4: "Insufficient Permissions",
    6: "Not Found",
    9: "Driver Not Loaded",
    13: "Function Not Found",
}
TEXTS |= {15: "GPU is lost", 999: "Unknown Error"}
GIB = 2**30
# A T4 at work: every quantity as NVML hands it out, milliwatts and millijoules
T4: dict[str, Any] = {
    "name": "Tesla T4",
    "uuid": "GPU-0a",
    "util": 97,
    "memory": (5 * GIB, 15 * GIB),
    "power": 69_500,
    "energy": 1_000_000,
    "clock": 585,
    "max_clock": 1590,
    "temperature": 71,
    "reasons": 0x4,
    "processes": [(4242, 4 * GIB)],
    "mig": 3,
}


class Failure(Exception):
    """NVMLError."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __str__(self) -> str:
        return TEXTS[self.value]


class Nvml(ModuleType):
    """The binding on a machine with these devices. A quantity that is an Exception is raised, a function is called."""

    NVMLError = Failure
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 4, 13
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    def __init__(self, devices: list[dict[str, Any]], parts: list[dict[str, Any]], start: Exception | None) -> None:
        super().__init__("pynvml")
        self.devices, self.parts, self.start = devices, parts, start
        self.open = 0
        self.calls: list[str] = []

    def get(self, handle: dict[str, Any], name: str) -> Any:
        assert self.open, "NVML must be initialised"
        self.calls.append(name)
        value = handle.get(name, Failure(3))
        if isinstance(value, Exception):
            raise value
        return value() if callable(value) else value

    def nvmlInit(self) -> None:
        if self.start:
            raise self.start
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.devices[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:
        for part in self.parts:
            if part["uuid"] == uuid:
                return part
        raise Failure(6)

    def nvmlDeviceGetMigMode(self, handle: dict[str, Any]) -> list[int]:
        if handle["mig"] == 3:
            raise Failure(3)
        return [handle["mig"], handle["mig"]]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> dict[str, Any]:
        if index >= len(self.parts):
            raise Failure(6)
        return self.parts[index]

    def nvmlDeviceGetUtilizationRates(self, handle: dict[str, Any]) -> Any:
        return SimpleNamespace(gpu=self.get(handle, "util"), memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle: dict[str, Any]) -> Any:
        used, total = self.get(handle, "memory")
        return SimpleNamespace(used=used, total=total, free=total - used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: dict[str, Any]) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.get(handle, "processes")]

    def nvmlDeviceGetMaxClockInfo(self, handle: dict[str, Any], kind: int) -> Any:
        return self.get(handle, "max_clock")

    def nvmlDeviceGetClockInfo(self, handle: dict[str, Any], kind: int) -> Any:
        return self.get(handle, "clock")

    def nvmlDeviceGetTemperature(self, handle: dict[str, Any], sensor: int) -> Any:
        return self.get(handle, "temperature")


def _plain(name: str) -> Callable[[Nvml, dict[str, Any]], Any]:
    return lambda self, handle: self.get(handle, name)


for function, quantity in {
    "nvmlDeviceGetName": "name",
    "nvmlDeviceGetUUID": "uuid",
    "nvmlDeviceGetPowerUsage": "power",
    "nvmlDeviceGetTotalEnergyConsumption": "energy",
    "nvmlDeviceGetCurrentClocksEventReasons": "reasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "old_reasons",
}.items():
    setattr(Nvml, function, _plain(quantity))

Machine = Callable[..., Nvml]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Puts these devices into the machine."""

    def put(*devices: dict[str, Any], parts: list[dict[str, Any]] | None = None, start: Exception | None = None) -> Nvml:
        library = Nvml(list(devices), parts or [], start)
        monkeypatch.setitem(sys.modules, "pynvml", library)
        return library

    return put


def test_the_stand_in_has_what_the_binding_has() -> None:
    """Every name that is asked for exists in nvidia-ml-py, and the reasons are its bits."""
    import pynvml

    text = Path(nvml.__file__).read_text()
    names = set(re.findall(r"library\.(nvml\w+|NVML\w+)", text))
    assert len(names) > 15
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert [name for name in names if not hasattr(Nvml, name)] == []
    called = ("GpuIdle", "ApplicationsClocksSetting", "SwPowerCap", "HwSlowdown", "SyncBoost", "SwThermalSlowdown", "HwThermalSlowdown")
    called += ("HwPowerBrakeSlowdown", "DisplayClockSetting", "BoardLimit", "Reliability")
    assert [getattr(pynvml, f"nvmlClocksThrottleReason{name}") for name in called] == list(CLOCK_REASONS)


def sample(gpus: GpuSampler, pids: tuple[int, ...] = ()) -> dict[str, Any]:
    (found,) = gpus.sample(frozenset(pids))
    return {name: value for name, value in found.items() if value is not None}


def test_a_sample_is_in_si_units_and_words(machine: Machine) -> None:
    library = machine(T4)
    gpus = GpuSampler("auto", {})
    assert sample(gpus, (4242,)) == {
        "gpu": "0",
        "gpu_util_pct": 97,
        "gpu_mem_used_bytes": 5 * GIB,
        "gpu_mem_run_bytes": 4 * GIB,
        "gpu_mem_bytes": 15 * GIB,
        "gpu_power_w": 69.5,
        "gpu_energy_j": 1000.0,
        "gpu_clock_mhz": 585,
        "gpu_clock_max_mhz": 1590,
        "gpu_temp_c": 71,
        "clock_reasons": "sw_power_cap",
        "gpu_other_processes": 0,
    }
    assert gpus.reasons == {}
    gpus.close()
    assert library.open == 0
    assert gpus.sample(frozenset()) == []


def test_zeroes_are_figures(machine: Machine) -> None:
    machine({**T4, "util": 0, "power": 0, "energy": 0, "clock": 0, "reasons": 0})
    found = sample(GpuSampler("0", {}))
    assert [found[name] for name in ("gpu_util_pct", "gpu_power_w", "gpu_energy_j", "gpu_clock_mhz")] == [0, 0, 0, 0]
    assert found["clock_reasons"] == "none"


def test_a_p40_has_no_counter_and_is_asked_for_it_once(machine: Machine) -> None:
    power = iter([50_000, 150_000, 250_000])
    library = machine({**T4, "name": "Tesla P40", "energy": Failure(3), "power": lambda: next(power)})
    gpus = GpuSampler("0", {})
    totals = Totals()
    for time_s in (0.0, 1.0, 2.0):
        totals.add({"time_s": time_s, "attempt": 1, **sample(gpus, (4242,))})
    found = totals.resources()
    assert (found["energy_j"], found["energy_source"], found["gpu_power_w"]) == (300.0, "polled", 150.0)
    assert gpus.reasons == {"gpu_energy_j": "NVML: Not Supported"}
    assert library.calls.count("energy") == 1


@pytest.mark.parametrize("quantity", ["util", "memory", "power", "energy", "clock", "temperature", "reasons", "processes"])
@pytest.mark.parametrize("code", [3, 4, 15, 999])
def test_what_one_quantity_refuses_leaves_the_others(machine: Machine, quantity: str, code: int) -> None:
    whole = sample(_gpus(machine, T4), (4242,))
    gpus = _gpus(machine, {**T4, quantity: Failure(code)})
    found = sample(gpus, (4242,))
    missing = set(whole) - set(found)
    assert missing
    assert all(found[name] == whole[name] for name in found)
    assert set(gpus.reasons.values()) == {f"NVML: {TEXTS[code]}"}
    assert set(gpus.reasons) <= missing


def _gpus(machine: Machine, *devices: dict[str, Any]) -> GpuSampler:
    machine(*devices)
    return GpuSampler("0", {})


def test_a_passing_error_is_asked_again(machine: Machine) -> None:
    answers = iter([Failure(999), 70_000])

    def power() -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    gpus = _gpus(machine, {**T4, "power": power})
    assert "gpu_power_w" not in sample(gpus)
    assert sample(gpus)["gpu_power_w"] == 70.0


def test_an_old_driver_knows_the_reasons_by_their_old_name(machine: Machine) -> None:
    assert sample(_gpus(machine, {**T4, "reasons": Failure(13), "old_reasons": 0x60}))["clock_reasons"] == "sw_thermal+hw_thermal"


def test_words_for_clock_reasons() -> None:
    assert words(0) == "none"
    assert words(0x1 | 0x80) == "idle+hw_power_brake"
    assert words(0x4 | 0x10000) == "sw_power_cap+0x10000"


def test_processes_of_others_are_counted(machine: Machine) -> None:
    found = sample(_gpus(machine, {**T4, "processes": [(4242, GIB), (77, 2 * GIB), (78, None)]}), (4242, 4243))
    assert (found["gpu_mem_run_bytes"], found["gpu_other_processes"]) == (GIB, 2)
    before = sample(_gpus(machine, {**T4, "processes": [(os.getpid(), GIB)]}))  # the run is not on the device yet
    assert before["gpu_other_processes"] == 1
    assert "gpu_mem_run_bytes" not in before


def test_process_numbers_from_outside_a_container_say_nothing(machine: Machine) -> None:
    gpus = _gpus(machine, {**T4, "processes": [(2**22 + 5, GIB)]})
    found = sample(gpus, (4242,))
    assert "gpu_other_processes" not in found
    assert "outside this container" in gpus.reasons["gpu_other_processes"]


def test_memory_of_a_process_may_be_withheld(machine: Machine) -> None:
    found = sample(_gpus(machine, {**T4, "processes": [(4242, None)]}), (4242,))
    assert "gpu_mem_run_bytes" not in found
    assert found["gpu_mem_used_bytes"] == 5 * GIB


@pytest.mark.parametrize(
    ("device", "environ", "names"),
    [
        ("auto", {}, ["0"]),
        ("1", {}, ["1"]),
        ("cuda:1", {}, ["1"]),
        ("0,1", {}, ["0", "1"]),
        ("0", {"CUDA_VISIBLE_DEVICES": "1"}, ["1"]),
        ("auto", {"CUDA_VISIBLE_DEVICES": "GPU-0b"}, ["1"]),
        ("cpu", {}, []),
    ],
)
def test_the_device_of_the_run_is_sampled(machine: Machine, device: str, environ: dict[str, str], names: list[str]) -> None:
    machine(T4, {**T4, "uuid": "GPU-0b"})
    gpus = GpuSampler(device, environ)
    assert [found["gpu"] for found in gpus.sample(frozenset({4242}))] == names
    assert gpus.reasons == {}


@pytest.mark.parametrize(
    ("devices", "device", "environ", "reason"),
    [
        ([], "auto", {}, "there is no GPU"),
        ([T4], "auto", {"CUDA_VISIBLE_DEVICES": ""}, "no GPU is visible"),
        ([T4], "1", {}, "no GPU is visible"),
        ([T4, {**T4, "name": "Tesla P40"}], "0", {}, "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ([T4], "auto", {"CUDA_VISIBLE_DEVICES": "MIG-gone"}, "NVML: Not Found"),
    ],
)
def test_why_no_gpu_is_sampled(machine: Machine, devices: list[dict[str, Any]], device: str, environ: dict[str, str], reason: str) -> None:
    library = machine(*devices)
    gpus = GpuSampler(device, environ)
    assert reason in gpus.reasons["gpu"]
    assert gpus.sample(frozenset()) == []
    gpus.close()
    assert library.open == 0


def test_without_driver_or_binding_the_reason_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(start=Failure(9))
    assert GpuSampler("auto", {}).reasons == {"gpu": "NVML: Driver Not Loaded"}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert GpuSampler("auto", {}).reasons == {"gpu": "nvidia-ml-py is not installed"}


A100 = {**T4, "name": "A100", "mig": 1, "util": Failure(3)}
PART = {"uuid": "MIG-5", "memory": (GIB, 10 * GIB), "processes": [(4242, GIB)], "power": 99_000, "energy": 5}


@pytest.mark.parametrize("environ", [{}, {"CUDA_VISIBLE_DEVICES": "MIG-5"}])
def test_of_a_mig_device_memory_is_known_and_power_is_not(machine: Machine, environ: dict[str, str]) -> None:
    machine(A100, parts=[PART])
    gpus = GpuSampler("auto", environ)
    assert sample(gpus, (4242,)) == {
        "gpu": "MIG-5",
        "gpu_mem_used_bytes": GIB,
        "gpu_mem_bytes": 10 * GIB,
        "gpu_mem_run_bytes": GIB,
        "gpu_other_processes": 0,
    }
    assert all("MIG" in gpus.reasons[name] for name in ("gpu_power_w", "gpu_energy_j", "gpu_util_pct", "clock_reasons"))


def test_one_of_several_mig_devices_must_be_named(machine: Machine) -> None:
    machine(A100, parts=[PART, {**PART, "uuid": "MIG-6"}])
    assert "2 MIG devices" in GpuSampler("auto", {}).reasons["gpu"]
