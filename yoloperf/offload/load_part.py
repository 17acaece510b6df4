"""Part "load": what one service does with one request after the other, with groups, with random arrivals and with all at once.

Rates are shares of what a closed loop gets from the service just before, so that a study means the same on a slow machine and a fast
one: a cell measures that itself, and depends on no other cell.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.units import show_seconds
from yoloperf.offload.checks import none_twice, part_settings, positive, whole
from yoloperf.offload.clock import estimate_offset
from yoloperf.offload.kept import service_url
from yoloperf.offload.load_charts import charts, rates_chart, times_table
from yoloperf.offload.load_summary import measure
from yoloperf.offload.loadgen import CONNECTIONS, SCENARIOS, Load, capacity
from yoloperf.offload.part import Cell, Chart, Done, Finding, Results, Table
from yoloperf.offload.samples import load_samples, requests_of
from yoloperf.offload.study import Study
from yoloperf.offload.trend import mean_error_s
from yoloperf.report.evidence import CONTRADICTED, NOT_TESTABLE, SUPPORTED

_DEFAULTS: dict[str, Any] = {
    "scenarios": list(SCENARIOS),
    "shares": [0.25, 0.5, 0.8, 0.95, 1.1],  # of the closed loop's rate, of the server scenario
    "seconds": 60.0,  # of a cell
    "capacity_seconds": 5.0,
    "connections": None,  # of the server scenario, at most
    "p99_s": None,  # bound on the latency; none: the study asks for no verdict on it
}
_CLOSED_LOOP = 8  # connections
_OVERLOADED = 1.0  # share of the closed loop's rate from which a queue without bound is what theory says


class LoadPart:
    name = "load"
    title = "Load on one service"

    def cells(self, study: Study) -> list[Cell]:
        settings = _settings(study)
        common = {key: settings[key] for key in ("seconds", "capacity_seconds", "connections", "p99_s")}
        common |= {"model": study.model, "data": study.data, "split": study.split, "images": study.images, "seed": study.seed}
        common |= {"remote": study.remote.measured()}
        cells = []
        for scenario in settings["scenarios"]:
            if scenario == "server":
                cells += [Cell(f"server_{share:g}", {"scenario": scenario, "share": share, **common}) for share in settings["shares"]]
            else:
                cells.append(Cell(scenario, {"scenario": scenario, "share": None, **common}))
        return cells

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        settings = cell.settings
        url = service_url(study.remote, [study.model])
        requests = requests_of(study, load_samples(study), study.model.partition("=")[0])
        most, rate = None, None
        if settings["scenario"] == "server":
            most = capacity(url, requests, _CLOSED_LOOP, settings["capacity_seconds"])
            rate = settings["share"] * most
        load = Load(settings["scenario"], settings["seconds"], rate, None, settings["p99_s"], settings["seed"])
        if settings["connections"] and load.scenario == "server":
            load = replace(load, connections=settings["connections"])
        clock = estimate_offset(url)
        outcome, result = measure(url, requests, load, folder, cell=cell.name, offset_s=clock[0] if clock else None)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if not result["requests"] or result["latency_p50_s"] is None:
            raise UserError("; ".join(result["reasons"]) or "no request was answered")
        return {**result, "capacity": most, "share": settings["share"], "clock_error_s": clock[1] if clock else None}

    def results(self, done: Sequence[Done], study: Study) -> Results:
        if not done:
            return Results([], [], [])
        plots: list[Chart] = []
        servers = [one for one in done if one.summary["scenario"] == "server"]
        if len(servers) > 1:
            points = [(one.summary["rate"], one.summary[key], words) for one in servers for key, words in _LINES]
            plots.append(rates_chart([point for point in points if point[1] is not None]))
        busiest = max((one for one in servers if one.summary["valid"]), key=lambda one: one.summary["rate"], default=None)
        tables = [_table(done)]
        if busiest:
            title = f"Where the time goes at {busiest.summary['rate']:.1f} requests/s"
            tables.append(times_table(busiest.requests, "load_times", title))
            plots += charts(busiest.requests, busiest.summary["p99_bound_s"], "load_")
        return Results(tables, plots, [*_figures(done), *_queueing(servers)])


PART = LoadPart()

_LINES = (("latency_p50_s", "median"), ("latency_p99_s", "99th percentile"))


def _settings(study: Study) -> dict[str, Any]:
    settings = part_settings(study, "load", _DEFAULTS)
    for key in ("scenarios", "shares"):
        if not isinstance(settings[key], list) or not settings[key]:
            raise UserError(f"part load: {key} must be a list with at least one entry, not {settings[key]!r}")
    for scenario in settings["scenarios"]:
        choose(str(scenario), SCENARIOS, "scenario of part load")
    for key, values in {"shares": settings["shares"], **{key: [settings[key]] for key in ("seconds", "capacity_seconds")}}.items():
        if not all(map(positive, values)):
            raise UserError(f"part load: {key} must be above 0, not {settings[key]!r}")
    for key in ("scenarios", "shares"):
        none_twice("part load", key, settings[key])
    if settings["p99_s"] is not None and not positive(settings["p99_s"]):
        raise UserError(f"part load: p99_s must be above 0, or left out, not {settings['p99_s']!r}")
    if settings["connections"] is not None and not whole(settings["connections"], 1, 512):
        raise UserError(f"part load: connections must be from 1 to 512, not {settings['connections']!r}")
    return settings


def _table(done: Sequence[Done]) -> Table:
    rows = []
    for one in done:
        summary = one.summary
        row = {
            "cell": one.cell.name,
            "asked": f"{summary['rate']:.1f}/s" if summary["scenario"] == "server" else "",
            "answers": "" if summary["achieved_rate"] is None else f"{summary['achieved_rate']:.1f}/s",
            "requests": str(summary["requests"]),
        }
        times = {"mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99"}
        row |= {title: _seconds(summary[f"latency_{key}_s"]) for key, title in times.items()}
        row |= {"send lag p99": _seconds(summary["send_lag_p99_s"]), "failed": str(summary["errors"])}
        rows.append(row | {"valid": "yes" if summary["valid"] else "; ".join(summary["reasons"])})
    note = (
        f"MLPerf's LoadGen over HTTP; server: Poisson arrivals, latency from when a request was due; {CONNECTIONS['multi_stream']} "
        "requests a group in multi_stream. Valid: LoadGen's own rules, nothing failed, and the client was not the bottleneck."
    )
    return Table("load", "What the service does with a load", rows, note)


def _seconds(value: float | None) -> str:
    return "" if value is None else show_seconds(value)


def _figures(done: Sequence[Done]) -> list[Finding]:
    """What it can do at most, and how quick it is when nobody else asks."""
    by_scenario = {one.summary["scenario"]: one for one in done}
    findings = []
    alone, together = by_scenario.get("single_stream"), by_scenario.get("offline")
    if together:
        text = f"With all requests at once the service gives {together.summary['achieved_rate']:.1f} answers/s."
        findings.append(Finding(text + _doubt(together), None, [together.cell.name]))
    if alone:
        median, high = (_seconds(alone.summary[key]) for key in ("latency_p50_s", "latency_p99_s"))
        text = f"One request after the other takes {median} (median; {high} at the 99th percentile)."
        findings.append(Finding(text + _doubt(alone), None, [alone.cell.name]))
    kept = [one for one in done if one.summary["scenario"] == "server" and one.summary["p99_bound_s"] is not None]
    if kept:
        good = max((one for one in kept if one.summary["valid"]), key=lambda one: one.summary["rate"], default=None)
        bound = _seconds(kept[0].summary["p99_bound_s"])
        said = f"is {good.summary['rate']:.1f}/s" if good else "is below every one tried"
        findings.append(
            Finding(f"The highest rate tried that keeps the 99th percentile within {bound} {said}.", None, [one.cell.name for one in kept])
        )
    return findings


def _doubt(one: Done) -> str:
    return "" if one.summary["valid"] else f" Not a valid run: {'; '.join(one.summary['reasons'])}."


def _queueing(servers: Sequence[Done]) -> list[Finding]:
    """Whether waiting grows with the rate as it must when requests come at random."""
    usable = [one for one in servers if _is_sound(one.summary)]
    below = sorted((one for one in usable if one.summary["share"] < _OVERLOADED), key=lambda one: one.summary["share"])
    names = [one.cell.name for one in servers]
    claim = "Latency grows with the rate long before the service is full, since requests come at random"
    if len(below) < 2:
        text = f"{claim}: two rates below what the service can do are needed, at which nothing failed and the client kept up."
        return [Finding(text, NOT_TESTABLE, names)] if servers else []
    (first_s, first_error_s), (last_s, last_error_s) = _mean(below[0]), _mean(below[-1])
    apart_s = last_s - first_s
    unsure = first_error_s is None or last_error_s is None or abs(apart_s) <= first_error_s + last_error_s
    text = (
        f"{claim}: mean {_give_or_take(first_s, first_error_s)} at {100 * below[0].summary['share']:.0f} % of the closed loop's rate, "
        f"{_give_or_take(last_s, last_error_s)} at {100 * below[-1].summary['share']:.0f} %"
    )
    text += ": runs of this length do not tell the two apart." if unsure else f", {last_s / first_s:.2f} times as much."
    return [Finding(text, NOT_TESTABLE if unsure else SUPPORTED if apart_s > 0 else CONTRADICTED, [one.cell.name for one in below])]


def _is_sound(summary: dict[str, Any]) -> bool:
    """Whether the mean is that of the load: fewer requests than a percentile takes, and a bound that was not kept, do not change it."""
    return not summary["errors"] and summary["loadgen"] is not None and not summary["client_bound"]


def _mean(one: Done) -> tuple[float, float | None]:
    """Mean latency and half of its 95 % confidence interval, None for too few requests."""
    latencies = [row.latency_s or 0.0 for row in one.requests]
    return fmean(latencies), mean_error_s([row.due_s or 0.0 for row in one.requests], latencies)


def _give_or_take(mean_s: float, error_s: float | None) -> str:
    return show_seconds(mean_s) if error_s is None else f"{show_seconds(mean_s)} ± {show_seconds(error_s)}"
