"""Latencies in the order in which requests came: whether the queue grows, and how well a run of this length knows their mean."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCKS = 12
LEAST_BLOCKS = 5  # Kendall's tau of fewer cannot be significant
_BLOCK_REQUESTS = 5
_P = 0.01
_MATERIAL = 0.5


@dataclass(frozen=True)
class Trend:
    """tau, p: Kendall's rank correlation of latency with time (the Mann-Kendall test) and the probability of one as high without a
    trend; slope: Theil and Sen's, seconds of latency a second; grows: p below 0.01, and by the slope latency rises over the run by
    more than half of its median, as what is significant need not matter."""

    tau: float
    p: float
    slope: float
    grows: bool


def trend(due_s: Sequence[float], latency_s: Sequence[float]) -> Trend | None:
    """The trend of latencies by when requests were due; None for too few.

    Tested are the medians of up to 12 blocks of requests that follow each other: who comes while a queue is long finds it as long as
    the one before did, and a test of the requests themselves would take that for a trend.
    """
    times, values = _blocks(due_s, latency_s)
    if not times:
        return None
    from scipy.stats import kendalltau, theilslopes

    middles = [block.mean() for block in times]
    medians = [float(np.median(block)) for block in values]
    tau, p = kendalltau(middles, medians, alternative="greater")
    if np.isnan(tau):  # all medians are equal
        return Trend(0.0, 1.0, 0.0, False)
    slope = float(theilslopes(medians, middles)[0])
    grows = p < _P and slope * (max(due_s) - min(due_s)) > _MATERIAL * np.median(latency_s)
    return Trend(float(tau), float(p), slope, bool(grows))


def mean_error_s(due_s: Sequence[float], latency_s: Sequence[float]) -> float | None:
    """Half the width of the 95 % confidence interval of the mean latency, from the means of the same blocks (Student's t); None for
    too few. That of single requests would be too narrow: they are as alike as their neighbours."""
    _, values = _blocks(due_s, latency_s)
    if not values:
        return None
    from scipy.stats import t

    means = [block.mean() for block in values]
    return float(t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means)))


def _blocks(due_s: Sequence[float], latency_s: Sequence[float]) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Times and latencies of the blocks; nothing for too few requests."""
    count = min(BLOCKS, len(due_s) // _BLOCK_REQUESTS)
    if count < LEAST_BLOCKS:
        return [], []
    order = np.argsort(due_s)
    return np.array_split(np.asarray(due_s)[order], count), np.array_split(np.asarray(latency_s)[order], count)
