"""How long requests wait for a replica: formulas for requests that come at random (a Poisson process) and any law of service times.

Times in seconds, rates in requests per second. scv: squared coefficient of variation, variance over squared mean; 0 for a service
that always takes as long, 1 for an exponential one. What has no steady state (the replicas cannot keep up) is None.
"""

import math
from dataclasses import dataclass

POLICIES = ("random", "round_robin", "least_conn")


def erlang_c(servers: int, load: float) -> float:
    """Probability that a request must wait, of M/M/c. load: rate * service time, in erlangs, below `servers`.

    By the recursion of Erlang's loss formula, which no number of servers makes overflow (Erlang 1917).
    """
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def waiting_s(rate: float, service_s: float, scv: float, servers: int = 1) -> float | None:
    """Mean wait of M/G/c: that of M/M/c times (1 + scv) / 2 (Lee and Longton 1959; with Poisson arrivals also Allen and Cunneen's).

    With one server this is the formula of Pollaczek (1930) and Khinchine (1932), which is exact; so it is for M/M/c.
    """
    if rate * service_s >= servers:
        return None
    return (1 + scv) / 2 * erlang_c(servers, rate * service_s) * service_s / (servers - rate * service_s)


def smoothed_waiting_s(rate: float, service_s: float, scv: float, arrival_scv: float) -> float | None:
    """Mean wait of GI/G/1 whose arrivals are steadier than Poisson's, arrival_scv <= 1 (Kraemer and Langenbach-Belz 1976)."""
    busy = rate * service_s
    if busy >= 1:
        return None
    spread = arrival_scv + scv
    if not spread:
        return 0.0
    correction = math.exp(-2 * (1 - busy) / (3 * busy) * (1 - arrival_scv) ** 2 / spread) if busy else 0.0
    return spread / 2 * busy * service_s / (1 - busy) * correction


def smoothed_waits(busy: float, scv: float, arrival_scv: float) -> float:
    """Probability that a request of that GI/G/1 must wait (the same source)."""
    shape = (1 + arrival_scv + busy * scv) / (1 + busy * (scv - 1) + busy**2 * (4 * arrival_scv + scv))
    return busy - (1 - arrival_scv) * busy * (1 - busy) * shape


def policy_waits(policy: str, rate: float, service_s: float, scv: float, replicas: int) -> float:
    """Probability that a request must wait behind a balancer, by the same models as its mean wait; the replicas keep up."""
    busy = rate * service_s / replicas
    if policy == "random":
        return busy
    return smoothed_waits(busy, scv, 1 / replicas) if policy == "round_robin" else erlang_c(replicas, rate * service_s)


def policy_waiting_s(policy: str, rate: float, service_s: float, scv: float, replicas: int) -> float | None:
    """Mean wait behind a balancer.

    random: splitting a Poisson process at random gives independent ones, so each replica is M/G/1, exactly. round_robin: each replica
    gets every c-th request, with Erlang-c gaps: scv 1/c. least_conn: taken for M/G/c, one queue for all: a bound from below, since a
    balancer that has assigned a request cannot take it back, and a near one (joining the shortest queue, Nelson and Philips 1993).
    """
    if policy == "random":
        return waiting_s(rate / replicas, service_s, scv)
    if policy == "round_robin":
        return smoothed_waiting_s(rate / replicas, service_s, scv, 1 / replicas)
    return waiting_s(rate, service_s, scv, replicas)


@dataclass(frozen=True)
class Replicas:
    """What was measured of a kind of replica.

    occupied_s: number of replicas that are busy together -> how long a request occupies one of them, which is that number over their
    throughput at saturation. It need not be the round-trip time: a replica reads the next picture while it infers this one. Replicas
    that share a machine slow each other down, so it rises with their number. unloaded_s: mean round-trip time of a request that meets
    nobody. scv: of the time that a request occupies a replica.
    """

    occupied_s: dict[int, float]
    unloaded_s: float
    scv: float

    def busy_together_s(self, count: float) -> float:
        """occupied_s at a number of busy replicas between those that were measured: on the line between the two nearest, never beyond."""
        known = sorted(self.occupied_s)
        low = max((one for one in known if one <= count), default=known[0])
        high = min((one for one in known if one >= count), default=known[-1])
        if low >= high:
            return self.occupied_s[low]
        return self.occupied_s[low] + (self.occupied_s[high] - self.occupied_s[low]) * (count - low) / (high - low)

    def service_s(self, rate: float, replicas: int) -> float:
        """Mean time that a request occupies one of `replicas` at this rate.

        A request finds each of the others busy with probability rate * service time / replicas, taken for independent; that service
        time and the mean of busy_together_s over how many are busy must agree, which is solved by iteration from the slow end.
        """
        service_s = self.busy_together_s(replicas)
        for _ in range(100):
            busy = min(1.0, rate * service_s / replicas)
            others = range(replicas)
            service_s = sum(_binomial(count, replicas - 1, busy) * self.busy_together_s(1 + count) for count in others)
        return service_s

    def round_trip_s(self, policy: str, rate: float, replicas: int) -> float | None:
        """Mean round-trip time: unloaded, plus what busy neighbours add to the service, plus the wait."""
        service_s = self.service_s(rate, replicas)
        wait_s = policy_waiting_s(policy, rate, service_s, self.scv, replicas)
        return None if wait_s is None else self.unloaded_s + service_s - self.busy_together_s(1) + wait_s


def _binomial(count: int, of: int, chance: float) -> float:
    return math.comb(of, count) * chance**count * (1 - chance) ** (of - count)
