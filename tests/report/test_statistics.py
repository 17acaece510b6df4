from itertools import combinations
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloperf.report.statistics import holm, rank_test, repeats_needed, spread


def test_spread() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.count, found.median, found.mad) == (5, 3.0, 1.0)
    assert found.interval is not None and found.interval[0] <= 3.0 <= found.interval[1]
    assert spread([1.0, 2.0, 3.0, 4.0]).interval is None
    assert spread([5.0] * 6).interval == (5.0, 5.0)


def test_interval_is_the_same_every_time() -> None:
    values = [1.0, 1.1, 0.9, 1.3, 1.2, 0.8]
    assert spread(values) == spread(values)


def _by_hand(first: list[int], second: list[int]) -> tuple[float, float]:
    """p and Cliff's delta by counting every way to deal the values into two hands."""

    def wins(one: list[int], two: list[int]) -> int:
        return sum((b > a) - (b < a) for a in one for b in two)

    seen = wins(first, second)
    every = first + second
    below = above = 0
    deals = list(combinations(range(len(every)), len(first)))
    for deal in deals:
        one = [every[k] for k in deal]
        two = [every[k] for k in range(len(every)) if k not in deal]
        below += wins(one, two) <= seen
        above += wins(one, two) >= seen
    return min(1.0, 2 * min(below, above) / len(deals)), seen / (len(first) * len(second))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=2, max_size=5), st.lists(st.integers(0, 6), min_size=2, max_size=5))
def test_rank_test_counts_every_rearrangement(first: list[int], second: list[int]) -> None:
    found = rank_test(first, second)
    p, effect = _by_hand(first, second)
    assert found is not None
    assert found.effect == pytest.approx(effect)
    assert found.p == pytest.approx(p)


def test_rank_test_of_sets_that_do_not_overlap() -> None:
    found = rank_test([1, 2, 3, 4], [5, 6, 7, 8])
    assert found is not None
    assert found.p == pytest.approx(2 / 70)
    assert found.effect == 1.0
    assert rank_test([1], [2, 3]) is None


@pytest.mark.parametrize(("few", "many"), [(2, 9), (3, 9), (2, 57), (2, 200)])
def test_rank_test_of_few_against_many_is_exact(few: int, many: int) -> None:
    """Sets that do not overlap are the two extremes of all arrangements."""
    found = rank_test(range(few), range(few, few + many))
    assert found is not None and found.p == pytest.approx(2 / comb(few + many, few))


def test_rank_test_of_equal_sets_finds_nothing() -> None:
    found = rank_test([3.0] * 4, [3.0] * 4)
    assert found is not None
    assert (found.p, found.effect) == (1.0, 0.0)


def test_many_repeats_are_no_trouble() -> None:
    found = rank_test(range(100), range(50, 150))
    assert found is not None and found.p < 1e-6


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_never_lowers_and_keeps_the_order(probabilities: list[float]) -> None:
    adjusted = holm(probabilities)
    assert all(q >= p for p, q in zip(probabilities, adjusted, strict=True))
    assert all(q <= 1 for q in adjusted)
    order = sorted(range(len(adjusted)), key=lambda k: probabilities[k])
    assert [adjusted[k] for k in order] == sorted(adjusted)


def test_repeats_needed() -> None:
    # 2 / C(6,3) = 0.1 and 2 / C(8,4) = 0.029
    assert repeats_needed(1) == 4
    assert repeats_needed(31) == 7
