"""Study: what an offload study is about, read from its YAML file."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LinkSpec:
    """A link between client and service. Bits per second upwards (to the service) and downwards, None: not limited; added
    round-trip time in seconds."""

    name: str
    up_bps: float | None = None
    down_bps: float | None = None
    rtt_s: float = 0.0


@dataclass(frozen=True)
class Place:
    """A machine that can do the work: how the detector runs there. url: a service that is there already (then the rest only says what
    it is); power_w and price_per_hour: where known."""

    name: str
    runtime: str = "auto"
    precision: str | None = None
    threads: int | None = None
    url: str | None = None
    power_w: float | None = None
    price_per_hour: float | None = None


@dataclass(frozen=True)
class Study:
    """model: "NAME=WEIGHTS" as for `yoloperf serve`; data, split: pictures with labels; parts: part's name -> its own settings."""

    name: str
    model: str
    data: str
    split: str = "val"
    images: int = 128
    seed: int = 0
    local: Place = Place("local")
    remote: Place = Place("remote")
    links: tuple[LinkSpec, ...] = ()
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
