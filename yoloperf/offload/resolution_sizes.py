"""A size and JPEG quality of pictures as part "resolution" measured it, and the difference between two of them."""

from dataclasses import dataclass
from functools import cached_property
from statistics import stdev

from yoloperf.offload.part import Done
from yoloperf.offload.passes import link_of
from yoloperf.offload.pictures import FULL

_DEVIATIONS = 1.96  # to either side: 95 % of a normal distribution


@dataclass(frozen=True)
class Difference:
    """A loss of mAP as a fraction: the value, and half of its 95 % interval."""

    value: float
    half: float

    def points(self) -> str:
        low, high = self.value - self.half, self.value + self.half
        return f"{_signed(100 * self.value)} ({_signed(100 * low)} to {_signed(100 * high)})"


@dataclass(frozen=True)
class Size:
    """A cell, with the round trips of its requests by link."""

    done: Done

    @property
    def name(self) -> str:
        return self.done.cell.name

    @property
    def model(self) -> str:
        return str(self.done.summary["model"])

    @property
    def full(self) -> bool:
        return bool(self.done.summary["size"] == FULL)

    @property
    def quality(self) -> int | None:
        quality: int | None = self.done.summary["quality"]
        return quality

    @property
    def pixels(self) -> int:
        """Of the longer side; for the files as they are that of the largest."""
        return int(self.done.summary["longest_side"] if self.full else self.done.summary["size"])

    @property
    def bytes(self) -> float:
        """Mean file."""
        return float(self.done.summary["file_bytes"])

    @property
    def map50(self) -> float:
        return float(self.done.summary["map50"])

    def title(self) -> str:
        return "the original file" if self.full else f"{self.pixels} px at JPEG quality {self.quality}"

    @cached_property
    def round_trips(self) -> dict[str, list[float]]:
        """Seconds of the answered requests by link."""
        found: dict[str, list[float]] = {}
        for record in self.done.requests:
            if record.error is None and record.round_trip_s is not None and link_of(record) in self.done.summary["links"]:
                found.setdefault(link_of(record), []).append(record.round_trip_s)
        return found

    def loss(self, other: "Size", figure: str = "50") -> Difference | None:
        """What this one has less than the other; None where they were not measured with the same pictures."""
        mine, its = self.done.summary, other.done.summary
        resampled = f"resampled{figure}"
        if any(mine[key] != its[key] for key in ("model_digest", "pictures_digest")) or len(mine[resampled]) != len(its[resampled]):
            return None
        drawn = [b - a for a, b in zip(mine[resampled], its[resampled], strict=True)]
        key = "map50" if figure == "50" else "map50_95"
        return Difference(its[key] - mine[key], _DEVIATIONS * stdev(drawn))


def _signed(points: float) -> str:
    text = f"{points:.1f}"
    return "0.0" if text == "-0.0" else text
