"""What runs cost in money and energy, and the cheapest and fastest way to a given quality.

Money is time x the price of the device's card (`cfg/platforms/`), which says when it was read, where, and whether that was verified.
Energy is only what was measured: where a run says no source for it, it has none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from yoloperf.core.platforms import PlatformCard, card_for
from yoloperf.core.record import EpochRecord, RunRecord
from yoloperf.report.columns import IDENTITY, differing, distinct, failed, label, telling
from yoloperf.report.evidence import Measure, quality, times

POINT = 0.01  # of a quality between 0 and 1
MAP = "mAP@0.5"  # title of the measure that epochs have, too


@dataclass(frozen=True)
class Priced:
    """A run with what it cost. `seconds` is the time that was priced; cost in the card's currency; None where a figure is unknown."""

    run: RunRecord
    card: PlatformCard | None
    seconds: float | None
    grade: float | None

    @property
    def cost(self) -> float | None:
        """Of all devices, start-up and validation included; that of a failed run is lost and still paid."""
        return paid(self.card, self.seconds, devices(self.run))

    @property
    def energy_j(self) -> float | None:
        """As measured; None for a figure that does not say how."""
        return self.run.energy_j if self.run.energy_source else None

    @property
    def joules_per_image(self) -> float | None:
        """Energy of the whole run, start-up and validation included, per image trained on."""
        images = (self.run.train_images or 0) * (self.run.epochs_done or 0)
        return self.energy_j / images if self.energy_j is not None and images else None

    @property
    def cost_per_point(self) -> float | None:
        return self._per_point(self.cost)

    @property
    def joules_per_point(self) -> float | None:
        return self._per_point(self.energy_j)

    def _per_point(self, value: float | None) -> float | None:
        return value * POINT / self.grade if value is not None and self.grade and not failed(self.run) else None


@dataclass(frozen=True)
class Way:
    """A run that reached the target, after `seconds` of its start, in `epoch` (None: known of its end only). Energy is the whole run's."""

    priced: Priced
    seconds: float
    cost: float | None
    energy_j: float | None
    epoch: int | None


@dataclass(frozen=True)
class Ways:
    """The best ways of a platform and model, and of whatever else the runs are known to differ in (`rest`, in words).

    None where no run that reached the target has the figure.
    """

    platform: str | None
    model: str | None
    rest: str
    reached: int
    tried: int
    fastest: Way | None
    cheapest: Way | None
    frugal: Way | None


def card_of(run: RunRecord) -> PlatformCard | None:
    """The card of the device that a run took place on."""
    return card_for(run.gpu_name, run.cpu_name)


def devices(run: RunRecord) -> int:
    """Of how many devices a run paid the price: a process a GPU; a machine is one, however many processes it has."""
    return run.processes or 1 if run.gpu_name else 1


def paid(card: PlatformCard | None, seconds: float | None, count: int) -> float | None:
    one = card.cost(seconds) if card else None
    return None if one is None else one * count


def priced(runs: Sequence[RunRecord]) -> list[Priced]:
    """Every run with its time, by the last of `times`: the wall time, or the least that it can have been."""
    time, grade = priced_time(runs), quality(runs)
    return [Priced(run, card_of(run), time.of(run), grade.of(run)) for run in runs]


def priced_time(runs: Sequence[RunRecord]) -> Measure:
    return times(runs)[-1]


def ways(items: Sequence[Priced], epochs: Iterable[EpochRecord], target: float) -> list[Ways]:
    """For every platform, model and what else differs the fastest, the cheapest and the most frugal run with at least `target`."""
    by_run: dict[str | None, list[EpochRecord]] = {}
    if quality([item.run for item in items]).title == MAP:  # of another quality the epochs say nothing
        for record in epochs:
            by_run.setdefault(record.run_id, []).append(record)
    found = []
    runs = [item.run for item in items]
    names = list(dict.fromkeys(("platform", "model", *differing(runs, IDENTITY))))
    words = [name for name in telling(runs, names) if name not in ("platform", "model")]
    groups: dict[tuple[object, ...], list[Priced]] = {}
    for item in items:
        groups.setdefault(tuple(getattr(item.run, name) for name in names), []).append(item)
    for group in groups.values():
        first, part = group[0].run, [item for item in group if not failed(item.run)]
        there = [way for item in part if (way := _way(item, by_run.get(item.run.run_id, []), target))]
        found.append(
            Ways(
                platform=first.platform,
                model=first.model,
                rest=label(first, words) if any(getattr(first, name) is not None for name in words) else "",
                reached=len(there),
                tried=len(part),
                fastest=min(there, key=lambda way: way.seconds, default=None),
                cheapest=min((way for way in there if way.cost is not None), key=lambda way: way.cost or 0.0, default=None),
                frugal=_frugal(there),
            )
        )
    return found


def _frugal(there: Sequence[Way]) -> Way | None:
    """None where some measured the GPU and others the processor: the two are not alike."""
    measured = [way for way in there if way.energy_j is not None]
    if len({way.priced.run.energy_source == "rapl" for way in measured}) != 1:
        return None
    return min(measured, key=lambda way: way.energy_j or 0.0)


def _way(item: Priced, epochs: Sequence[EpochRecord], target: float) -> Way | None:
    """By the epochs where they say their times and mAP@0.5, so that what follows the first good one is not counted."""
    seconds = item.run.startup_s
    ordered = sorted(epochs, key=lambda record: record.epoch or 0)
    if seconds is not None and ordered and all(None not in (record.map50, record.train_s) for record in ordered):
        for record in ordered:
            seconds += (record.train_s or 0.0) + (record.val_s or 0.0)
            if (record.map50 or 0.0) >= target:
                return Way(item, seconds, paid(item.card, seconds, devices(item.run)), item.energy_j, record.epoch)
        return None
    if item.grade is None or item.grade < target or item.seconds is None:
        return None
    return Way(item, item.seconds, item.cost, item.energy_j, None)


def prices_said(items: Sequence[Priced]) -> list[str]:
    """A line a platform: the price its costs rest on, or why it has none."""
    lines = []
    for platform in [*distinct([item.run for item in items], "platform"), None]:
        known = {item.card.file: item.card for item in items if item.run.platform == platform and item.card}
        unknown = {item.run.gpu_name or item.run.cpu_name for item in items if item.run.platform == platform and not item.card}
        name = platform or "runs without a platform"
        for card in known.values():
            lines.append(f"{name}: {price_said(card)}")
        lines += [
            f"{name}: no cost, since no card names {device or 'its device, which is not recorded'}" for device in sorted(unknown, key=str)
        ]
    return lines


def price_said(card: PlatformCard) -> str:
    """The price of a card with its date, source and whether it was verified."""
    if card.price_per_hour is None:
        return f"no cost, since card {card.name} has no price (give it one in cfg/platforms/)"
    kind = f" {card.billing}" if card.billing else ""
    return f"{card.currency} {card.price_per_hour:g} an hour{kind} ({card.said('price')}: {card.origin['price'].source})"
