"""The load cells of the part "scaling" beside what the queueing model, told of the calibration cells alone, says of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from yoloperf.core.units import show_seconds
from yoloperf.offload.part import Done
from yoloperf.offload.queueing import POLICIES, Replicas

WORDS = {"random": "random", "round_robin": "round robin", "least_conn": "least connections"}


@dataclass(frozen=True)
class Row:
    """A load cell and what the model says of it.

    busy: share of its time that a replica is, 1 or more where it cannot keep up; predicted_s: mean round-trip time, None where there
    is no steady state; capacity_rps: what its replicas answered when calibrated. All None without a calibration.
    """

    cell: str
    policy: str
    replicas: int
    interval_s: float
    facts: dict[str, Any]
    busy: float | None
    predicted_s: float | None
    capacity_rps: float | None

    @property
    def mean_s(self) -> float | None:
        return self.facts.get("mean_s")

    @property
    def ratio(self) -> float | None:
        return self.predicted_s / self.mean_s if self.predicted_s and self.mean_s else None

    @property
    def policy_words(self) -> str:
        return WORDS[self.policy]

    @property
    def where(self) -> str:
        return f"{self.replicas} x {self.policy_words}, a request every {show_seconds(self.interval_s)}"


def fitted(done: Sequence[Done]) -> Replicas | None:
    """The kind of replica that the calibration cells measured; None without one. What does not depend on their number is averaged."""
    found = {one.summary["replicas"]: one.summary for one in done if one.cell.settings["kind"] == "calibrate"}
    if not found:
        return None
    occupied = {count: summary["occupied_s"] for count, summary in sorted(found.items())}
    variance = fmean(summary["scv"] * summary["occupied_s"] ** 2 for summary in found.values())
    unloaded = fmean(summary["unloaded_s"] for summary in found.values())
    return Replicas(occupied, unloaded, variance / occupied[min(occupied)] ** 2)


def rows_of(done: Sequence[Done]) -> Iterator[Row]:
    """Those of one replica once for every policy: there they are all the same."""
    kind = fitted(done)
    loads = [one for one in done if one.cell.settings["kind"] == "load"]
    policies = sorted({one.summary["policy"] for one in loads}, key=POLICIES.index)
    for one in loads:
        facts = one.summary
        count, rate = facts["replicas"], facts["offered_rps"] or 1 / facts["interval_s"]
        capacity = count / kind.busy_together_s(count) if kind else None
        for policy in policies if count == 1 else [facts["policy"]]:
            busy = rate * kind.service_s(rate, count) / count if kind else None
            predicted = kind.round_trip_s(policy, rate, count) if kind else None
            yield Row(one.cell.name, policy, count, facts["interval_s"], facts, busy, predicted, capacity)
