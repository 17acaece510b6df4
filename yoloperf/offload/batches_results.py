"""What the cells of part "batches" say: the stages of an image's time against the images a request, and whether batching pays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median
from typing import Any

import numpy as np

from yoloperf.core.request import RequestRecord
from yoloperf.core.units import show_bytes, show_seconds
from yoloperf.offload.part import Chart, Done, Finding, Results, Table
from yoloperf.report.evidence import CONTRADICTED, MIXED, NOT_TESTABLE, SUPPORTED

_IN_SERVICE = ("queue", "decode", "preprocess", "inference", "postprocess", "encode")
_STAGES = ("upload", *_IN_SERVICE, "download", "network", "other")
_TOGETHER = dict.fromkeys(("decode", "preprocess"), "to pixels") | dict.fromkeys(("postprocess", "encode", "other"), "boxes and answer")
_DRAWN = ("upload", "queue", "to pixels", "inference", "boxes and answer", "download", "network")
_GAIN = 0.05  # of an image's time: what more images a request must bring to be worth while
_LEAST_REPEATS = 5
_RESAMPLES = 2000


@dataclass(frozen=True)
class Batch:
    """A cell with its answered requests."""

    done: Done

    @property
    def link(self) -> str:
        return str(self.done.summary["link"])

    @property
    def images(self) -> int:
        return int(self.done.summary["images"])

    @cached_property
    def answered(self) -> list[RequestRecord]:
        return [record for record in self.done.requests if record.error is None and record.round_trip_s is not None]

    @cached_property
    def round_trips(self) -> list[float]:
        return [record.round_trip_s for record in self.answered if record.round_trip_s is not None]

    def image_s(self) -> float:
        """Median time of an image: that of its request, shared by the images in it."""
        return median(self.round_trips) / self.images

    @cached_property
    def stages(self) -> dict[str, float]:
        """Mean seconds of a request in each stage: they add up to the mean round trip. The service's are those of the image that
        was done last; network: upload and download where the clocks do not tell them apart; other: what the service does not
        account for."""
        split = [_split(record) for record in self.answered]
        names = [name for name in _STAGES if any(name in one for one in split)]
        return {name: fmean(one.get(name, 0.0) for one in split) for name in names}

    def accounted(self) -> float | None:
        """Share of the round trip whose stage is known."""
        other = self.stages.get("other")
        return None if other is None else 1 - other / fmean(self.round_trips)


def _split(record: RequestRecord) -> dict[str, float]:
    assert record.round_trip_s is not None
    if record.server_s is None:
        return {"network": record.round_trip_s}
    known = {name: value for name in _IN_SERVICE if (value := getattr(record, f"{name}_s")) is not None}
    both = {"upload": record.upload_s, "download": record.download_s}
    way = {name: value for name, value in both.items() if value is not None} or {"network": record.round_trip_s - record.server_s}
    return {**way, **known, "other": record.round_trip_s - sum(way.values()) - sum(known.values())}


def results_of(done: Sequence[Done]) -> Results:
    links: dict[str, list[Batch]] = {}
    for batch in map(Batch, done):
        if batch.round_trips:
            links.setdefault(batch.link, []).append(batch)
    if not links:
        return Results([], [], [])
    for batches in links.values():
        batches.sort(key=lambda batch: batch.images)
    pays = {link: _pays(link, batches) for link, batches in links.items()}
    return Results([_table(links)], [_chart(links)], [_answer(pays), *pays.values(), *_missing(links)])


def _table(links: dict[str, list[Batch]]) -> Table:
    names = [name for name in _STAGES if any(name in batch.stages for batches in links.values() for batch in batches)]
    rows = []
    for link, batches in links.items():
        for batch in batches:
            ordered = sorted(batch.round_trips)
            low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
            accounted = batch.accounted()
            rows.append(
                {
                    "link": link,
                    "images a request": str(batch.images),
                    "bytes a request": show_bytes(fmean(record.sent_bytes or 0 for record in batch.answered)),
                    "requests": str(len(ordered)),
                    "total a request": f"{show_seconds(median(ordered))} ({show_seconds(low)} to {show_seconds(high)})",
                    "total an image": show_seconds(batch.image_s()),
                    **{name: show_seconds(batch.stages[name]) if name in batch.stages else "" for name in names},
                    "accounted for": "" if accounted is None else f"{100 * accounted:.1f} %",
                }
            )
    summary = next(iter(links.values()))[0].done.summary
    errors = [batch.done.summary["clock_error_s"] for batches in links.values() for batch in batches]
    known = [error for error in errors if error is not None]
    note = (
        f"{_pictures(summary)}, {summary['runtime']}. Total: median (10 to 90 % of the requests); stages: means of a request, of its "
        "image that was done last. One connection, the next request when the answer is there."
    )
    note += f" Upload and download are right to {show_seconds(max(known))}, as far as the clocks are." if known else ""
    return Table("batches", "Images a request: where the time goes", rows, note)


def _pictures(summary: dict[str, Any]) -> str:
    mean = show_bytes(summary["file_bytes"])
    if summary["quality"] is None:
        return f"Original files of {mean} on average"
    return f"Pictures of {summary['size']} px at JPEG quality {summary['quality']}, {mean} on average"


def _pays(link: str, batches: Sequence[Batch]) -> Finding:
    evidence = [batch.done.cell.name for batch in batches]
    alone = next((batch for batch in batches if batch.images == 1), None)
    if alone is None or len(batches) < 2:
        return Finding(f"Whether batching pays over {link} needs one image a request and several.", NOT_TESTABLE, evidence)
    best = min((batch for batch in batches if batch.images > 1), key=Batch.image_s)
    enough = next(batch for batch in batches if batch.images > 1 and batch.image_s() <= (1 + _GAIN) * best.image_s())
    repeats = min(len(alone.round_trips), len(enough.round_trips))
    ratio, (low, high) = enough.image_s() / alone.image_s(), _interval(enough, alone, len(batches) - 1)
    measured = (
        f"over {link} an image takes {show_seconds(enough.image_s())} in requests of {enough.images} and {show_seconds(alone.image_s())} "
        f"alone, {ratio:.2f} times as long (95 % interval {low:.2f} to {high:.2f}, {repeats} requests each or more)"
    )
    if repeats < _LEAST_REPEATS:
        return Finding(f"Batching: {measured}: too few to tell.", NOT_TESTABLE, evidence)
    if low > 1:
        return Finding(f"Batching does not pay: {measured}.", CONTRADICTED, evidence)
    if high >= 1:
        return Finding(f"Whether batching pays is within the noise: {measured}.", MIXED, evidence)
    more = [batch.images for batch in batches if batch.images > enough.images]
    stops = f"; more than {enough.images} gain less than {100 * _GAIN:.0f} %" if more else "; more were not tried"
    waits = f"The answer to {enough.images} comes after {show_seconds(median(enough.round_trips))}"
    return Finding(f"Batching pays: {measured}{stops}. {waits}.", SUPPORTED, evidence)


def _interval(several: Batch, alone: Batch, tried: int) -> tuple[float, float]:
    """95 % of the ratio of the median times of an image, by bootstrap over the requests (percentiles). tried: numbers of images that
    this one was chosen among: all of their intervals hold together (Bonferroni)."""
    draw = np.random.default_rng(0)
    medians = [
        np.median(draw.choice(batch.round_trips, (_RESAMPLES, len(batch.round_trips))), axis=1) / batch.images for batch in (several, alone)
    ]
    low, high = np.percentile(medians[0] / medians[1], (2.5 / tried, 100 - 2.5 / tried))
    return float(low), float(high)


def _answer(pays: dict[str, Finding]) -> Finding:
    """All links in one sentence."""
    words = {
        SUPPORTED: "pays over",
        CONTRADICTED: "does not pay over",
        MIXED: "is within the noise over",
        NOT_TESTABLE: "was not told over",
    }
    found = {verdict: [link for link, one in pays.items() if one.verdict == verdict] for verdict in words}
    several = [f"{text} {', '.join(found[verdict])}" for verdict, text in words.items() if found[verdict]]
    verdicts = [verdict for verdict in words if found[verdict]]
    evidence = [name for one in pays.values() for name in one.evidence]
    text = f"Sending several images in a request {'; it '.join(several)}."
    return Finding(text, verdicts[0] if len(verdicts) == 1 else MIXED, evidence, answers=True)


def _missing(links: dict[str, list[Batch]]) -> Iterable[Finding]:
    reasons: dict[str, list[str]] = {}
    for batches in links.values():
        for batch in batches:
            if batch.done.summary["reason"]:
                reasons.setdefault(batch.done.summary["reason"], []).append(batch.done.cell.name)
    for reason, names in reasons.items():
        yield Finding(f"In {', '.join(names)}: {reason}", evidence=names)
    unusable: list[str] = next(iter(links.values()))[0].done.summary["unusable"]
    if unusable:
        yield Finding(f"{len(unusable)} pictures were not sent, as the service could not read them: {'; '.join(unusable[:3])}")


def _chart(links: dict[str, list[Batch]]) -> Chart:
    values = [
        {"link": link, "images": batch.images, "stage": name, "order": _DRAWN.index(name), "milliseconds": 1000 * seconds / batch.images}
        for link, batches in links.items()
        for batch in batches
        for name, seconds in _drawn(batch.stages).items()
    ]
    used = [name for name in _DRAWN if any(value["stage"] == name for value in values)]
    panel = {
        "width": 260,
        "height": 220,
        # edges keep neighbours apart in a black-and-white print
        "mark": {"type": "bar", "stroke": "white", "strokeWidth": 1},
        "encoding": {
            "x": {"field": "images", "type": "ordinal", "title": "images a request", "axis": {"labelAngle": 0}},
            "y": {"field": "milliseconds", "type": "quantitative", "title": "time an image (ms)", "stack": "zero"},
            "color": {"field": "stage", "type": "nominal", "scale": {"domain": used, "scheme": "viridis"}, "title": "stage"},
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": "stage"}, {"field": "images", "title": "images a request"}, {"field": "milliseconds", "format": ".2f"}],
        },
    }
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": values},
        "facet": {"field": "link", "type": "nominal", "title": None, "sort": list(links)},
        "columns": 2,
        "spec": panel,
        "resolve": {"scale": {"y": "independent"}, "axis": {"x": "independent"}},
    }
    note = "Mean of a request's stages, divided by its images; stages are stacked in the order in which they come. The scales differ."
    return Chart("batches", "Where an image's time goes, by images a request", spec, note)


def _drawn(stages: dict[str, float]) -> dict[str, float]:
    """Stages as the picture has them: the small ones together."""
    drawn: dict[str, float] = {}
    for name, seconds in stages.items():
        together = _TOGETHER.get(name, name)
        drawn[together] = drawn.get(together, 0.0) + seconds
    return drawn
