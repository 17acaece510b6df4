"""The samples beside a run (device.csv of its folder) as series over time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloperf.core.record import RunRecord
from yoloperf.core.rundir import RunDir
from yoloperf.core.samples import Sample, parse_row
from yoloperf.report.links import log_of

POINTS = 240  # of a series; more samples are averaged

# column of device.csv -> title and unit. "cores" is derived: CPU time of the process tree by time
QUANTITIES = {
    "gpu_util_pct": ("GPU utilisation", "%"),
    "gpu_power_w": ("GPU power", "W"),
    "gpu_mem_used_bytes": ("GPU memory", "B"),
    "gpu_clock_mhz": ("GPU clock", "MHz"),
    "gpu_temp_c": ("GPU temperature", "°C"),
    "cores": ("CPU cores in use", ""),
    "tree_bytes": ("memory of the process tree", "B"),
}


@dataclass(frozen=True)
class Series:
    """One quantity of one device (`gpu` is empty for the host): points (seconds since the run began, value)."""

    quantity: str
    gpu: str
    points: list[tuple[float, float]]


def series(run: RunRecord, bases: Sequence[Path] = ()) -> list[Series]:
    """What was sampled beside a run; empty where there is no device.csv in our own format."""
    log = log_of(run, bases)
    if log is None or log != RunDir(log.parent).console or not RunDir(log.parent).device_csv.is_file():
        return []
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for seconds, sample in _timed(_samples(RunDir(log.parent).device_csv)):
        gpu = str(sample.get("gpu") or "")
        for name in QUANTITIES:
            value = sample.get(name)
            if value is not None:
                found.setdefault((name, gpu), []).append((seconds, float(value)))
    ordered = sorted(found.items(), key=lambda item: (list(QUANTITIES).index(item[0][0]), item[0][1]))
    return [Series(name, gpu, thinned(points)) for (name, gpu), points in ordered]


def _samples(path: Path) -> Iterator[Sample]:
    """Rows of device.csv in their order; what cannot be read is left out here, since the parser has told of it."""
    names: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("time_s,"):
                names = line.strip().split(",")
            elif names and line.endswith("\n"):
                try:
                    yield parse_row(names, line)
                except (ValueError, OverflowError):
                    continue


def _timed(samples: Iterator[Sample]) -> Iterator[tuple[float, Sample]]:
    """Samples by the time that the run has run: what lies between two attempts does not count. Adds `cores` to the host's."""
    before, began, last = 0.0, 0.0, 0.0
    attempt = None
    cpu: tuple[float, float] | None = None
    for sample in samples:
        now = float(sample["time_s"])
        if sample["attempt"] != attempt:
            before += last - began
            attempt, began, cpu = sample["attempt"], now, None
        last = max(now, began)
        used = sample.get("tree_cpu_s")
        if used is not None:
            if cpu is not None and last > cpu[0] and used >= cpu[1]:
                sample = {**sample, "cores": (used - cpu[1]) / (last - cpu[0])}
            cpu = (last, float(used))
        yield before + last - began, sample


def thinned(points: Sequence[tuple[float, float]], count: int = POINTS) -> list[tuple[float, float]]:
    """At most `count` points, each the mean of as many neighbours."""
    size = -(-len(points) // count)
    if size <= 1:
        return list(points)
    parts = [points[k : k + size] for k in range(0, len(points), size)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]
