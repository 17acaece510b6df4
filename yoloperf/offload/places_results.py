"""What the cells of part "places" say: where the time goes, how it is spread, when to send work away."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from yoloperf.core.request import RequestRecord
from yoloperf.core.units import show_money, show_seconds
from yoloperf.offload.breakeven import Model, Sample, break_even, sample_of, show_rate, verdict
from yoloperf.offload.part import Done, Finding, Results, Table
from yoloperf.offload.places_charts import boxes, by_bandwidth, by_latency, by_speed, stacked
from yoloperf.offload.study import Place, Study
from yoloperf.report.evidence import CONTRADICTED, MIXED, NOT_TESTABLE, SUPPORTED

IN_PROCESS, LOCAL, REMOTE, ABOVE, BELOW = "in-process", "local", "remote", "just-above", "just-below"
STAGES = ("upload", "queue", "decode", "preprocess", "inference", "postprocess", "encode", "download")
_BAR = 0.95  # of the round trip: what the stages must account for
_NEAR = 2  # times as far from break-even as a link was to be, on a scale of logarithms: farther tells nothing of it
_GOOD = 0.1  # of a prediction: what passes for right
_FASTER = {
    "remote": "Remote is faster over",
    "local": "Local is faster than remote over",
    "neither": "No difference between local and remote can be measured over",
}

Rows = Sequence[RequestRecord]


def results_of(done: Sequence[Done], study: Study, rtt_s: float, down_over_up: float) -> Results:
    cells = {one.cell.name: one for one in done}
    rows = {name: answered(one.requests) for name, one in cells.items()}
    places = {name: own for name, own in rows.items() if name not in (ABOVE, BELOW) and own}
    if not places:
        return Results([], [], [])
    tables = [_stages(places, cells), _spread(places)]
    charts = [boxes(places), stacked({name: _means(own) for name, own in places.items()})]
    findings = [*_failed(cells), *_accounted(places, cells), *_right(cells)]
    if IN_PROCESS in places and REMOTE in places:
        sample = sample_of(places[IN_PROCESS], places[REMOTE])
        model, many = sample.model(), sample.resampled(study.seed)
        found = break_even(sample, rtt_s, down_over_up, study.seed)
        img_size = cells[IN_PROCESS].summary.get("img_size")
        say = verdict(model, found, img_size, rtt_s)
        confirmed = _confirmed(cells, study.seed, model, rtt_s, down_over_up)
        doubt = "; measured around it, that did not hold" if any(one.verdict == CONTRADICTED for one in confirmed) else ""
        findings.insert(0, Finding(f"{say[0].upper()}{say[1:]}{doubt}.", None, [IN_PROCESS, REMOTE], answers=True))
        findings += confirmed
        measured = [(one, split(one)) for one in (cells.get(BELOW), cells.get(ABOVE)) if one and one.requests]
        linked, how_well = _links(cells, rows, model, study.seed)
        findings += how_well
        tables += [*linked, *_costs(model, study)]
        points = [(one.summary["link"]["up_bps"], float(own.model().remote_s())) for one, own in measured]
        charts += [
            by_bandwidth(model, many, found, points, rtt_s, down_over_up),
            *by_latency(model, many, down_over_up),
            *by_speed(model, many, down_over_up),
        ]
    return Results(tables, charts, findings)


def answered(rows: Rows) -> list[RequestRecord]:
    return [row for row in rows if row.error is None and row.round_trip_s is not None]


def split(one: Done) -> Sample:
    """A cell that measured both places by turns."""
    here = [row for row in one.requests if str(row.cell).endswith(f"/{IN_PROCESS}")]
    return sample_of(here, [row for row in one.requests if str(row.cell).endswith(f"/{REMOTE}")])


def _means(rows: Rows) -> dict[str, float]:
    """Mean seconds of each stage that any request has."""
    found = {}
    for stage in STAGES:
        values = [value for row in rows if (value := getattr(row, f"{stage}_s")) is not None]
        if values:
            found[stage] = float(np.mean(values))
    return found


def share(rows: Rows) -> float:
    """Of the round trips, what the stages account for."""
    known = sum(getattr(row, f"{stage}_s") or 0.0 for row in rows for stage in STAGES)
    return known / sum(row.round_trip_s or 0.0 for row in rows)


def _stages(places: dict[str, list[RequestRecord]], cells: dict[str, Done]) -> Table:
    table = []
    for name, rows in places.items():
        means = _means(rows)
        table.append(
            {"place": name, "requests": str(len(rows)), "failed": str(len(cells[name].requests) - len(rows))}
            | {stage: show_seconds(means[stage]) if stage in means else "" for stage in STAGES}
            | {"total": show_seconds(float(np.mean([row.round_trip_s for row in rows]))), "accounted for": f"{100 * share(rows):.1f} %"}
        )
    note = (
        "Means of the requests that were answered. Upload and download are differences of the two clocks, whose offset is estimated "
        "before and after; empty where it is not known, or where nothing is sent."
    )
    return Table("places_stages", "Where the time goes", table, note)


def _spread(places: dict[str, list[RequestRecord]]) -> Table:
    table = []
    for name, rows in places.items():
        kinds = {
            "upload": [row.upload_s for row in rows],
            "prediction": [row.inference_s for row in rows],
            "in the service": [row.server_s for row in rows],
            "download": [row.download_s for row in rows],
            "total": [row.round_trip_s for row in rows],
        }
        for kind, all_values in kinds.items():
            values = np.array([value for value in all_values if value is not None])
            if len(values) and not (name == IN_PROCESS and kind in ("upload", "in the service", "download")):
                table.append({"place": name, "time": kind, **_moments(values)})
    return Table("places_spread", "How the times are spread", table, "Kurtosis: excess over the normal distribution's, which has 0.")


def _moments(values: "np.ndarray[Any, Any]") -> dict[str, str]:
    shown = {"mean": values.mean(), "median": np.median(values), "p99": np.quantile(values, 0.99)}
    several = len(values) > 3 and np.ptp(values) > 0
    return {key: show_seconds(float(value)) for key, value in shown.items()} | {
        "standard deviation": show_seconds(float(values.std(ddof=1))) if several else "",
        "skewness": f"{stats.skew(values, bias=False):.2f}" if several else "",
        "kurtosis": f"{stats.kurtosis(values, bias=False):.2f}" if several else "",
    }


def _failed(cells: dict[str, Done]) -> list[Finding]:
    """What every other figure leaves out."""
    texts, evidence = [], []
    for name, one in cells.items():
        errors = Counter(row.error for row in one.requests if row.error is not None)
        if errors:
            texts.append(f"{errors.total()} of {len(one.requests)} in {name} (mostly {errors.most_common(1)[0][0]})")
            evidence.append(name)
    return [Finding(f"Requests failed and are in no figure: {'; '.join(texts)}.", None, evidence, answers=True)] if texts else []


def _accounted(places: dict[str, list[RequestRecord]], cells: dict[str, Done]) -> list[Finding]:
    if LOCAL not in places:
        return []
    reason, error_s = (cells[LOCAL].summary.get(key) for key in ("clock_reason", "clock_error_s"))
    if reason or error_s is None:
        return [Finding(f"Upload and download are not known: {reason}.", NOT_TESTABLE, [LOCAL])]
    found = share(places[LOCAL])
    text = (
        f"The stages account for {100 * found:.1f} % of the round trip to a service on this machine (at least {100 * _BAR:.0f} % are asked "
        f"for), with clocks aligned to {show_seconds(error_s)}."
    )
    return [Finding(text, SUPPORTED if found >= _BAR else CONTRADICTED, [LOCAL])]


def _right(cells: dict[str, Done]) -> list[Finding]:
    """Whether the labels are as good in every place, where files have one."""
    shares = {name: one.summary["accuracy"] for name, one in cells.items() if one.summary.get("accuracy") is not None}
    if not shares:
        return []
    low, high = min(shares.values()), max(shares.values())
    if low == high:
        text = f"The best label is the true one for {100 * low:.1f} % of the files, wherever the work is done."
    else:
        each = ", ".join(f"{100 * share:.1f} % {name}" for name, share in shares.items())
        text = f"The best label is the true one for another share of the files in another place: {each}."
    return [Finding(text, None, list(shares))]


def _confirmed(cells: dict[str, Done], seed: int, model: Model, rtt_s: float, down_over_up: float) -> list[Finding]:
    """Whether remote is faster just above the predicted bandwidth and slower just below it: both were measured by turns.

    A machine that got slower or faster since the prediction has another break-even. That is reckoned with what the cell itself says of
    the local place and the service, and a link that is not just above or just below it, as it was to be, tells nothing. The pictures
    are those of the prediction, so chance is in the repetitions only.
    """
    texts, verdicts, evidence, moved = [], [], [], []
    for name, sign in ((ABOVE, 1), (BELOW, -1)):
        if name not in cells:
            continue
        reason = cells[name].summary.get("reason")
        if reason:
            return [Finding(f"{reason[0].upper()}{reason[1:]}.", NOT_TESTABLE, [name])]
        sample = split(cells[name])
        here_s, there_s = float(sample.model().local_s), float(sample.model().remote_s())
        up_bps, factor = cells[name].summary["link"]["up_bps"], cells[name].cell.settings["factor"]
        then = dataclasses.replace(model, local_s=here_s, server_s=float(sample.model().server_s))
        distance = (np.log(up_bps) - np.log(then.break_even_bps(rtt_s, down_over_up))) / np.log(factor)
        if not 0 < distance < _NEAR:
            times = f"local {show_seconds(float(model.local_s))} before and {show_seconds(here_s)} then"
            moved.append((f"the machine was not as fast any more when {name} was measured ({times}): measure it again", name))
            continue
        low, high = np.quantile(sign * sample.resampled(seed, other_pictures=False).gain_s(), (0.025, 0.975))
        verdicts.append(SUPPORTED if low > 0 else CONTRADICTED if high < 0 else MIXED)
        where = f"at {show_rate(up_bps)} ({name.replace('-', ' ')})"
        texts.append(f"{where} remote takes {show_seconds(there_s)}, local {show_seconds(here_s)}")
        evidence.append(name)
    also = [text for text, _ in moved]
    if moved and not texts:
        text = f"Whether the predicted break-even holds is not known: {'; '.join(also)}."
        return [Finding(text, NOT_TESTABLE, [name for _, name in moved])]
    if not texts:
        return []
    worst = next((each for each in (CONTRADICTED, MIXED) if each in verdicts), SUPPORTED if len(verdicts) == 2 else MIXED)
    words = {SUPPORTED: "is confirmed", CONTRADICTED: "is not confirmed", MIXED: "is confirmed in part"}[worst]
    return [Finding(f"The predicted break-even {words} by measurement: {'; '.join(texts + also)}.", worst, evidence)]


def _links(cells: dict[str, Done], rows: dict[str, list[RequestRecord]], model: Model, seed: int) -> tuple[list[Table], list[Finding]]:
    """Prediction against measurement over every link, and whether it pays there."""
    table, errors = [], []
    pays: dict[str, list[tuple[str, str]]] = {faster: [] for faster in _FASTER}
    for name, one in cells.items():
        link = one.summary.get("link")
        if not link or not rows[name]:
            continue
        by_turns = name in (ABOVE, BELOW)  # for the pictures of the prediction
        both = split(one) if by_turns else sample_of(rows[IN_PROCESS], rows[name])
        low_s, high_s = np.quantile(both.resampled(seed, other_pictures=not by_turns).gain_s(), (0.025, 0.975))
        faster = "remote" if low_s > 0 else "local" if high_s < 0 else "neither"
        own = both.model()
        measured, predicted = float(own.remote_s()), float(model.remote_s(link["up_bps"], link["down_bps"], link["rtt_s"]))
        table.append(
            {
                "link": link["name"],
                "up": show_rate(link["up_bps"]) if link["up_bps"] else "not limited",
                "down": show_rate(link["down_bps"]) if link["down_bps"] else "not limited",
                "round trip of the link": show_seconds(link["rtt_s"]),
                "measured": show_seconds(measured),
                "predicted": show_seconds(predicted),
                "difference": f"{100 * (predicted / measured - 1):+.1f} %",
                "local": show_seconds(float(own.local_s)),
                "faster": faster,
            }
        )
        errors.append((abs(predicted / measured - 1), name))
        if not by_turns:
            ends = " to ".join(show_seconds(end_s) for end_s in sorted(abs(float(end_s)) for end_s in (low_s, high_s)))
            pays[faster].append((name, link["name"] if faster == "neither" else f"{link['name']} (95 % confidence: by {ends})"))
    if not table:
        return [], []
    worst, where = max(errors)
    findings = [
        Finding(
            f"The model of the round trip is within {100 * worst:.1f} % of what was measured over {len(errors)} links (worst: {where}).",
            SUPPORTED if worst <= _GOOD else CONTRADICTED,
            [name for _, name in errors],
        )
    ]
    for faster, words in _FASTER.items():
        if pays[faster]:
            text = f"{words} {', '.join(told for _, told in pays[faster])}."
            findings.append(Finding(text, None, [name for name, _ in pays[faster]], answers=True))
    note = "Medians of each picture, mean over pictures. Faster: neither, where the 95 % interval of the difference holds zero."
    return [Table("places_links", "The model against the links", table, note)], findings


def _costs(model: Model, study: Study) -> list[Table]:
    """Energy and money of a request on either machine while it works, where its power and price are known."""
    table = []
    for place, busy_s in ((study.local, float(model.local_s)), (study.remote, float(model.server_s))):
        if place.power_w is not None or place.price_per_hour is not None:
            table.append(
                {
                    "place": place.name,
                    "busy": show_seconds(busy_s),
                    "energy per request": _energy(place, busy_s),
                    "price of 1000 requests": _price(place, busy_s),
                }
            )
    note = "Power and price as the study file states them, times how long a request keeps a machine busy; no idle time, no network."
    return [Table("places_costs", "Energy and money", table, note)] if table else []


def _energy(place: Place, busy_s: float) -> str:
    return "" if place.power_w is None else f"{place.power_w * busy_s:.3g} J"


def _price(place: Place, busy_s: float) -> str:
    return "" if place.price_per_hour is None else f"{place.currency} {show_money(1000 * place.price_per_hour * busy_s / 3600)}"
