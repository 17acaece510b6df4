"""Samples of machine and device beside a run (device.csv), and what they come to: columns of RunRecord.

The harness sums up while it samples; a reader sums up the samples of an attempt whose harness was killed. Both do it here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Columns of device.csv. A row is one GPU's sample (`gpu` says which) or the host's (`gpu` is empty); what is unknown is empty.
COLUMNS = (
    "time_s",  # since 1970
    "attempt",  # from 1
    "gpu",  # NVML's index, or the UUID of a MIG device
    "gpu_util_pct",
    "gpu_mem_used_bytes",  # of the whole device
    "gpu_mem_run_bytes",  # of this run's processes
    "gpu_mem_bytes",
    "gpu_power_w",
    "gpu_energy_j",  # the device's counter, since its driver was loaded
    "gpu_clock_mhz",  # of the multiprocessors
    "gpu_clock_max_mhz",
    "gpu_temp_c",
    "clock_reasons",  # words of CLOCK_REASONS joined by +, or "none"
    "gpu_other_processes",
    "tree_bytes",
    "tree_source",
    "tree_processes",
    "tree_cpu_s",  # since the attempt began
    "cpu_energy_j",  # since the attempt began
)
TEXTS = ("gpu", "clock_reasons", "tree_source")

# NVML's clocks event reasons (nvml.h), by bit
CLOCK_REASONS = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
# Those that hold a busy device back against its setting: idling and clocks that somebody set do not
THROTTLING = ("sw_power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake", "board_limit", "reliability")

Sample = Mapping[str, Any]

# How the figures of several attempts become the run's. Everything not named here is the last attempt's or nobody's.
_SUMS = ("tree_cpu_s", "energy_j", "cpu_energy_j")
_PEAKS = ("tree_peak_bytes", "gpu_mem_peak_bytes", "gpu_temp_peak_c", "gpu_other_processes", "gpu_mem_bytes")
_MEANS = ("gpu_util_pct", "gpu_power_w", "gpu_clock_mhz", "throttled_share")
_WEAKER = {"tree_source": ("rss", "pss"), "energy_source": ("polled", "counter", "rapl"), "gpu_mem_source": ("device", "run")}


class _Mean:
    """Mean over time: a sample stands for the time since the one before it."""

    def __init__(self) -> None:
        self._sum, self._seconds = 0.0, 0.0

    def add(self, value: float | None, seconds: float) -> None:
        if value is not None:
            self._sum += value * seconds
            self._seconds += seconds

    @property
    def value(self) -> float | None:
        return self._sum / self._seconds if self._seconds else None


class _Integral:
    """Energy between samples that know it: of a counter the difference, of polled power the trapezoids."""

    def __init__(self, name: str, counter: bool) -> None:
        self._name, self._counter = name, counter
        self._last: tuple[float, float] | None = None
        self._joules, self._seconds = 0.0, 0.0

    def add(self, sample: Sample) -> None:
        value = sample.get(self._name)
        if value is None:
            return
        if self._last is not None:
            seconds = max(sample["time_s"] - self._last[0], 0.0)
            gone = value - self._last[1] if self._counter else (value + self._last[1]) / 2 * seconds
            if gone >= 0:  # else the counter began anew with its driver, and what it counted in between is not known
                self._joules += gone
                self._seconds += seconds
        self._last = sample["time_s"], value

    def over(self, seconds: float) -> float | None:
        """Joules, None where some of these seconds are not covered."""
        return self._joules if 0 < seconds <= self._seconds + 1e-6 else None


class _Gpu:
    """One GPU's samples."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self.means = {name: _Mean() for name in ("gpu_util_pct", "gpu_clock_mhz", "throttled_share")}
        self.peaks: dict[str, float] = {}
        self.reasons: Counter[str] = Counter()
        self.seconds = 0.0
        self._integrals = {"counter": _Integral("gpu_energy_j", True), "polled": _Integral("gpu_power_w", False)}

    def add(self, sample: Sample) -> None:
        for name in ("gpu_mem_used_bytes", "gpu_mem_run_bytes", "gpu_mem_bytes", "gpu_temp_c", "gpu_other_processes"):
            _raise(self.peaks, name, sample.get(name))
        for integral in self._integrals.values():
            integral.add(sample)
        seconds = 0.0 if self._last_s is None else max(sample["time_s"] - self._last_s, 0.0)
        self._last_s = sample["time_s"]
        self.seconds += seconds
        words = sample.get("clock_reasons")
        held = [word for word in THROTTLING if words is not None and word in words.split("+")]
        self.reasons.update({word: seconds for word in held})
        for name in ("gpu_util_pct", "gpu_clock_mhz"):
            self.means[name].add(sample.get(name), seconds)
        self.means["throttled_share"].add(None if words is None else float(bool(held)), seconds)

    @property
    def energy(self) -> tuple[float, str] | None:
        """Joules and where they come from; None unless the whole time is covered."""
        found = ((integral.over(self.seconds), source) for source, integral in self._integrals.items())
        return next(((joules, source) for joules, source in found if joules is not None), None)


class Totals:
    """What the samples of one attempt come to."""

    def __init__(self) -> None:
        self._gpus: dict[str, _Gpu] = {}
        self._peaks: dict[str, float] = {}
        self._last: dict[str, Any] = {}
        self._first_s: float | None = None
        self._last_s = 0.0

    def add(self, sample: Sample) -> None:
        """sample: a row of device.csv as numbers and text; what is unknown is None or missing."""
        self._first_s = sample["time_s"] if self._first_s is None else self._first_s
        self._last_s = max(self._last_s, sample["time_s"])
        if sample.get("gpu") is not None:
            self._gpus.setdefault(sample["gpu"], _Gpu()).add(sample)
            return
        _raise(self._peaks, "tree_peak_bytes", sample.get("tree_bytes"))
        for name in ("tree_cpu_s", "cpu_energy_j"):
            if name in sample:  # None, too: a counter that went away tells of a part of the time only
                self._last[name] = sample[name]
        if sample.get("tree_source") is not None and self._last.get("tree_source") != "rss":
            self._last["tree_source"] = sample["tree_source"]

    def resources(self, on_gpu: bool | None = None) -> dict[str, Any]:
        """Columns of RunRecord where there is one; only what is known. on_gpu: whether the run used a GPU, None where nobody says.

        Energy is the GPUs' where the run used any, sampled or not: that of the CPU does not stand in for it.
        """
        found: dict[str, Any] = {**self._peaks, **self._last}
        if on_gpu is not False and self._gpus:
            found |= self._of_gpus(list(self._gpus.values()))
        elif not on_gpu and found.get("cpu_energy_j") is not None:
            found |= {"energy_j": found["cpu_energy_j"], "energy_source": "rapl"}
        if self._first_s is not None:
            found["sampled_s"] = self._last_s - self._first_s
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items() if value is not None}

    def _of_gpus(self, gpus: Sequence[_Gpu]) -> dict[str, Any]:
        energies = [gpu.energy for gpu in gpus]
        whole = [energy for energy in energies if energy is not None]
        found: dict[str, Any] = {name: _mean(gpu.means[name].value for gpu in gpus) for name in gpus[0].means}
        if len(whole) == len(gpus):
            found["energy_j"] = sum(joules for joules, _ in whole)
            found["energy_source"] = "polled" if "polled" in {source for _, source in whole} else "counter"
            found["gpu_power_w"] = sum(joules / gpu.seconds for (joules, _), gpu in zip(whole, gpus, strict=True))
        memory = [gpu.peaks.get("gpu_mem_run_bytes", gpu.peaks.get("gpu_mem_used_bytes")) for gpu in gpus]
        found["gpu_mem_peak_bytes"] = None if None in memory else sum(int(value or 0) for value in memory)
        found["gpu_mem_source"] = "run" if all("gpu_mem_run_bytes" in gpu.peaks for gpu in gpus) else "device"
        found["gpu_mem_bytes"] = _highest(gpu.peaks.get("gpu_mem_bytes") for gpu in gpus)
        found["gpu_temp_peak_c"] = _highest(gpu.peaks.get("gpu_temp_c") for gpu in gpus)
        found["gpu_other_processes"] = _highest(gpu.peaks.get("gpu_other_processes") for gpu in gpus)
        reasons = sum((gpu.reasons for gpu in gpus), Counter())
        found["throttle_reasons"] = "+".join(word for word, _ in reasons.most_common()) or None
        return found


def combine(attempts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """The resources of a run from those of its attempts: energy and CPU time summed, peaks, means over time.

    What one of the attempts lacks, the run lacks. Energies of different devices are not summed.
    """
    known = [attempt for attempt in attempts if attempt]
    if not known or len(known) < len(attempts):
        return {}
    found: dict[str, Any] = {}
    for name in {name: None for attempt in known for name in attempt}:
        values: list[Any] = [attempt.get(name) for attempt in known]
        if name == "throttle_reasons":
            found[name] = "+".join(dict.fromkeys(word for value in values if value for word in value.split("+")))
        elif None in values:
            continue
        elif name in _SUMS:
            found[name] = sum(values)
        elif name in _PEAKS:
            found[name] = max(values)
        elif name in _MEANS:
            mean = _Mean()
            for value, attempt in zip(values, known, strict=True):
                mean.add(value, attempt.get("sampled_s") or 0.0)
            found[name] = mean.value if mean.value is not None else values[-1]
        elif name in _WEAKER and set(values) <= set(_WEAKER[name]):
            found[name] = min(values, key=_WEAKER[name].index)
    if len({attempt.get("energy_source") == "rapl" for attempt in known}) > 1:
        found.pop("energy_j", None)
        found.pop("energy_source", None)
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in found.items() if value is not None}


def row(sample: Sample) -> str:
    """A sample as a line of device.csv."""
    cells = ("" if sample.get(name) is None else sample[name] for name in COLUMNS)
    return ",".join(f"{cell:.3f}".rstrip("0").rstrip(".") if isinstance(cell, float) else str(cell) for cell in cells) + "\n"


def header() -> str:
    return ",".join(COLUMNS) + "\n"


def parse_row(columns: Sequence[str], line: str) -> dict[str, Any]:
    """The sample in a line below a header with these columns. Raises ValueError where it is not one."""
    cells = line.strip().split(",")
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells under {len(columns)} columns")
    sample = {name: cell if name in TEXTS else _number(cell) for name, cell in zip(columns, cells, strict=True) if cell}
    if "time_s" not in sample or "attempt" not in sample:
        raise ValueError("a sample without time_s or attempt")
    return sample


def _number(cell: str) -> float | int:
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{cell} is no number")
    return int(value) if value.is_integer() else value


def _raise(peaks: dict[str, float], name: str, value: float | None) -> None:
    if value is not None and value > peaks.get(name, -math.inf):
        peaks[name] = value


def _highest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(found) else None
