"""What the field's usual training, 300 epochs of COCO, would take in hours and money: by the runs' own fits, and by the cards alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloperf.core import roofline
from yoloperf.core.platforms import PlatformCard, cards
from yoloperf.core.record import RunRecord
from yoloperf.core.units import show_money
from yoloperf.report.columns import distinct
from yoloperf.report.cost import card_of, devices, paid, price_said
from yoloperf.report.evidence import times
from yoloperf.report.predict import Cell, Prediction, fit, groups
from yoloperf.report.render import Row, Table

EPOCHS, TRAIN_IMAGES, VAL_IMAGES = 300, 118_287, 5_000  # COCO 2017
_IMG_SIZE = 416


@dataclass(frozen=True)
class Extrapolated:
    """A platform and model of the records, far beyond its runs."""

    prediction: Prediction
    card: PlatformCard | None
    devices: int

    @property
    def cost(self) -> float | None:
        return paid(self.card, self.prediction.seconds, self.devices)


@dataclass(frozen=True)
class Possible:
    """A card and model, by the peak alone: shortest and longest time in s, and what they cost."""

    card: PlatformCard
    model: str
    img_size: int
    seconds: tuple[float, float]

    @property
    def cost(self) -> tuple[float, float] | None:
        low, high = (self.card.cost(value) for value in self.seconds)
        return None if low is None or high is None else (low, high)


def extrapolated(runs: Sequence[RunRecord]) -> list[Extrapolated]:
    """By the fit of every platform and model, at the largest batch size that it ran.

    One whose time does not grow with the work is left out: all that it knows is a start.
    """
    measure = times(runs)[-1]
    found = []
    for group in groups(runs):
        model = fit(group, measure)
        if model and (model.image_s or model.step_s):
            cell = Cell(model.batch_sizes[-1], EPOCHS, TRAIN_IMAGES)
            prediction = Prediction(model, cell, model.predict(cell))
            found.append(Extrapolated(prediction, card_of(group.runs[0]), devices(group.runs[0])))
    return found


def possible(runs: Sequence[RunRecord]) -> list[Possible]:
    """Every card with a peak and every model of the records whose work is known, the fastest first."""
    found = []
    for model in [name for name in distinct(runs, "model") if name in roofline.MODELS]:
        sizes = distinct([run for run in runs if run.model == model], "img_size") or [_IMG_SIZE]
        flop = roofline.work(model, sizes[0], TRAIN_IMAGES, VAL_IMAGES)
        known = [(card, roofline.time_range(EPOCHS * flop, card, roofline.fastest_arithmetic(card))) for card in cards()] if flop else []
        found += sorted((Possible(card, model, sizes[0], span) for card, span in known if span), key=lambda item: item.seconds)
    return found


def coco_tables(first: Sequence[Extrapolated], second: Sequence[Possible]) -> list[Table]:
    tables = []
    if first:
        headings = ["", "batch size", f"predicted {first[0].prediction.fit.measure}", "cost", "beyond the runs in"]
        rows = [
            Row(
                [
                    item.prediction.fit.heading,
                    str(item.prediction.cell.batch_size),
                    _hours(item.prediction.seconds),
                    "" if item.cost is None or item.card is None else f"{item.card.currency} {show_money(item.cost)}",
                    item.prediction.fit.beyond(item.prediction.cell),
                ]
            )
            for item in first
        ]
        tables.append(Table(headings, [False, True, True, True, False], rows, f"COCO, {EPOCHS} epochs, by these runs", 1))
    if second:
        low, high = (f"{share:.0%}" for share in roofline.EFFICIENCY)
        rows = []
        for item in second:
            spent = item.cost
            money = "" if spent is None else f"{item.card.currency} {show_money(spent[0])} to {show_money(spent[1])}"
            time = " to ".join(map(_hours, item.seconds))
            rows.append(Row([item.model, item.card.name, roofline.fastest_arithmetic(item.card), str(item.img_size), time, money]))
        heading = f"COCO, {EPOCHS} epochs, by the cards alone: {low} to {high} of the peak, as published trainings had; loading not counted"
        numeric = [False, False, False, True, True, True]
        tables.append(Table(["model", "card", "arithmetic", "image size", "time on one device", "cost"], numeric, rows, heading, 2))
    return tables


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h"


def coco_remarks(first: Sequence[Extrapolated], second: Sequence[Possible]) -> list[str]:
    """The prices, and what the extrapolation takes for granted."""
    named = [item.card for item in first if item.card] + [item.card for item in second]
    used = {card.file: card for card in named}
    lines = [f"price: {card.name}: {price_said(card)}" for card in used.values()]
    if first:
        lines.insert(0, "the fits stretch small runs a thousandfold: validation, loading and storage count as they did there")
    return lines


def coco_result(first: Sequence[Extrapolated], second: Sequence[Possible]) -> dict[str, Any]:
    return {
        "epochs": EPOCHS,
        "train_images": TRAIN_IMAGES,
        "by_runs": [
            {
                "where": item.prediction.fit.heading,
                "batch_size": item.prediction.cell.batch_size,
                "measure": item.prediction.fit.measure,
                "seconds": item.prediction.seconds,
                "cost": item.cost,
                "currency": item.card and item.card.currency,
                "card": item.card and item.card.name,
                "beyond": item.prediction.fit.beyond(item.prediction.cell),
            }
            for item in first
        ],
        "by_cards": [
            {
                "card": item.card.name,
                "model": item.model,
                "img_size": item.img_size,
                "seconds": item.seconds,
                "cost": item.cost,
                "currency": item.card.currency,
                "price": vars(item.card.origin["price"]),
            }
            for item in second
        ],
    }
