"""The queueing formulas against textbook values, against each other, and against a simulation event by event; plans made of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.offload.plan import MOST_BUSY, plan
from yoloperf.offload.queueing import (
    POLICIES,
    Replicas,
    erlang_c,
    policy_waiting_s,
    policy_waits,
    smoothed_waiting_s,
    waiting_s,
)
from yoloperf.offload.trend import mean_error_s, trend

LAWS = {0.0: "always the same", 0.25: "gamma", 1.0: "exponential", 2.0: "gamma, wide"}


def services(scv: float, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Service times of mean 1."""
    return random.gamma(1 / scv, scv, count) if scv else np.ones(count)


def simulate(
    policy: str, due: NDArray[np.float64], service: NDArray[np.float64], replicas: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Waits of requests that are due at those times behind a balancer that assigns each when it comes."""
    ends: list[list[float]] = [[] for _ in range(replicas)]  # of the requests at each replica
    free, last, waits = [0.0] * replicas, 0, np.empty(len(due))
    for number, (now, length) in enumerate(zip(due, service, strict=True)):
        if policy == "random":
            chosen = int(random.integers(replicas))
        elif policy == "round_robin":
            chosen = number % replicas
        else:
            for place in range(replicas):
                ends[place] = [end for end in ends[place] if end > now]
            chosen = min(range(replicas), key=lambda place: (len(ends[place]), (place - last - 1) % replicas))
            last = chosen
        start = max(now, free[chosen])
        waits[number] = start - now
        free[chosen] = start + length
        ends[chosen].append(free[chosen])
    return waits


def poisson(rate: float, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    return np.cumsum(random.exponential(1 / rate, count))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scv", LAWS, ids=LAWS.values())
@pytest.mark.parametrize(("replicas", "busy"), [(1, 0.5), (2, 0.5), (2, 0.8), (4, 0.3), (4, 0.7)])
def test_the_model_predicts_a_simulation(policy: str, scv: float, replicas: int, busy: float) -> None:
    random = np.random.default_rng(1)
    waits = simulate(policy, poisson(busy * replicas, 20_000, random), services(scv, 20_000, random), replicas, random)
    predicted = policy_waiting_s(policy, busy * replicas, 1.0, scv, replicas)
    assert predicted is not None
    assert 1 + predicted == pytest.approx(1 + waits.mean(), rel=0.15)
    # of a service that is always the same length Poisson's arrivals alone say who waits, and the formulas for more servers guess
    assert policy_waits(policy, busy * replicas, 1.0, scv, replicas) == pytest.approx((waits > 1e-9).mean(), abs=0.18)


def test_known_values() -> None:
    assert erlang_c(1, 0.4) == pytest.approx(0.4)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)  # M/M/2 at half load
    assert erlang_c(10, 8.0) == pytest.approx(0.4092, abs=1e-4)  # a table of Erlang's second formula
    assert waiting_s(0.5, 1.0, 0.0) == pytest.approx(0.5)  # M/D/1: rho / 2 (1 - rho)
    assert waiting_s(0.5, 1.0, 1.0) == pytest.approx(1.0)  # M/M/1
    assert smoothed_waiting_s(0.5, 1.0, 0.7, 1.0) == pytest.approx(waiting_s(0.5, 1.0, 0.7) or 0)  # Poisson again
    assert smoothed_waiting_s(0.9, 1.0, 0.0, 0.0) == 0  # a conveyor belt


def test_no_steady_state_is_none() -> None:
    assert [policy_waiting_s(policy, 4.0, 1.0, 0.5, 4) for policy in POLICIES] == [None] * 3


@given(st.integers(1, 50), st.floats(0.01, 0.99), st.floats(0, 4))
def test_waits_are_ordered(replicas: int, busy: float, scv: float) -> None:
    """One queue for all is never worse than a queue each, and a steady stream never worse than one at random."""
    at_random, in_turn, one_queue = (policy_waiting_s(policy, busy * replicas, 1.0, scv, replicas) for policy in POLICIES)
    assert at_random is not None and in_turn is not None and one_queue is not None
    assert in_turn <= at_random * (1 + 1e-9)
    assert one_queue <= at_random * (1 + 1e-9)


def test_replicas_that_share_a_machine_slow_each_other_down() -> None:
    kind = Replicas({1: 0.02, 2: 0.03, 4: 0.06}, 0.025, 0.1)
    assert kind.busy_together_s(3) == pytest.approx(0.045)
    assert kind.busy_together_s(0.5) == 0.02 and kind.busy_together_s(9) == 0.06
    assert kind.service_s(0.001, 4) == pytest.approx(0.02, rel=0.01)  # nobody else is busy
    assert kind.service_s(1000, 4) == pytest.approx(0.06)  # all are
    assert 0.03 < kind.service_s(50, 4) < 0.06
    assert kind.round_trip_s("least_conn", 0.001, 4) == pytest.approx(0.025, rel=0.01)
    assert kind.round_trip_s("least_conn", 70, 4) is None


def test_queue_of_a_stable_system_is_bounded_and_of_an_overloaded_one_grows() -> None:
    random = np.random.default_rng(2)
    wrong = {0.3: 0, 0.7: 0, 1.2: 0}
    for busy in wrong:
        for _ in range(40):
            due = poisson(busy, 1000, random)
            found = trend(list(due), list(simulate("random", due, services(0.1, 1000, random), 1, random) + 1))
            assert found
            wrong[busy] += found.grows != (busy > 1)
    assert wrong[0.3] == 0 and wrong[0.7] <= 2 and wrong[1.2] == 0


def test_slope_is_what_the_overload_adds() -> None:
    due = np.arange(0.0, 10.0, 0.01)
    latency = 0.1 + 0.25 * due  # a server that answers 80 of 100 a second
    found = trend(list(due[::-1]), list(latency[::-1]))  # in no order
    assert found and found.grows and found.slope == pytest.approx(0.25)
    assert trend(list(due), [0.1] * len(due)) is not None and not trend(list(due), [0.1] * len(due)).grows  # type: ignore[union-attr]
    assert trend(list(due[:20]), list(latency[:20])) is None


def test_interval_of_the_mean_has_it_inside() -> None:
    random = np.random.default_rng(3)
    inside = 0
    for _ in range(50):
        due = poisson(0.6, 1200, random)
        latency = simulate("random", due, services(0.0, 1200, random), 1, random) + 1
        error = mean_error_s(list(due), list(latency))
        assert error
        inside += abs(latency.mean() - 1.75) < error  # M/D/1
    assert inside >= 42


KIND = Replicas({1: 0.1, 2: 0.15}, 0.12, 0.2)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rate", [3.0, 30.0, 1000.0])
def test_a_plan_is_the_fewest_nodes_that_keep_the_bound(policy: str, rate: float) -> None:
    found = plan(KIND, policy, rate, mean_s=0.15)
    assert found and found.mean_s <= 0.15 and found.busy <= MOST_BUSY
    fewer = policy_waiting_s(policy, rate, 0.1, 0.2, found.nodes - 1) if found.nodes > 1 else None
    assert fewer is None or 0.12 + fewer > 0.15 or rate * 0.1 / (found.nodes - 1) > MOST_BUSY


def test_the_tail_of_a_plan_is_that_of_a_simulation() -> None:
    found = plan(KIND, "least_conn", 60.0, tail_s=0.3)
    assert found and found.tail_s <= 0.3
    random = np.random.default_rng(4)
    service = 0.1 * services(0.2, 60_000, random)
    waits = simulate("least_conn", poisson(60.0, 60_000, random), service, found.nodes, random)
    assert np.quantile(0.02 + service + waits, 0.99) == pytest.approx(found.tail_s, rel=0.2)


def test_what_cannot_be_planned() -> None:
    assert plan(KIND, "random", 1.0, mean_s=0.1) is None  # one request alone takes longer
    assert plan(KIND, "random", 1.0, tail_s=0.13) is None
    for rate in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="greater than 0"):
            plan(KIND, "random", rate, mean_s=1.0)
