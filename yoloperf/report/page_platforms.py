"""The page's platform cards: the machines that runs recorded, and what the cards of their devices say."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloperf.core.platforms import PlatformCard
from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import RUN_COLUMNS, distinct, title
from yoloperf.report.cost import card_of, price_said

_ENVIRONMENT = (
    *("gpu_name", "gpu_mem_bytes", "cpu_name", "cpu_count", "mem_bytes", "driver", "cuda", "torch", "python"),
    *("engine", "precision_mode", "hostname", "git_commit"),
)
_VALUES = 4  # of an environment's fact; more are counted


@dataclass(frozen=True)
class Card:
    """A platform: facts (title, values) of the machines its runs ran on; `mixed` are facts with several values."""

    name: str
    runs: int
    facts: list[tuple[str, list[str]]]
    mixed: list[str]
    devices: list["Device"]


@dataclass(frozen=True)
class Device:
    """What the card of a device (cfg/platforms/) says it can do and costs, with dates."""

    name: str
    facts: list[tuple[str, str]]


def _device(card: PlatformCard) -> Device:
    peaks = ", ".join(f"{kind} {value / 1e12:.4g} TFLOP/s" for kind, value in card.peak_flops.items() if value is not None)
    facts = [("peak", peaks)] if peaks else []
    if card.mem_bandwidth_bytes_per_s is not None:
        facts.append(("bandwidth", f"{card.mem_bandwidth_bytes_per_s / 1e9:.4g} GB/s"))
    if card.tdp_w is not None:
        facts.append(("rated power", f"{card.tdp_w:g} W"))
    return Device(card.name, [*facts, ("price", price_said(card))])


def platform_cards(runs: Sequence[RunRecord]) -> list[Card]:
    """A card for every platform, from the environments that its runs recorded."""
    cards = []
    for name in [*distinct(runs, "platform"), None]:
        part = [run for run in runs if run.platform == name]
        if not part:
            continue
        facts, mixed = [], []
        for column in _ENVIRONMENT:
            values = [shown(RUN_COLUMNS[column], value) for value in distinct(part, column)]
            if values:
                more = [f"and {len(values) - _VALUES} more"] if len(values) > _VALUES else []
                facts.append((title(column), values[:_VALUES] + more))
            if len(values) > 1 and column not in ("git_commit", "engine", "precision_mode"):
                mixed.append(title(column))
        dates = sorted({run.started_at[:10] for run in part if run.started_at})
        if dates:
            facts.append(("dates", [dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"]))
        known = {card.file: card for run in part if (card := card_of(run))}
        cards.append(Card(name or "not recorded", len(part), facts, mixed, [_device(card) for card in known.values()][:_VALUES]))
    return cards
