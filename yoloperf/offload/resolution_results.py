"""What the cells of part "resolution" say: the study's table and picture, the smallest picture that is good enough, JPEG quality."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from yoloperf.core.units import show_bytes, show_seconds
from yoloperf.offload.part import Chart, Done, Finding, Results, Table
from yoloperf.offload.pictures import FULL
from yoloperf.offload.resolution_sizes import Size
from yoloperf.report.evidence import NOT_TESTABLE

_POINT = 0.01  # of mAP: what a smaller picture may cost
_LEAST_BOXES = 30  # of a class: the AP of fewer says little
_MOST_CLASSES = 8  # columns of the table of classes

_HOW = (
    "Intervals: the value and 1.96 standard deviations of {resamples} bootstrap samples of the {pictures} pictures to either side, "
    "the same samples for both of two sizes, so that a difference is one of paired pictures."
)


def results_of(done: Sequence[Done]) -> Results:
    if not done:
        return Results([], [], [])
    models: dict[str, list[Size]] = {}
    for one in done:
        size = Size(one)
        models.setdefault(size.model, []).append(size)
    sizes = [size for group in models.values() for size in group]
    links = list(dict.fromkeys(link for size in sizes for link in size.done.summary["links"]))
    tables = [_table(models, links)]
    classes = _classes(sizes)
    findings = [finding for group in models.values() for finding in (*_smallest(group, links), *_quality(group), *_missing(group))]
    return Results(tables + classes, [_chart(models, links)], findings)


def _original(sizes: Sequence[Size]) -> Size | None:
    return next((size for size in sizes if size.full), None)


def _table(models: dict[str, list[Size]], links: Sequence[str]) -> Table:
    rows = []
    for model, sizes in models.items():
        original = _original(sizes)
        for size in sizes:
            loss = size.loss(original) if original and not size.full else None
            row = {"model": model} if len(models) > 1 else {}
            row |= {
                "longer side": FULL if size.full else f"{size.pixels} px",
                "JPEG quality": "" if size.quality is None else str(size.quality),
                "file": show_bytes(size.bytes),
                "mAP@0.5": f"{size.map50:.3f}",
                "mAP@0.5:0.95": f"{size.done.summary['map50_95']:.3f}",
                "loss of mAP@0.5 (points, 95 %)": loss.points() if loss else "",
            }
            for link in links:
                trips = size.round_trips.get(link)
                row[f"round trip, {link}"] = _middle(trips) if trips else ""
            rows.append(row)
    summary = next(iter(models.values()))[0].done.summary
    note = f"File: mean of {summary['pictures']} pictures. Round trip: median (10 to 90 % of the requests). {_how(summary)}"
    return Table("resolution", "What a smaller picture costs and saves", rows, note)


def _how(summary: dict[str, Any]) -> str:
    return _HOW.format(resamples=len(summary["resampled50"]), pictures=summary["pictures"])


def _middle(values: Sequence[float]) -> str:
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    return f"{show_seconds(median(ordered))} ({show_seconds(low)} to {show_seconds(high)})"


def _classes(sizes: Sequence[Size]) -> list[Table]:
    boxes: dict[str, int] = sizes[0].done.summary["class_boxes"]
    shown = sorted((name for name, count in boxes.items() if count >= _LEAST_BOXES), key=lambda name: -boxes[name])[:_MOST_CLASSES]
    if len(shown) < 2:
        return []
    several = len({size.model for size in sizes}) > 1
    rows = [
        ({"model": size.model} if several else {})
        | {"longer side": FULL if size.full else f"{size.pixels} px", "JPEG quality": str(size.quality or "")}
        | {f"{name} ({boxes[name]})": f"{size.done.summary['class_ap50'].get(name, 0):.3f}" for name in shown}
        for size in sizes
    ]
    note = f"Classes with at least {_LEAST_BOXES} labels in the pictures, their number in brackets; at most {_MOST_CLASSES} of them."
    return [Table("resolution_classes", "AP at IoU 0.5 of each class", rows, note)]


def _smallest(sizes: Sequence[Size], links: Sequence[str]) -> Iterable[Finding]:
    original = _original(sizes)
    if original is None:
        return
    smaller = sorted((size for size in sizes if size.bytes < original.bytes), key=lambda size: size.bytes)
    losses = [(size, loss) for size in smaller if (loss := size.loss(original))]
    if not losses:
        return
    of = f" ({original.model})"
    if original.map50 <= _POINT:  # every size would be good enough
        text = f"What costs less than 1 point of mAP@0.5 cannot be told{of}: the original files score {original.map50:.3f}."
        yield Finding(text, NOT_TESTABLE, [original.name], answers=True)
        return
    good = [(size, loss) for size, loss in losses if loss.value < _POINT]
    if not good:
        least, loss = min(losses, key=lambda pair: pair[1].value)
        text = f"No smaller picture costs less than 1 point of mAP@0.5{of}: least does {least.title()}, {loss.points()} points."
        yield Finding(text, evidence=[least.name, original.name], answers=True)
        return
    size, loss = good[0]
    trips = [
        f"{show_seconds(median(size.round_trips[link]))} instead of {show_seconds(median(original.round_trips[link]))} over {link}"
        for link in links
        if link in size.round_trips and link in original.round_trips
    ]
    sure = next((pair for pair in good if pair[1].value + pair[1].half < _POINT), None)
    # the smallest of many whose loss happens to be small is the luckiest, too
    says = ("costs", "is") if sure and sure[0] is size else ("cost", "as measured, was")
    text = (
        f"The smallest picture that {says[0]} less than 1 point of mAP@0.5{of} {says[1]} {size.title()}: {loss.points()} points, "
        f"{show_bytes(size.bytes)} instead of {show_bytes(original.bytes)}"
    )
    text += f"; a round trip of {', '.join(trips)}." if trips else "."
    count = original.done.summary["pictures"]
    if sure is None:
        text += f" With {count} pictures no size is sure (by the whole of its 95 % interval) to cost less: more pictures would tell."
    elif sure[0] is not size:
        text += (
            f" With {count} pictures it is sure (by the whole of its 95 % interval) from {sure[0].title()} on, {show_bytes(sure[0].bytes)}."
        )
    yield Finding(text, evidence=[size.name, original.name], answers=True)


def _quality(sizes: Sequence[Size]) -> Iterable[Finding]:
    by_pixels: dict[int, list[Size]] = {}
    for size in sizes:
        if not size.full:
            by_pixels.setdefault(size.pixels, []).append(size)
    costs = []
    for pixels, group in sorted(by_pixels.items()):
        low, high = (choice(group, key=lambda size: size.quality or 0) for choice in (min, max))
        loss = low.loss(high)
        if low.quality != high.quality and loss:
            costs.append((pixels, low, high, loss))
    if not costs:
        return
    telling = [cost for cost in costs if cost[2].map50 > 0] or costs
    lines = [
        f"{pixels} px {100 * (1 - low.bytes / high.bytes):.0f} % of the bytes for {loss.points()} points"
        for pixels, low, high, loss in telling
    ]
    first, last = telling[0][1], telling[0][2]
    text = f"JPEG quality {first.quality} instead of {last.quality} ({first.model}) saves, for mAP@0.5: {'; '.join(lines)}."
    yield Finding(text, evidence=[size.name for cost in telling for size in cost[1:3]])


def _missing(sizes: Sequence[Size]) -> Iterable[Finding]:
    """What could not be measured is said, once for each reason."""
    reasons: dict[str, list[str]] = {}
    for size in sizes:
        for link, outcome in size.done.summary["links"].items():
            if outcome["reason"]:
                reasons.setdefault(f"{link}: {outcome['reason']}", []).append(size.name)
    for reason, names in reasons.items():
        yield Finding(
            f"Not measured, or not wholly, in {len(names)} of {len(sizes)} sizes, {reason} (--redo resolution tries again)", evidence=names
        )
    unusable: list[str] = sizes[0].done.summary["unusable"]
    if unusable:
        yield Finding(f"{len(unusable)} pictures were not sent, as the service could not read them: {'; '.join(unusable[:3])}")


def _chart(models: dict[str, list[Size]], links: Sequence[str]) -> Chart:
    values: list[dict[str, Any]] = []
    trips: list[dict[str, Any]] = []
    for model, sizes in models.items():
        original = _original(sizes)
        for size in sizes:
            loss = size.loss(original) if original and not size.full else None
            shared = {
                "model": model,
                "size": FULL if size.full else str(size.pixels),
                "quality": "original" if size.full else f"JPEG {size.quality}",
                "kilobytes": size.bytes / 1000,
            }
            values.append(
                {
                    **shared,
                    "map": size.map50,
                    "low": max(0.0, size.map50 - (loss.half if loss else 0)),
                    "high": size.map50 + (loss.half if loss else 0),
                }
            )
            for link in links:
                if link in size.round_trips:
                    trips.append({**shared, "link": link, "milliseconds": 1000 * median(size.round_trips[link])})
    panels = []
    for model in models:
        own = [value for value in values if value["model"] == model]
        panels.append(_panel(own, "map", "mAP@0.5", f"{model}: accuracy", bars=True))
        for link in links:
            if mine := [trip for trip in trips if trip["model"] == model and trip["link"] == link]:
                panels.append(_panel(mine, "milliseconds", "round trip (ms)", f"{model}: {link}"))
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "concat": panels, "columns": 2}
    note = "Bars: 95 % interval of the difference to the original files. Round trips are medians; a number is the longer side in pixels."
    return Chart("resolution", "mAP and round-trip time against the bytes sent", spec, note)


def _panel(values: Sequence[dict[str, Any]], field: str, words: str, title: str, bars: bool = False) -> dict[str, Any]:
    # in the order of the table, and the same in every panel, so that the legends of colour, shape and dash are one
    domain = sorted({value["quality"] for value in values}, key=lambda quality: (quality != "original", quality))
    series = {"field": "quality", "type": "nominal", "title": None, "scale": {"domain": domain}}
    place = {
        "x": {
            "field": "kilobytes",
            "type": "quantitative",
            "scale": {"type": "log", "nice": False, "padding": 20},
            "title": "file sent (kB)",
        },
        "y": {"field": field, "type": "quantitative", "title": words, "scale": {"zero": True}},
    }
    tooltip = [
        {"field": name, "title": words}
        for name, words in (("size", "longer side"), ("quality", "quality"), ("kilobytes", "kB"), (field, words))
    ]
    layers: list[dict[str, Any]] = [
        {"mark": "line", "encoding": {**place, "color": series, "strokeDash": series}},
        {
            "mark": {"type": "point", "filled": True, "size": 50},
            "encoding": {**place, "color": series, "shape": series, "tooltip": tooltip},
        },
        {
            "mark": {"type": "text", "dy": -10, "fontSize": 9},
            # one label a size: those of the other qualities would lie on it
            "transform": [{"window": [{"op": "row_number", "as": "place"}], "groupby": ["size"]}, {"filter": "datum.place == 1"}],
            "encoding": {**place, "text": {"field": "size"}},
        },
    ]
    if bars:
        y = {"y": {**place["y"], "field": "low"}, "y2": {"field": "high"}}
        layers.insert(0, {"mark": {"type": "rule", "opacity": 0.5}, "encoding": {"x": place["x"], **y, "color": series}})
    return {"title": title, "width": 260, "height": 220, "data": {"values": list(values)}, "layer": layers}
