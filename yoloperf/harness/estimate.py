"""What a sweep will take, told before it starts: time, money and disk, as ranges, each with what it was told from.

Time comes from finished runs of the same model on the same platform; without one, from the roofline of the device's card;
without a card, not at all. What is not known is left out and said, never guessed.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from yoloperf.core import roofline
from yoloperf.core.datafolder import look
from yoloperf.core.environment import collect
from yoloperf.core.platforms import PlatformCard, card_for, cards
from yoloperf.core.spec import TrialSpec
from yoloperf.core.units import show_bytes, show_money, show_seconds
from yoloperf.harness.past import Past, finished_runs
from yoloperf.harness.sweepfile import Cell

# Bytes a parameter in fp32. Of a finished cell: best.pt and last.pt. While it runs: best.pt, and last.pt twice, as it is replaced, each
# with weights, their average and two moments of AdamW.
KEPT_BYTES = 2 * 4
PEAK_BYTES = (1 + 2 * 4) * 4
_LOG_BYTES = 64 * 2**10  # run.json, console.log and profile.json of the runs in logs/cpu-2core
_NEAREST = 3  # runs whose predictions make the range
_MARGIN = 0.1  # and what repeats of a run differ by on a shared machine


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both in the unit of what it is a range of."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> "Range":
        return Range(self.low * factor, self.high * factor)


@dataclass(frozen=True)
class CellEstimate:
    """One cell. `basis` says where its time comes from, or why there is none; cost in the card's currency."""

    trial: str
    epochs: int
    time_s: Range | None
    cost: Range | None
    disk_bytes: int | None
    basis: str


@dataclass(frozen=True)
class Estimate:
    """All cells that would run, on the device of `card` (None: unknown; `device` says how it was found)."""

    cells: list[CellEstimate]
    device: str
    card: PlatformCard | None
    cache_bytes: int | None
    peak_bytes: int | None

    @property
    def time_s(self) -> Range | None:
        """Sum over the cells whose time is known, one after the other; None where none is."""
        return _sum([cell.time_s for cell in self.cells])

    @property
    def cost(self) -> Range | None:
        return _sum([cell.cost for cell in self.cells])

    @property
    def disk_bytes(self) -> int | None:
        """What is left on the disk when all is done; None where a network's size is not known."""
        known = [cell.disk_bytes for cell in self.cells if cell.disk_bytes is not None]
        return sum(known) if len(known) == len(self.cells) else None

    def lines(self) -> Iterator[str]:
        """A line a cell, what several of them rest on, the total, the price and the disk."""
        if not self.cells:
            return
        width = max(len(cell.trial) for cell in self.cells)
        shared = [basis for basis, count in Counter(cell.basis for cell in self.cells).items() if count > 1]
        for cell in self.cells:
            time = "time unknown" if cell.time_s is None else _shown(cell.time_s, show_seconds)
            money = "" if cell.cost is None else f"  {self._money(cell.cost)}"
            basis = f"[{shared.index(cell.basis) + 1}]" if cell.basis in shared else cell.basis
            yield f"  {cell.trial:{width}}  {time:>20}{money}  {basis}"
        yield from (f"  [{number}] {basis}" for number, basis in enumerate(shared, 1))
        unknown = sum(cell.time_s is None for cell in self.cells)
        left_out = f", {unknown} of them without a known time" if unknown and self.time_s else ""
        total = "unknown" if self.time_s is None else _shown(self.time_s, show_seconds)
        yield f"machine time: {total} for {len(self.cells)} cells{left_out}; device: {self.device}"
        yield f"cost: {self._cost()}"
        kept = (
            "unknown, as the size of a network is" if self.disk_bytes is None else f"{show_bytes(self.disk_bytes)} for checkpoints and logs"
        )
        peak = "" if self.peak_bytes is None else f", {show_bytes(self.peak_bytes)} more while a cell runs"
        cached = "" if not self.cache_bytes else f", up to {show_bytes(self.cache_bytes)} for decoded images where they are not there yet"
        yield f"disk: {kept}{peak}{cached}"

    def _cost(self) -> str:
        if self.card is None:
            return "unknown, since no card names this device"
        if self.card.price_per_hour is None:
            return f"unknown, since card {self.card.name} has no price"
        rate = f"{self.card.currency} {self.card.price_per_hour:g} an hour ({self.card.said('price')}: {self.card.origin['price'].source})"
        return f"unknown, as the time is, at {rate}" if self.cost is None else f"{self._money(self.cost)} at {rate}"

    def _money(self, cost: Range) -> str:
        return f"{self.card.currency if self.card else ''} {_shown(cost, show_money)}"

    def as_json(self) -> dict[str, Any]:
        return {
            "cells": [asdict(cell) for cell in self.cells],
            "device": self.device,
            "card": self.card and self.card.name,
            "time_s": self.time_s and asdict(self.time_s),
            "cost": self.cost and asdict(self.cost),
            "currency": self.card and self.card.currency,
            "price": self.card and asdict(self.card.origin["price"]),
            "disk_bytes": self.disk_bytes,
            "peak_bytes": self.peak_bytes,
            "cache_bytes": self.cache_bytes,
        }


def estimate(cells: Sequence[tuple[Cell, int]], logs: Path, platform: str) -> Estimate:
    """Estimate of cells with the epochs that each has behind it, from the runs in `logs/<platform>/<sweep>/<trial>/`."""
    past = finished_runs(logs)
    here = [run for run in past if run.platform == platform]
    card, device = _device(here, platform, cells)
    counted = {cell.spec.data: _images(cell.spec.data, past) for cell, _ in cells}
    found = []
    for cell, done in cells:
        time_s, basis = _time(cell.spec, cell.spec.epochs - done, here, card, counted[cell.spec.data])
        devices = cell.spec.device.count(",") + 1
        price = None if card is None or card.price_per_hour is None else card.price_per_hour * devices / 3600
        cost = None if time_s is None or price is None else time_s.times(price)
        found.append(CellEstimate(cell.trial, cell.spec.epochs - done, time_s, cost, _disk(cell.spec, past), basis))
    sizes = [_parameters(cell.spec.model, past) for cell, _ in cells]
    peak = None if None in sizes or not sizes else int(PEAK_BYTES * max(size for size in sizes if size is not None))
    return Estimate(found, device, card, _decoded(cells, counted), peak)


def _device(here: Sequence[Past], platform: str, cells: Sequence[tuple[Cell, int]]) -> tuple[PlatformCard | None, str]:
    """The card of the device that the cells would run on, and how it was found."""
    named = next((card for card in cards() if Path(card.file).stem == platform), None)
    if here:
        last = max(here, key=lambda run: run.started_at)
        gpu, cpu, how = last.gpu_name, last.cpu_name, f"as in the last run on {platform}"
    elif named:
        return named, f"card {named.name}, which platform {platform} is named after"
    else:
        machine = collect()
        gpu, cpu, how = machine["gpu_name"], machine["cpu_name"], "this machine's"
    if cells and all(cell.spec.device == "cpu" for cell, _ in cells):
        gpu = None
    return card_for(gpu, cpu), f"{gpu or cpu or 'unknown'}, {how}"


def _time(
    spec: TrialSpec, epochs: int, here: Sequence[Past], card: PlatformCard | None, images: tuple[int | None, int | None]
) -> tuple[Range | None, str]:
    """Range of the time of a cell, and its basis."""
    near = sorted((run for run in here if run.spec.model == spec.model), key=lambda run: _distance(run.spec, spec))
    kind = [run for run in near if near and _distance(run.spec, spec)[:2] == _distance(near[0].spec, spec)[:2]]
    predicted = [value for run in kind[:_NEAREST] if (value := run.predict(spec, epochs, images[0])) is not None]
    if predicted:
        names = kind[0].trial if len(predicted) == 1 else f"{kind[0].trial} and {len(predicted) - 1} more"
        return Range(min(predicted) * (1 - _MARGIN), max(predicted) * (1 + _MARGIN)), f"like {names}"
    if near:
        return None, f"the number of images in {spec.data} is not known"
    why = f"no finished run of {spec.model} on this platform"
    arithmetic = spec.precision if spec.precision != "auto" or card is None else roofline.fastest_arithmetic(card)
    if card is None or not card.peak(arithmetic):
        return None, f"{why}, and no known peak of the device"
    if not images[0]:
        return None, f"{why}, and the number of images in {spec.data} is not known"
    flop = roofline.work(spec.model, spec.img_size, images[0], images[1] or 0)
    if flop is None:
        return None, f"{why}, and its work is not known"
    found = roofline.time_range(epochs * flop, card, arithmetic, spec.device.count(",") + 1)
    if found is None:
        return None, f"{why}, and nothing published says what part of the peak of card {card.name} in {arithmetic} is reached"
    return Range(*found), f"{why}: {roofline.said(card, arithmetic)}, start-up not counted"


def _distance(run: TrialSpec, wanted: TrialSpec) -> tuple[bool, float, float, float]:
    """How unlike two cells of a model are: other data, image size, batch size and epochs, in this order."""
    batch, epochs = (abs(math.log2(getattr(run, name) / getattr(wanted, name))) for name in ("batch_size", "epochs"))
    return run.data != wanted.data, abs(math.log2(run.img_size / wanted.img_size)), batch, epochs


@cache
def _place(data: str) -> tuple[int | None, int | None]:
    place = look(data)
    return (place.train_images, place.val_images) if place else (None, None)


def _images(data: str, past: Sequence[Past]) -> tuple[int | None, int | None]:
    """Training and validation images: from the data set where it is here, else from a run with it on any platform."""
    here = _place(data)
    return here if here[0] else (next((run.train_images for run in past if run.spec.data == data and run.train_images), None), here[1])


def _parameters(model: str, past: Sequence[Past]) -> float | None:
    known = next((run.parameters for run in past if run.spec.model == model and run.parameters), None)
    return known or (roofline.MODELS[model][1] if model in roofline.MODELS else None)


def _disk(spec: TrialSpec, past: Sequence[Past]) -> int | None:
    parameters = _parameters(spec.model, past)
    logs = sum(run.log_bytes for run in past) / len(past) if past else _LOG_BYTES
    return None if parameters is None else int(KEPT_BYTES * parameters + logs)


def _decoded(cells: Sequence[tuple[Cell, int]], counted: dict[str, tuple[int | None, int | None]]) -> int | None:
    """Bytes of the decoded images that the cells share, square ones being the most; None where the images are not known."""
    sizes = {(cell.spec.data, cell.spec.img_size) for cell, _ in cells if cell.spec.cache == "disk"}
    if any(counted[data][0] is None for data, _ in sizes):
        return None
    return sum(3 * size**2 * sum(count or 0 for count in counted[data]) for data, size in sizes)


def _sum(ranges: Sequence[Range | None]) -> Range | None:
    known = [item for item in ranges if item is not None]
    return sum(known, Range(0.0, 0.0)) if known else None


def _shown(item: Range, show: Any) -> str:
    low, high = show(item.low), show(item.high)
    return low if low == high else f"{low} to {high}"
