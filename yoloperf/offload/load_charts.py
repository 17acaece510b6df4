"""Tables and plots of a load, from its records alone."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from yoloperf.core.record import columns
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_seconds
from yoloperf.offload.loadgen import percentile
from yoloperf.offload.part import Chart, Table
from yoloperf.report.shell import VEGA_LITE
from yoloperf.report.vega import scale

POINTS = 1500  # of one plot: more only make the file large
_TIMES = (
    *("latency_s", "round_trip_s", "upload_s", "queue_s", "decode_s", "preprocess_s", "inference_s", "postprocess_s", "encode_s"),
    *("server_s", "download_s"),
)
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"


def times_table(records: Sequence[RequestRecord], name: str = "times", title: str = "Where the time goes") -> Table:
    """Mean and percentiles of each time that is known, requests that were answered."""
    answered = [record for record in records if record.error is None]
    rows = []
    for column in _TIMES:
        values = sorted(value for record in answered if (value := getattr(record, column)) is not None)
        if values:
            rows.append({"time": str(columns(RequestRecord)[column].metadata["title"]), **_statistics(values)})
        if column == "latency_s" and (lags := _lags(answered)):
            rows.append({"time": "send lag", **_statistics(sorted(lags))})
    return Table(name, title, rows, f"{len(answered)} of {len(records)} requests, those that were answered.")


def _lags(records: Sequence[RequestRecord]) -> list[float]:
    return [record.sent_s - record.due_s for record in records if record.sent_s is not None and record.due_s is not None]


def _statistics(values: Sequence[float]) -> dict[str, str]:
    shares = {f"p{share:g}": show_seconds(percentile(values, share / 100)) for share in (50, 90, 99)}
    return {"mean": show_seconds(fmean(values)), **shares, "max": show_seconds(values[-1])}


def charts(records: Sequence[RequestRecord], bound_s: float | None = None, prefix: str = "") -> list[Chart]:
    """Latency over time, its distribution, and how late requests were sent. Empty where nothing was answered."""
    answered = [record for record in records if record.error is None]
    if not answered:
        return []
    return [_over_time(records, bound_s, prefix), _distribution(answered, bound_s, prefix), _send_lag(answered, prefix)]


def rates_chart(points: Sequence[tuple[float, float, str]]) -> Chart:
    """points: requests per second, latency in seconds, which statistic."""
    divisor, axis = scale("s", "latency", [latency for _, latency, _ in points])
    lines = {
        "data": {"values": [{"rate": rate, "latency": latency / divisor, "what": what} for rate, latency, what in points]},
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "rate", "type": "quantitative", "title": "requests/s"},
            "y": {"field": "latency", "type": "quantitative", "title": axis, "scale": {"type": "log"}},
            "color": {"field": "what", "scale": {"range": ["#d95f02", "#31688e"]}, "legend": {"title": None, "orient": "bottom"}},
            "strokeDash": {"field": "what", "legend": {"title": None, "orient": "bottom"}},
        },
    }
    return Chart("load_rates", "Latency against rate", _spec([lines]))


def _over_time(records: Sequence[RequestRecord], bound_s: float | None, prefix: str) -> Chart:
    divisor, axis = scale("s", "latency", [record.latency_s or 0.0 for record in records])
    shown = sorted(records, key=lambda record: record.latency_s or 0.0)
    keep = max(1, -(-len(shown) // POINTS))
    kept = {id(record) for record in shown[::-1][::keep]} | {id(record) for record in records if record.error is not None}
    rows = [
        {
            "due": record.due_s,
            "latency": (record.latency_s or 0.0) / divisor,
            "outcome": "failed" if record.error is not None else "answered",
        }
        for record in records
        if id(record) in kept
    ]
    mark = {"type": "point", "size": 14, "opacity": 0.6}
    shape = {"field": "outcome", "scale": {"domain": ["answered", "failed"], "range": ["circle", "cross"]}, "legend": {"title": None}}
    colour = {"field": "outcome", "scale": {"domain": ["answered", "failed"], "range": ["#31688e", "#d62728"]}, "legend": {"title": None}}
    points = {
        "data": {"values": rows},
        "mark": mark,
        "encoding": {
            "x": {"field": "due", "type": "quantitative", "title": "due (s from the start)"},
            "y": {"field": "latency", "type": "quantitative", "title": axis},
            "shape": shape,
            "color": colour,
        },
    }
    note = f"One of {keep} requests is shown, and the slowest one." if keep > 1 else ""
    return Chart(f"{prefix}latency_over_time", "Latency of every request", _spec([points, *_bound(bound_s, divisor, "y")]), note)


def _distribution(answered: Sequence[RequestRecord], bound_s: float | None, prefix: str) -> Chart:
    divisor, axis = scale("s", "time", [record.latency_s or 0.0 for record in answered])
    rows = []
    for words, column in (("latency, from when it was due", "latency_s"), ("round trip, from when it was sent", "round_trip_s")):
        values = sorted(getattr(record, column) for record in answered)
        rows += [{"time": value / divisor, "share": share, "what": words} for value, share in _steps(values)]
    lines = {
        "data": {"values": rows},
        "mark": {"type": "line", "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "time", "type": "quantitative", "title": axis},
            "y": {"field": "share", "type": "quantitative", "title": "share of the requests", "axis": {"format": "%"}},
            "color": {"field": "what", "scale": {"range": ["#31688e", "#999999"]}, "legend": {"title": None, "orient": "bottom"}},
            "strokeDash": {"field": "what", "legend": {"title": None, "orient": "bottom"}},
        },
    }
    spec = _spec([lines, *_bound(bound_s, divisor, "x")])
    return Chart(f"{prefix}latency_distribution", "How many requests were answered within a time", spec)


def _send_lag(answered: Sequence[RequestRecord], prefix: str) -> Chart:
    lags = sorted(max(0.0, lag) for lag in _lags(answered))
    divisor, axis = scale("s", "sent later than due", lags)
    rows = [{"lag": value / divisor, "share": share} for value, share in _steps(lags)]
    line = {
        "data": {"values": rows},
        "mark": {"type": "line", "interpolate": "step-after", "color": "#31688e"},
        "encoding": {
            "x": {"field": "lag", "type": "quantitative", "title": axis},
            "y": {"field": "share", "type": "quantitative", "title": "share of the requests", "axis": {"format": "%"}},
        },
    }
    return Chart(f"{prefix}send_lag", "How late the client sent", _spec([line]))


def _steps(values: Sequence[float]) -> list[tuple[float, float]]:
    """Points of the empirical distribution function, all of the highest percent among them."""
    keep = max(1, -(-len(values) // POINTS))
    places = sorted({*range(0, len(values), keep), *range(int(0.99 * len(values)), len(values))})
    return [(values[place], (place + 1) / len(values)) for place in places]


def _bound(bound_s: float | None, divisor: float, axis: str) -> list[dict[str, Any]]:
    if bound_s is None:
        return []
    return [{"data": {"values": [{}]}, "mark": {"type": "rule", "strokeDash": [4, 4]}, "encoding": {axis: {"datum": bound_s / divisor}}}]


def _spec(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"$schema": _SCHEMA, "width": 520, "height": 260, "layer": list(layers)}


def save_png(chart: Chart, folder: Path) -> Path:
    """The chart as picture, with its title in it. Raises UserError where it cannot be written."""
    import vl_convert  # loads a JavaScript engine: only pictures need it

    spec = {**chart.spec, "title": chart.title, "background": "white"}
    path = folder / f"{chart.name}.png"
    write_atomic(path, vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, scale=2))
    return path
