"""Pictures of part "places", as Vega-Lite specifications. Lines differ by their dashes, bars by their greys: no colour is needed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from yoloperf.core.request import RequestRecord
from yoloperf.offload.breakeven import BreakEven, Model
from yoloperf.offload.part import Chart

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_SIZE = {"width": 520, "height": 300}
_POINTS = 60
_RTTS_S = (0.0, 0.01, 0.05)  # of the curves over the speed ratio

Spec = dict[str, Any]


def boxes(places: dict[str, list[RequestRecord]]) -> Chart:
    values = [{"place": name, "ms": _ms(row.round_trip_s or 0.0)} for name, rows in places.items() for row in rows]
    spec = {
        "mark": {"type": "boxplot", "extent": 1.5, "color": "#999", "median": {"color": "black"}},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": list(places), "title": None},
            "x": {"field": "ms", "type": "quantitative", "title": "total (ms)", "scale": {"type": "log"}},
        },
    }
    note = "Box: quartiles with the median; whiskers: 1.5 times the box's length at most; points: beyond."
    return Chart("places_boxes", "Total time of a picture by place", _spec(spec, values), note)


def stacked(means: dict[str, dict[str, float]]) -> Chart:
    values = [
        {"place": place, "stage": stage, "ms": _ms(seconds), "order": number}
        for place, own in means.items()
        for number, (stage, seconds) in enumerate(own.items())
    ]
    stages = list(dict.fromkeys(stage for own in means.values() for stage in own))
    spec = {
        "mark": {"type": "bar", "stroke": "black", "strokeWidth": 0.5},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": list(means), "title": None},
            "x": {"field": "ms", "type": "quantitative", "title": "mean (ms)"},
            "color": {"field": "stage", "type": "nominal", "sort": stages, "scale": {"scheme": "viridis"}},
            "order": {"field": "order"},
            "tooltip": [{"field": "place"}, {"field": "stage"}, {"field": "ms"}],
        },
    }
    return Chart("places_stages", "Where the time goes", _spec(spec, values))


def by_bandwidth(
    model: Model, many: Model, found: BreakEven, points: Sequence[tuple[float, float]], rtt_s: float, down_over_up: float
) -> Chart:
    middle = found.bps if np.isfinite(found.bps) else 10e6
    rates = np.geomspace(middle / 20, middle * 20, _POINTS)
    values = []
    for rate in rates:
        low, high = np.quantile(many.remote_s(rate, rate * down_over_up, rtt_s), (0.025, 0.975))
        remote_s = float(model.remote_s(rate, rate * down_over_up, rtt_s))
        values.append({"mbps": _round(rate / 1e6), "ms": _ms(remote_s), "low": _ms(low), "high": _ms(high), "place": "remote"})
        values.append({"mbps": _round(rate / 1e6), "ms": _ms(float(model.local_s)), "place": "local"})
    layers: list[Spec] = [*_band("mbps", "upward bandwidth (Mbit/s)", "time of a picture (ms)"), _lines("mbps", "ms", "place")]
    if np.isfinite(found.bps):
        data = {"values": [{"mbps": _round(found.bps / 1e6)}]}
        layers.append({"data": data, "mark": {"type": "rule", "strokeDash": [2, 3]}, "encoding": {"x": _log("mbps")}})
    if points:
        data = {"values": [{"mbps": _round(rate / 1e6), "ms": _ms(seconds)} for rate, seconds in points]}
        shown = {"x": _log("mbps"), "y": {"field": "ms", "type": "quantitative"}}
        layers.append({"data": data, "mark": {"type": "point", "filled": True, "size": 70, "color": "black"}, "encoding": shown})
    note = "Line and band: the model with its 95 % interval; dotted: break-even; points: measured just above and just below it."
    return Chart("places_bandwidth", "Remote and local over bandwidth", _spec({"layer": layers}, values), note)


def by_latency(model: Model, many: Model, down_over_up: float) -> list[Chart]:
    if model.gain_s() <= 0:
        return []
    values = []
    for rtt_s in np.linspace(0, 0.95 * float(model.gain_s()), _POINTS):
        low, high = np.quantile(many.break_even_bps(rtt_s, down_over_up), (0.025, 0.975), method="inverted_cdf")
        point = {"rtt": _ms(rtt_s), "mbps": _round(float(model.break_even_bps(rtt_s, down_over_up)) / 1e6)}
        values.append(point | ({"low": _round(low / 1e6), "high": _round(high / 1e6)} if np.isfinite(high) else {}))
    y = {"type": "quantitative", "scale": {"type": "log"}, "title": "break-even bandwidth (Mbit/s)"}
    x = {"field": "rtt", "type": "quantitative", "title": "round trip of the link (ms)"}
    layers = [
        {
            "mark": {"type": "area", "opacity": 0.25, "color": "#666"},
            "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {"mark": {"type": "line", "color": "black"}, "encoding": {"x": x, "y": {"field": "mbps", **y}}},
    ]
    note = "Offload pays above the line; to the right of where it ends it never does. Band: 95 %, where it is bounded."
    return [Chart("places_latency", "Break-even bandwidth over the link's round trip", _spec({"layer": layers}, values), note)]


def by_speed(model: Model, many: Model, down_over_up: float) -> list[Chart]:
    values = []
    for rtt_s in _RTTS_S:
        for ratio in np.geomspace(1, 100, _POINTS):
            bps = float(model.with_speed_ratio(ratio).break_even_bps(rtt_s, down_over_up))
            low, high = np.quantile(many.with_speed_ratio(ratio).break_even_bps(rtt_s, down_over_up), (0.025, 0.975), method="inverted_cdf")
            if np.isfinite(high) and np.isfinite(bps) and bps < 1e10:
                point = {"ratio": _round(ratio), "mbps": _round(bps / 1e6), "low": _round(low / 1e6), "high": _round(high / 1e6)}
                values.append({**point, "rtt": f"{_ms(rtt_s):g} ms"})
    if not values:
        return []
    x = {"field": "ratio", "type": "quantitative", "scale": {"type": "log"}, "title": "remote machine's speed / local one's"}
    y = {"type": "quantitative", "scale": {"type": "log"}, "title": "break-even bandwidth (Mbit/s)"}
    dash = {"field": "rtt", "type": "nominal", "sort": None, "title": "link's round trip"}
    layers = [
        {
            "mark": {"type": "area", "opacity": 0.15, "color": "#666"},
            "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "detail": {"field": "rtt"}},
        },
        {"mark": {"type": "line", "color": "black"}, "encoding": {"x": x, "y": {"field": "mbps", **y}, "strokeDash": dash}},
    ]
    now = float(model.local_s / model.server_s)
    note = f"The remote service of this study is {now:.2g} times as fast as the local place. A line begins where offload can pay at all."
    return [Chart("places_speed", "Break-even bandwidth over the speed of the machines", _spec({"layer": layers}, values), note)]


def _spec(content: Spec, values: list[dict[str, Any]]) -> Spec:
    return {"$schema": _SCHEMA, **_SIZE, "data": {"values": values}, **content}


def _log(field: str, title: str | None = None) -> Spec:
    return {"field": field, "type": "quantitative", "scale": {"type": "log"}} | ({"title": title} if title else {})


def _band(x: str, x_title: str, y_title: str) -> list[Spec]:
    encoding = {"x": _log(x, x_title), "y": _log("low", y_title), "y2": {"field": "high"}}
    return [
        {"transform": [{"filter": "isValid(datum.low)"}], "mark": {"type": "area", "opacity": 0.25, "color": "#666"}, "encoding": encoding}
    ]


def _lines(x: str, y: str, series: str) -> Spec:
    encoding = {"x": _log(x), "y": _log(y), "strokeDash": {"field": series, "type": "nominal", "title": None, "sort": ["remote", "local"]}}
    return {"mark": {"type": "line", "color": "black"}, "encoding": encoding}


def _ms(seconds: float) -> float:
    return _round(1e3 * seconds)


def _round(value: float) -> float:
    return float(f"{value:.4g}")
