"""Whether a queue grows: a trend in the latency of requests, in the order in which they came."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    blocks = min(BLOCKS, len(due_s) // _BLOCK_REQUESTS)
    if blocks < LEAST_BLOCKS:
        return None
    from scipy.stats import kendalltau, theilslopes

    order = np.argsort(due_s)
    times, values = np.asarray(due_s)[order], np.asarray(latency_s)[order]
    middles = [block.mean() for block in np.array_split(times, blocks)]
    medians = [float(np.median(block)) for block in np.array_split(values, blocks)]
    tau, p = kendalltau(middles, medians, alternative="greater")
    if np.isnan(tau):  # all medians are equal
        return Trend(0.0, 1.0, 0.0, False)
    slope = float(theilslopes(medians, middles)[0])
    grows = p < _P and slope * (times[-1] - times[0]) > _MATERIAL * np.median(values)
    return Trend(float(tau), float(p), slope, bool(grows))
