"""How many nodes it takes: requests per second and a bound on the round-trip time in, a number of machines out."""

import math
from dataclasses import dataclass

from yoloperf.core.errors import UserError
from yoloperf.offload.queueing import Replicas, policy_waiting_s, policy_waits

MOST_BUSY = 0.9  # nearer to 1 a small error in the service time decides whether the queue ends
_MOST_TRIES = 100_000


@dataclass(frozen=True)
class Plan:
    """nodes: the fewest that keep the bound; busy: the share of its time that each is busy; mean_s, tail_s: round-trip times then."""

    nodes: int
    busy: float
    mean_s: float
    tail_s: float


def plan(
    kind: Replicas, policy: str, rate: float, mean_s: float | None = None, tail_s: float | None = None, quantile: float = 0.99
) -> Plan | None:
    """The fewest nodes, each a machine of its own with one replica of this kind, that answer `rate` requests per second with a mean
    round-trip time of at most mean_s and the given quantile of it at most tail_s, each busy MOST_BUSY of its time at most. None where
    one that is never asked twice at a time takes longer already.

    The mean is that of the formulas in queueing.py. The tail takes the wait of those who wait for exponential, which it is for M/M/c
    and, far out, nearly for any law of service times with a tail no heavier than that (Tijms 1994, section 4.4); service itself counts
    with its mean and its own spread, as a normal law has them.
    """
    if not rate > 0:
        raise UserError(f"requests per second must be greater than 0, not {rate:g}")
    service_s = kind.busy_together_s(1)
    if kind.unloaded_s > (mean_s or math.inf) or unloaded_tail_s(kind, quantile) > (tail_s or math.inf):
        return None
    fewest = max(1, math.ceil(rate * service_s / MOST_BUSY - 1e-9))
    for nodes in range(fewest, fewest + _MOST_TRIES):
        wait_s = policy_waiting_s(policy, rate, service_s, kind.scv, nodes)
        if wait_s is None:
            continue
        mean = kind.unloaded_s + wait_s
        tail = unloaded_tail_s(kind, quantile) + waiting_tail_s(kind, policy, rate, wait_s, nodes, quantile)
        if mean <= (mean_s or math.inf) and tail <= (tail_s or math.inf):
            return Plan(nodes, rate * service_s / nodes, mean, tail)
    return None


def unloaded_tail_s(kind: Replicas, quantile: float) -> float:
    """Quantile of the round-trip time of a request that meets nobody."""
    from scipy.stats import norm

    return kind.unloaded_s + max(0.0, float(norm.ppf(quantile))) * math.sqrt(kind.scv) * kind.busy_together_s(1)


def waiting_tail_s(kind: Replicas, policy: str, rate: float, wait_s: float, nodes: int, quantile: float) -> float:
    """Quantile of the wait whose mean is wait_s: exponential for those who must wait."""
    waits = policy_waits(policy, rate, kind.busy_together_s(1), kind.scv, nodes)
    return wait_s / waits * math.log(waits / (1 - quantile)) if waits > 1 - quantile else 0.0
