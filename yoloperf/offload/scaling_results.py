"""What the cells of the part "scaling" say together: measured against the queueing model, and how many nodes it takes."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from yoloperf.core.record import show_number, show_share
from yoloperf.core.units import show_seconds
from yoloperf.offload.part import Chart, Done, Finding, Results, Table
from yoloperf.offload.plan import MOST_BUSY, plan, unloaded_tail_s
from yoloperf.offload.queueing import POLICIES, Replicas
from yoloperf.offload.scaling_findings import findings_of
from yoloperf.offload.scaling_rows import WORDS, Row, fitted, rows_of

_STEPS = 80  # of a line in the chart
_PATIENT = 10  # times the unloaded round trip: the bound on the 99th percentile where the study has none
_USUAL = f" ({_PATIENT} times that of a request that meets nobody, or what its own spread needs: the study says no bound)"


def results_of(done: Sequence[Done], rates: Sequence[float], mean_s: float | None, p99_s: float | None) -> Results:
    kind, rows = fitted(done), list(rows_of(done))
    tables = [_calibrations(done), *(_grid(policy, rows) for policy in _policies(rows))]
    findings = list(findings_of(rows)) if rows else []
    if kind:
        told = mean_s or p99_s
        table, sentences = _plans(kind, rates, mean_s, p99_s if told else _usual_bound_s(kind, done), "" if told else _USUAL)
        tables.append(table)
        findings += sentences
    return Results([table for table in tables if table.rows], [_chart(rows, kind)] if rows else [], findings)


def _policies(rows: Sequence[Row]) -> list[str]:
    return [policy for policy in POLICIES if any(row.policy == policy for row in rows)]


def _maybe(show: Callable[[Any], str], value: Any) -> str:
    return "" if value is None else show(value)


def _calibrations(done: Sequence[Done]) -> Table:
    summaries = [one.summary for one in done if one.cell.settings["kind"] == "calibrate"]
    rows = [
        {
            "replicas": str(one["replicas"]),
            "requests/s at saturation": show_number(one["throughput_rps"]),
            "a request occupies a replica for": show_seconds(one["occupied_s"]),
            "unloaded round trip": show_seconds(one["unloaded_s"]),
            "scv of the service time": show_number(one["scv"]),
        }
        for one in sorted(summaries, key=lambda one: int(one["replicas"]))
    ]
    note = "The model knows these figures and no others. Replicas on one machine share its cores with the balancer and the client."
    return Table("scaling_calibration", "What replicas can do", rows, note)


def _grid(policy: str, rows: Sequence[Row]) -> Table:
    def predicted(row: Row) -> str:
        if row.busy is None:
            return ""
        return "cannot keep up" if row.predicted_s is None else show_seconds(row.predicted_s)

    own = sorted((row for row in rows if row.policy == policy), key=lambda row: (-row.interval_s, row.replicas))
    cells = [
        {
            "mean interval": show_seconds(row.interval_s),
            "replicas": str(row.replicas),
            "offered/s": _maybe(show_number, row.facts["offered_rps"]),
            "answered/s": _maybe(show_number, row.facts.get("answered_rps")),
            "refused": show_share(row.facts["refused"] / row.facts["requests"]),
            "other errors": str(sum(row.facts["errors"].values()) - row.facts["refused"]),
            "mean": _maybe(show_seconds, row.mean_s),
            "± (95 %)": _maybe(show_seconds, row.facts.get("mean_error_s")),
            "median": _maybe(show_seconds, row.facts.get("median_s")),
            "p95": _maybe(show_seconds, row.facts.get("p95_s")),
            "p99": _maybe(show_seconds, row.facts.get("p99_s")),
            "busy, by the model": _maybe(show_share, None if row.busy is None else min(row.busy, 1.0)),
            "mean, by the model": predicted(row),
            "model / measured": "" if row.ratio is None else f"{row.ratio:.2f}",
            "queue": row.facts["queue"] or "",
            "largest share": _maybe(show_share, max(row.facts.get("shares", {}).values(), default=None)),
        }
        for row in own
    ]
    note = (
        "Times are round trips from when a request was due; ± is what a run of this length leaves open of their mean. Queue: bounded, "
        "grows (latency rises in the order of arrival), or overflows (requests are refused because a replica's queue is full). Largest "
        "share: of the answers, those of the busiest replica."
    )
    return Table(f"scaling_{policy}", f"Load on replicas behind {WORDS[policy]}", cells, note)


def _chart(rows: Sequence[Row], kind: Replicas | None) -> Chart:
    """Measured points and, as lines, the model, up to where it has a steady state."""
    measured = [
        {
            "policy": WORDS[row.policy],
            "replicas": str(row.replicas),
            "rate": row.facts["offered_rps"] or 1 / row.interval_s,
            "mean": row.mean_s,
            "queue": row.facts["queue"] or "too few requests",
        }
        for row in rows
        if row.mean_s
    ]
    rates = [row.facts["offered_rps"] or 1 / row.interval_s for row in rows if row.mean_s]
    lines = []
    for policy, count in sorted({(row.policy, row.replicas) for row in rows}) if kind and rates else []:
        for step in range(_STEPS + 1):
            rate = min(rates) * (max(rates) / min(rates)) ** (step / _STEPS)
            mean = kind.round_trip_s(policy, rate, count) if kind else None
            if mean:
                lines.append({"policy": WORDS[policy], "replicas": str(count), "rate": rate, "mean": mean})
    order = [str(count) for count in sorted({row.replicas for row in rows})]
    by_replicas = {"field": "replicas", "type": "nominal", "title": "replicas", "sort": order}
    x = {"field": "rate", "type": "quantitative", "scale": {"type": "log"}, "title": "requests/s"}
    y = {"field": "mean", "type": "quantitative", "scale": {"type": "log"}, "title": "mean round trip (s)"}
    tip: list[dict[str, str]] = [{"field": name, "type": "nominal"} for name in ("replicas", "queue")]
    tip += [{"field": name, "type": "quantitative", "format": ".4g"} for name in ("rate", "mean")]
    facets = []
    for policy in _policies(rows):
        keep = [{"filter": {"field": "policy", "equal": WORDS[policy]}}]
        both: dict[str, Any] = {"x": x, "y": y, "color": by_replicas}
        curve = {"data": {"values": lines}, "transform": keep, "mark": "line", "encoding": {**both, "strokeDash": by_replicas}}
        point = {"transform": keep, "mark": {"type": "point", "size": 70}, "encoding": {**both, "shape": by_replicas, "tooltip": tip}}
        facets.append({"title": WORDS[policy], "width": 230, "height": 260, "layer": [curve, point]})
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": measured},
        "hconcat": facets,
        "resolve": {"scale": {"y": "shared"}},
    }
    return Chart("scaling_round_trip", "Mean round-trip time over the rate: measured (points) and by the model (lines)", spec)


def _usual_bound_s(kind: Replicas, done: Sequence[Done]) -> float:
    """A bound on the 99th percentile that some number of nodes keeps. By the median, which no stall of the machine moves."""
    alone = [row.round_trip_s for one in done for row in one.requests if row.round_trip_s and str(row.cell).endswith("@alone")]
    return max(_PATIENT * (median(alone) if alone else kind.unloaded_s), 2 * unloaded_tail_s(kind, 0.99))


def _plans(kind: Replicas, rates: Sequence[float], mean_s: float | None, p99_s: float | None, why: str) -> tuple[Table, list[Finding]]:
    """why: what is to be said of where the bound comes from."""
    words = [f"{name} of {show_seconds(value)}" for name, value in (("a mean", mean_s), ("a 99th percentile", p99_s)) if value]
    bound = " and ".join(words) + why
    rows, enough = [], {}
    for rate in sorted(rates):
        plans = {policy: plan(kind, policy, rate, mean_s, p99_s) for policy in POLICIES}
        for policy, one in plans.items():
            row = {"requests/s": show_number(rate), "policy": WORDS[policy], "nodes": "none suffices" if one is None else str(one.nodes)}
            row |= {"busy": _maybe(show_share, one and one.busy), "mean": _maybe(show_seconds, one and one.mean_s)}
            rows.append({**row, "p99": _maybe(show_seconds, one and one.tail_s)})
        if best := plans["least_conn"]:
            enough[f"{rate:g}"] = f"{best.nodes} {'node' if best.nodes == 1 else 'nodes'}"
    if enough:
        nodes = ", ".join(enough.values())
        told = f"For {', '.join(enough)} requests/s with {bound} it takes {nodes} of this kind behind least connections"
    else:
        longest = f"mean {show_seconds(kind.unloaded_s)}, 99th percentile {show_seconds(unloaded_tail_s(kind, 0.99))}"
        told = f"No number of nodes of this kind keeps {bound}: a request that meets nobody takes longer ({longest})"
    note = (
        f"Fewest nodes for {bound}, by the model: each a machine of its own with one replica as measured here, busy {MOST_BUSY:.0%} of its "
        "time at most; the 99th percentile is an approximation, within some 30 %."
    )
    return Table("scaling_plan", "How many nodes it takes", rows, note), [Finding(told, answers=True)]
