"""The highest rate at which a service keeps its promise: bisection over short tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.05  # between the highest rate that passed and the lowest that did not, as a share of the latter
MOST_PROBES = 12
_FIRST = 0.8  # of the closed loop's rate: random arrivals queue long before that
_GROWTH = 1.25
_HOPELESS = 0.02  # of it


@dataclass(frozen=True)
class Probe:
    """A short test. result: of load_summary.summarise."""

    rate: float
    passed: bool
    result: dict[str, Any]


@dataclass(frozen=True)
class Peak:
    """rate: the highest that passed, None where none did; limit: what ended the search, in words."""

    rate: float | None
    limit: str
    probes: list[Probe]


def find_peak(measure: Callable[[int, float], Probe], capacity: float) -> Peak:
    """measure: number of the probe (from 0) and rate -> Probe. capacity: answers per second of a closed loop, where the search begins."""
    low, high, rate = 0.0, float("inf"), _FIRST * capacity
    probes: list[Probe] = []
    while len(probes) < MOST_PROBES:
        probe = measure(len(probes), rate)
        probes.append(probe)
        if probe.passed:
            low = rate
            rate = _GROWTH * rate if high == float("inf") else (low + high) / 2
        else:
            high = rate
            rate = (low + high) / 2
        if high - low <= TOLERANCE * high < float("inf") or high < _HOPELESS * capacity:
            break
    failed = [probe for probe in probes if not probe.passed]
    nearest = min(failed, key=lambda probe: probe.rate, default=None)
    if nearest is None:
        return Peak(low, f"every one of {len(probes)} probes passed: the service may do more", probes)
    why = "; ".join(nearest.result["reasons"])
    return Peak(low or None, f"at {nearest.rate:.1f}/s: {why}", probes)
