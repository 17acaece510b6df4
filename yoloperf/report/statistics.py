"""Numbers about repeats: middle, spread, interval, and whether two sets of repeats differ. Nothing here knows of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

import numpy as np

ALPHA = 0.05
RESAMPLES = 1999  # of the bootstrap: the end points of a 95 % interval are then steady to a few per cent of its width
EXACT = comb(16, 8)  # rearrangements up to which every one is counted: 12,870


@dataclass(frozen=True)
class Spread:
    """Median of `count` repeats, their median absolute deviation, and the 95 % interval of the median (None below five)."""

    count: int
    median: float
    mad: float
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread:
    """Describe repeats. The interval is the percentile bootstrap's (Efron and Tibshirani 1993, 13.3), with a fixed seed."""
    middle = median(values)
    return Spread(len(values), middle, median(abs(value - middle) for value in values), _interval(values))


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 5:
        return None
    from scipy import stats  # a second to import, and most records have no repeats

    result = stats.bootstrap((values,), np.median, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0))
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


@dataclass(frozen=True)
class RankTest:
    """Mann-Whitney U, two-sided. `effect` is Cliff's delta: chance that a second value is larger, less that it is smaller."""

    p: float
    effect: float


def rank_test(first: Sequence[float], second: Sequence[float]) -> RankTest | None:
    """Whether one set tends to larger values; None where either has fewer than two.

    Exact; where two values are equal, ties included, up to EXACT rearrangements, and by the normal approximation beyond.
    """
    if min(len(first), len(second)) < 2:
        return None
    from scipy import stats

    few = comb(len(first) + len(second), len(first)) <= EXACT
    ties = len({*first, *second}) < len(first) + len(second)
    method = stats.PermutationMethod(n_resamples=EXACT + 1) if few else "asymptotic" if ties else "exact"
    result = stats.mannwhitneyu(second, first, alternative="two-sided", method=method)
    return RankTest(float(result.pvalue), 2 * float(result.statistic) / (len(first) * len(second)) - 1)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Holm's correction of the p-values of many tests made together (Scandinavian Journal of Statistics 6, 1979)."""
    adjusted = [0.0] * len(probabilities)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(probabilities)), key=lambda k: probabilities[k])):
        worst = max(worst, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = worst
    return adjusted


def repeats_needed(tests: int) -> int:
    """Repeats of each cell with which `tests` tests made together can come out significant at all.

    The least p-value of two sets of n that do not overlap is 2 / C(2n, n).
    """
    return next(n for n in range(2, 100) if 2 / comb(2 * n, n) <= ALPHA / max(tests, 1))
