"""Part "scaling": replicas behind a load balancer, under requests that come at random.

Two kinds of cell. "calibrate": what a number of replicas can do and how long a request takes that meets nobody; from these alone the
queueing model predicts. "load": Poisson arrivals at one mean interval. A replica infers pictures one by one (max_batch 1) unless the
study says otherwise: with batches it would work faster the longer its queue is, which no M/G/c does. Replicas, balancer and client
share a machine where the study names no addresses, so what a replica can do is measured with as many at work as there are.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from yoloperf.core.errors import UserError, choose
from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload import loadgen
from yoloperf.offload.balancer import DIRECTIVES, balanced
from yoloperf.offload.checks import none_twice, part_settings, positive, whole
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import Connection, Exchange, Request
from yoloperf.offload.kept import check_model, release
from yoloperf.offload.load_summary import clock_reason
from yoloperf.offload.part import Cell, Done, Results
from yoloperf.offload.samples import load_samples, requests_of
from yoloperf.offload.scaling_results import results_of
from yoloperf.offload.services import replicas
from yoloperf.offload.study import Study
from yoloperf.offload.trend import mean_error_s, trend

_DEFAULTS: dict[str, Any] = {
    "replicas": [1, 2, 4],
    "intervals_s": [0.5, 0.2, 0.1, 0.01],
    "policies": list(DIRECTIVES),
    "seconds": 30.0,  # of a load, or longer until there are so many
    "requests": 100,
    "calibrate_seconds": 10.0,
    "threads": 1,  # of a replica
    "max_batch": 1,
    "queue": 64,  # pictures that may wait at a replica; what comes then is refused
    "urls": [],  # replicas that run already, used in this order; none: they are started here
    "rates": [10, 100, 1000],  # requests per second to plan nodes for
    "mean_s": None,  # bounds on the round-trip time to plan for; neither: ten times the unloaded one at the 99th percentile
    "p99_s": None,
}
_PER_REPLICA = 4  # connections that keep a replica busy: one is inferred, one decoded, and two are on their way
_REST_S = 0.1  # between requests that are to meet nobody: the next one finds the machine at rest, as one that comes at random would
_WARM = 5
_MOST_CONNECTIONS = 512
_TIMEOUT_S = 30.0
_FEW = 0.01  # of the requests; more that were refused: the queue overflows; more that failed: not every replica was at work


class Scaling:
    name = "scaling"
    title = "Replicas behind a balancer: load, queues, and how many nodes it takes"

    def cells(self, study: Study) -> list[Cell]:
        settings = _settings(study)
        common = {key: settings[key] for key in ("threads", "max_batch", "queue", "urls", "calibrate_seconds", "seconds", "requests")}
        common |= {"model": study.model, "data": study.data, "split": study.split, "images": study.images, "seed": study.seed}
        common |= {"runtime": study.remote.runtime}
        cells = []
        for count in settings["replicas"]:
            cells.append(Cell(f"calibrate_c{count}", {"kind": "calibrate", "replicas": count, **common}))
            # every policy sends everything to the only replica
            for policy in settings["policies"] if count > 1 else settings["policies"][:1]:
                for interval in settings["intervals_s"]:
                    name = f"c{count}_{policy}_{interval:g}s"
                    own = {"kind": "load", "replicas": count, "policy": policy, "interval_s": interval}
                    cells.append(Cell(name, {**own, **common}))
        return cells

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        settings = cell.settings
        requests = requests_of(study, load_samples(study), study.model.partition("=")[0])
        policy = settings.get("policy", "least_conn")
        with _replicas(study, settings) as urls, balanced(urls, policy) as url:
            for one in (*urls, url):
                _warm(one, requests)
            act = _calibrate if settings["kind"] == "calibrate" else _load
            return act(cell, url, requests, folder)

    def results(self, done: Sequence[Done], study: Study) -> Results:
        settings = _settings(study)
        return results_of(done, settings["rates"], settings["mean_s"], settings["p99_s"])


PART = Scaling()


@contextlib.contextmanager
def _replicas(study: Study, settings: dict[str, Any]) -> Iterator[list[str]]:
    count = settings["replicas"]
    if settings["urls"]:
        for url in settings["urls"][:count]:
            check_model(url, study.model.partition("=")[0], study.workload, None)
        yield settings["urls"][:count]
        return
    release()  # what another part left running would take its share of the machine
    flags = {"--runtime": study.remote.runtime, "--threads": settings["threads"]}
    flags |= {"--max-batch": settings["max_batch"], "--queue": settings["queue"]}
    with replicas(count, [study.model], *(str(word) for flag in flags.items() for word in flag)) as services:
        yield [service.url for service in services]


def _warm(url: str, requests: Sequence[Request]) -> None:
    answers = closed_loop(url, requests, _WARM, progress=None)
    wrong = [answer.error for answer in answers if answer.error]
    if wrong:
        raise UserError(f"{url} does not do its work: {wrong[0]}")


def _calibrate(cell: Cell, url: str, requests: Sequence[Request], folder: Path) -> dict[str, Any]:
    """Round-trip time of requests one by one, then throughput with every replica busy."""
    seconds, count = cell.settings["calibrate_seconds"], cell.settings["replicas"]
    alone: list[Exchange] = []
    end = time.monotonic() + seconds
    with Connection(url, _TIMEOUT_S) as connection:
        while not alone or time.monotonic() < end:
            time.sleep(_REST_S)
            alone.append(connection.exchange(requests[len(alone) % len(requests)]))
    connections = _PER_REPLICA * count
    together = closed_loop(url, requests, 10**9, connections, _TIMEOUT_S, duration_s=seconds, progress=f"{cell.name} saturated")
    start = alone[0].sent_at
    records = [one.record(number, start, cell=f"{cell.name}@alone") for number, one in enumerate(alone)]
    records += [one.record(number, start, cell=f"{cell.name}@saturated") for number, one in enumerate(together)]
    write_atomic(folder / "requests.csv", to_csv(RequestRecord, records))
    failed = [one.error for one in (*alone, *together) if one.error]
    if failed:
        raise UserError(f"{len(failed)} of {len(records)} requests failed, such as: {failed[0]}")
    return {**calibration(records, count, connections), "replicas": count}


def calibration(records: Sequence[RequestRecord], replicas: int, connections: int) -> dict[str, Any]:
    """What the queueing model is told: throughput_rps and occupied_s with all replicas busy, unloaded_s, and the scv of service times.

    All spread of the unloaded round trip counts as spread of the service time: what does not occupy the replica hardly varies here.
    """
    alone = np.array([one.round_trip_s for one in records if (one.cell or "").endswith("@alone")])
    ends = sorted(one.done_s or 0.0 for one in records if (one.cell or "").endswith("@saturated"))
    ends = ends[connections:-connections]  # filling and emptying is not saturation
    if len(ends) < connections:
        raise UserError(f"only {len(ends)} answers at saturation: give the part more calibrate_seconds")
    throughput = (len(ends) - 1) / (ends[-1] - ends[0])
    occupied = replicas / throughput
    return {
        "throughput_rps": throughput,
        "occupied_s": occupied,
        "unloaded_s": float(alone.mean()),
        "scv": float(alone.var() / occupied**2),
        "unloaded_requests": len(alone),
        "saturated_requests": len(ends),
    }


def _load(cell: Cell, url: str, requests: Sequence[Request], folder: Path) -> dict[str, Any]:
    settings = cell.settings
    rate = 1 / settings["interval_s"]
    duration = max(settings["seconds"], settings["requests"] / rate)
    # more than can wait at the replicas: a request that found no free connection would wait here
    connections = min(_MOST_CONNECTIONS, settings["replicas"] * (settings["queue"] + 16))
    load = loadgen.Load("server", duration, rate, connections, seed=settings["seed"], timeout_s=_TIMEOUT_S)
    outcome = loadgen.run(url, requests, load, folder / "loadgen", cell=cell.name, progress=cell.name)
    write_atomic(folder / "requests.csv", to_csv(RequestRecord, outcome.records))
    if outcome.interrupted:
        raise KeyboardInterrupt
    trouble = clock_reason(outcome) or _broken(outcome)
    if trouble:
        raise UserError(trouble)
    facts = {key: settings[key] for key in ("replicas", "policy", "interval_s")}
    return {**facts, **summarise(outcome.records), "stopped": outcome.stopped, "starved": outcome.starved}


def _broken(outcome: loadgen.Outcome) -> str | None:
    """What went wrong, and is not that the replicas were asked too much: then they refuse, and who waits longest may time out."""
    if outcome.stopped:
        return outcome.stopped
    records = outcome.records
    excused = "TimeoutError" if _overflows(records) else None
    failed = [one.error for one in records if one.error is not None and one.status != 429 and _kind(one) != excused]
    if len(failed) <= _FEW * len(records):
        return None
    error, count = Counter(failed).most_common(1)[0]
    hint = f"do all replicas still run, and answer the whole queue within {_TIMEOUT_S:g} s?"
    return f"{len(failed)} of {len(records)} requests failed, mostly with {error} ({count}): {hint}"


def _overflows(records: Sequence[RequestRecord]) -> bool:
    return sum(one.status == 429 for one in records) > _FEW * len(records)


def summarise(records: Sequence[RequestRecord]) -> dict[str, Any]:
    """What a load cell says, from its requests alone. Round-trip times count from when a request was due, and only answers have one.

    queue: "bounded", "grows" (a trend, see trend.py) or "overflows": more than 1 % of the requests were refused because a replica's
    queue was full; None for too few requests to tell. answered_rps: until the last answer, or the last request where that is later.
    """
    if not records:
        raise UserError("no request was sent")
    answered = [one for one in records if one.error is None]
    due = [one.due_s or 0.0 for one in records]
    span = max(due) - min(due)
    facts: dict[str, Any] = {
        "requests": len(records),
        "answered": len(answered),
        "refused": sum(one.status == 429 for one in records),
        "errors": dict(Counter(_kind(one) for one in records if one.error is not None)),
        "offered_rps": (len(records) - 1) / span if span else None,
        "lag_p99_s": _quantile([max(0.0, (one.sent_s or 0.0) - (one.due_s or 0.0)) for one in records], 0.99),
        "queue": None,
    }
    if not answered:
        return facts
    latencies = [one.latency_s or 0.0 for one in answered]
    came = [one.due_s or 0.0 for one in answered]
    found = trend(came, latencies)
    if _overflows(records):
        facts["queue"] = "overflows"
    elif found:
        facts["queue"] = "grows" if found.grows else "bounded"
    shares = Counter(one.node or "unknown" for one in answered)
    return {
        **facts,
        "answered_rps": len(answered) / (max(*(one.done_s or 0.0 for one in answered), max(due)) - min(due)),
        "mean_s": fmean(latencies),
        "mean_error_s": mean_error_s(came, latencies),
        "median_s": _quantile(latencies, 0.5),
        "p95_s": _quantile(latencies, 0.95),
        "p99_s": _quantile(latencies, 0.99),
        "shares": {node: count / len(answered) for node, count in sorted(shares.items())},
        "trend": None if found is None else {"tau": found.tau, "p": found.p, "slope": found.slope},
    }


def _kind(record: RequestRecord) -> str:
    return f"HTTP {record.status}" if record.status else (record.error or "").partition(":")[0]


def _quantile(values: Sequence[float], share: float) -> float:
    return float(np.quantile(values, share))


def _settings(study: Study) -> dict[str, Any]:
    """The part's settings with its defaults. Raises UserError that names the key."""
    settings = part_settings(study, "scaling", _DEFAULTS)
    for key, least in (("threads", 1), ("max_batch", 1), ("queue", 1), ("requests", 1)):
        _check(key, settings[key], whole(settings[key], least), f"a whole number of at least {least}")
    for key in ("seconds", "calibrate_seconds"):
        _check(key, settings[key], positive(settings[key]), "a number above 0")
    for key in ("mean_s", "p99_s"):
        _check(key, settings[key], settings[key] is None or positive(settings[key]), "a number above 0")
    for key, right, what in (
        ("replicas", lambda value: whole(value, 1), "whole numbers of at least 1"),
        ("intervals_s", positive, "numbers above 0"),
        ("rates", positive, "numbers above 0"),
        ("policies", lambda value: isinstance(value, str), f"{', '.join(DIRECTIVES)}"),
        ("urls", lambda value: isinstance(value, str), "addresses, http://HOST:PORT"),
    ):
        values = settings[key]
        listed = isinstance(values, list) and (values or key == "urls")
        _check(key, values, bool(listed) and all(map(right, values)), f"a list of {what}")
        none_twice("scaling", key, values)
    for policy in settings["policies"]:
        choose(policy, DIRECTIVES, "policy of scaling")
    if settings["urls"] and len(settings["urls"]) < max(settings["replicas"]):
        raise UserError(f"scaling: {max(settings['replicas'])} replicas need as many urls, {len(settings['urls'])} are given")
    return {**settings, "replicas": sorted(settings["replicas"])}


def _check(key: str, value: Any, right: bool, what: str) -> None:
    if not right:
        raise UserError(f"scaling: {key} must be {what}, not {value!r}")
