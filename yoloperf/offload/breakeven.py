"""When it pays to send the work away: a model of the round trip, its break-even bandwidth, and how sure that is.

    T_remote(up, down, rtt) = overhead + rtt + 8 k sent / up + 8 k received / down + T_server

It is compared with T_local. Overhead is what the bare way costs beside the service (the client, the service's HTTP, the system);
bytes are HTTP's heads and bodies, k what the frames around them add. A picture's time is the median of its repetitions, the model's
the mean over pictures: a stall of the machine counts for little, a large picture for what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.core.request import RequestRecord
from yoloperf.core.units import show_seconds

# Ethernet's head (14), IPv4's and TCP's with time stamps (52) around 1448 bytes: an MTU of 1500
FRAMING = 1514 / 1448
ALWAYS_BPS = 0.1e6  # slower than any link in use: a break-even below is none
_RESAMPLES = 2000
_CONFIDENCE = 0.95

Number = Any  # float, or an array of them: the model's formulas hold for both


@dataclass(frozen=True)
class Model:
    """Seconds and bytes of one picture; arrays where there are many models."""

    local_s: Number
    server_s: Number
    overhead_s: Number
    sent_bytes: Number
    received_bytes: Number

    def remote_s(self, up_bps: Number | None = None, down_bps: Number | None = None, rtt_s: Number = 0.0) -> Number:
        """Round trip over a link; None: not limited."""
        up_s = 0.0 if up_bps is None else 8 * FRAMING * self.sent_bytes / up_bps
        down_s = 0.0 if down_bps is None else 8 * FRAMING * self.received_bytes / down_bps
        return self.overhead_s + rtt_s + up_s + down_s + self.server_s

    def gain_s(self, rtt_s: Number = 0.0) -> Number:
        """What an infinitely fast link would save; transfers may take no longer."""
        return self.local_s - self.remote_s(rtt_s=rtt_s)

    def break_even_bps(self, rtt_s: Number = 0.0, down_over_up: float = 1.0) -> Number:
        """Upward rate at which both take the same time, the downward one being down_over_up times that; inf: there is none."""
        gain_s = np.asarray(self.gain_s(rtt_s), float)
        bits = 8 * FRAMING * (self.sent_bytes + self.received_bytes / down_over_up)
        return np.where(gain_s > 0, bits / np.where(gain_s > 0, gain_s, 1.0), np.inf)[()]

    def with_speed_ratio(self, ratio: Number) -> "Model":
        """The same with a remote machine that is `ratio` times as fast as the local one."""
        return Model(self.local_s, self.local_s / ratio, self.overhead_s, self.sent_bytes, self.received_bytes)


@dataclass(frozen=True)
class Sample:
    """Measured times [pictures, repetitions], NaN behind those of a picture that was answered less often; bytes [pictures]."""

    local_s: NDArray[np.float64]
    remote_s: NDArray[np.float64]
    server_s: NDArray[np.float64]
    sent_bytes: NDArray[np.float64]
    received_bytes: NDArray[np.float64]

    def model(self) -> Model:
        return _model(self.local_s, self.remote_s, self.server_s, self.sent_bytes, self.received_bytes)

    def resampled(self, seed: int = 0, count: int = _RESAMPLES, other_pictures: bool = True) -> Model:
        """Models [count] of bootstrap samples: repetitions of each picture are drawn, and, where what is said is to hold for other
        pictures too, the pictures."""
        rng = np.random.default_rng(seed)
        shape = count, len(self.sent_bytes)
        pictures = rng.integers(shape[1], size=shape) if other_pictures else np.broadcast_to(np.arange(shape[1]), shape)
        (local,) = _drawn(rng, pictures, self.local_s)
        remote, server = _drawn(rng, pictures, self.remote_s, self.server_s)
        return _model(local, remote, server, self.sent_bytes[pictures], self.received_bytes[pictures])


@dataclass(frozen=True)
class BreakEven:
    """Bandwidth in bit/s with its 95 % confidence interval; inf: no link is fast enough."""

    bps: float
    low_bps: float
    high_bps: float


def sample_of(local: Sequence[RequestRecord], remote: Sequence[RequestRecord]) -> Sample:
    """From requests of one picture each, those that failed left out. Raises UserError where the places have no picture in common."""
    here, there = _by_picture(local), _by_picture(remote)
    names = [name for name in here if name in there]
    if not names:
        raise UserError("no picture was answered by both places: measure them again with the same pictures")
    mine, theirs = ([rows[name] for name in names] for rows in (here, there))
    return Sample(
        _table([[row.round_trip_s for row in rows] for rows in mine]),
        _table([[row.round_trip_s for row in rows] for rows in theirs]),
        _table([[row.server_s for row in rows] for rows in theirs]),
        np.array([rows[0].sent_bytes for rows in theirs], float),
        np.array([np.median([row.received_bytes for row in rows]) for rows in theirs], float),
    )


def break_even(sample: Sample, rtt_s: float = 0.0, down_over_up: float = 1.0, seed: int = 0, count: int = _RESAMPLES) -> BreakEven:
    found = sample.resampled(seed, count).break_even_bps(rtt_s, down_over_up)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(found, (tail, 1 - tail), method="inverted_cdf")  # between numbers that may be infinite nothing is laid
    return BreakEven(float(sample.model().break_even_bps(rtt_s, down_over_up)), float(low), float(high))


def verdict(model: Model, found: BreakEven, img_size: int | None, rtt_s: float = 0.0) -> str:
    """The sentence that the study is for."""
    at = f" at {img_size} px" if img_size else ""
    far = f" over a round trip of {show_seconds(rtt_s)}" if rtt_s else ""
    local, bare = show_seconds(float(model.local_s)), show_seconds(float(model.remote_s(rtt_s=rtt_s)))
    if np.isinf(found.bps):
        unsure = f" (95 % confidence: it may pay above {show_rate(found.low_bps)})" if np.isfinite(found.low_bps) else ""
        return f"offload never pays{at}{far}: the remote answer takes {bare} before a byte is paid for, the local one {local}{unsure}"
    high = show_rate(found.high_bps) if np.isfinite(found.high_bps) else "never"
    if found.high_bps < ALWAYS_BPS:
        return f"offload always pays{at}{far}: {bare} and the transfer against {local}, even at {show_rate(found.high_bps)}"
    sure = f"95 % confidence: {show_rate(found.low_bps)} to {high}"
    return f"offload pays above {show_rate(found.bps)}{at}{far} ({sure}), below that run locally"


def show_rate(bps: float) -> str:
    return f"{bps / 1e6:.3g} Mbit/s" if bps < 1e9 else f"{bps / 1e9:.3g} Gbit/s"


def _model(
    local_s: NDArray[np.float64],
    remote_s: NDArray[np.float64],
    server_s: NDArray[np.float64],
    sent: NDArray[np.float64],
    received: NDArray[np.float64],
) -> Model:
    local, remote, server = (np.nanmedian(times, -1).mean(-1) for times in (local_s, remote_s, server_s))
    return Model(local, server, remote - server, sent.mean(-1), received.mean(-1))


def _drawn(rng: np.random.Generator, pictures: NDArray[np.int64], *times: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Of each picture as many repetitions as it has, the same of all times."""
    counts = np.isfinite(times[0]).sum(-1)[pictures][..., None]
    places = np.arange(times[0].shape[1])
    again = np.where(places < counts, rng.integers(counts, size=(*pictures.shape, len(places))), places)
    return [np.take_along_axis(each[pictures], again, -1) for each in times]


def _table(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """[rows, the longest one], NaN behind the shorter ones."""
    longest = max(map(len, rows))
    return np.array([[*row, *[None] * (longest - len(row))] for row in rows], float)


def _by_picture(rows: Sequence[RequestRecord]) -> dict[str, list[RequestRecord]]:
    found: dict[str, list[RequestRecord]] = {}
    for row in rows:
        if row.error is None and None not in (row.round_trip_s, row.server_s, row.sample):
            assert row.sample is not None
            found.setdefault(row.sample, []).append(row)
    return found
