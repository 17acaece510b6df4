"""A load and what it says: its figures, and whether they are those of the service or of the client."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_seconds
from yoloperf.offload.exchange import Request
from yoloperf.offload.loadgen import Load, Outcome, percentile, run
from yoloperf.offload.loadgen_log import LATENCY_BOUND
from yoloperf.offload.null_server import null_server

# A client that sends later than it should has measured itself: so much of the latency may be its own, and so much is not worth a word
LAG_SHARE, LAG_FREE_S = 0.1, 0.005
CLIENT_SHARE = 0.5  # of the median latency, or of the null server's rate: above, the service takes little more than the client does
_STARVED_SHARE = 0.01
_ALIGNED_SHARE = 0.05  # of the median latency, by which LoadGen's times and the records' may differ; LAG_FREE_S may they in any case
_SELF_TEST_S = 2.0


@dataclass(frozen=True)
class Client:
    """What this machine does with the same load against a server that answers at once. lag_p99_s: None where nothing is due."""

    latency_p50_s: float
    latency_p99_s: float
    lag_p99_s: float | None
    rate: float


def self_test(requests: Sequence[Request], load: Load, folder: Path) -> Client:
    """Put the same load on a null server. Raises KeyboardInterrupt where it was interrupted."""
    short = replace(load, duration_s=min(_SELF_TEST_S, load.duration_s), bound_s=None)
    with null_server() as url:
        outcome = run(url, requests, short, folder, progress="self-test")
    if outcome.interrupted:
        raise KeyboardInterrupt
    latencies = waits(outcome)
    lags = send_lags(outcome)
    assert latencies, "the null server answers everything"
    late = percentile(lags, 0.99) if lags else None
    return Client(percentile(latencies, 0.5), percentile(latencies, 0.99), late, _rate(outcome.records) or 0.0)


def measure(
    url: str, requests: Sequence[Request], load: Load, folder: Path, *, cell: str = "", offset_s: float | None = None
) -> tuple[Outcome, dict[str, Any]]:
    """A test of the client and one of the service; requests.csv and LoadGen's files are in the folder."""
    client = self_test(requests, load, folder / "loadgen" / "null")
    outcome = run(url, requests, load, folder / "loadgen", cell=cell, offset_s=offset_s)
    write_atomic(folder / "requests.csv", to_csv(RequestRecord, outcome.records))
    return outcome, summarise(outcome, client)


def good(records: Sequence[RequestRecord]) -> list[RequestRecord]:
    return [record for record in records if record.error is None]


def waits(outcome: Outcome) -> list[float]:
    """Seconds, ascending: of every request that was answered; of multi_stream those of every group, as long as its slowest."""
    if outcome.load.scenario != "multi_stream":
        return sorted(record.latency_s for record in good(outcome.records) if record.latency_s is not None)
    groups: dict[int, float] = {}
    for record in good(outcome.records):
        assert record.number is not None and record.latency_s is not None
        group = record.number // outcome.load.most_connections
        groups[group] = max(groups.get(group, 0.0), record.latency_s)
    return sorted(groups.values())


def send_lags(outcome: Outcome) -> list[float]:
    """Seconds from due to sent, ascending; offline nothing is due."""
    if outcome.load.scenario == "offline":
        return []
    return sorted(record.sent_s - record.due_s for record in outcome.records if record.sent_s is not None and record.due_s is not None)


def _rate(records: Sequence[RequestRecord]) -> float | None:
    """Answers per second, from the first that was due to the last that was answered."""
    answered = good(records)
    span = max((record.done_s or 0.0 for record in answered), default=0.0)
    return len(answered) / span if span else None


def summarise(outcome: Outcome, client: Client | None) -> dict[str, Any]:
    """The result as JSON holds it. Absent is None: a load of which nothing was answered has no latency."""
    latencies, lags, rate = waits(outcome), send_lags(outcome), _rate(outcome.records)
    failed = [record.error for record in outcome.records if record.error is not None]
    result: dict[str, Any] = {
        "scenario": outcome.load.scenario,
        "rate": outcome.load.rate,
        "duration_s": outcome.load.duration_s,
        "connections": outcome.load.most_connections,
        "seed": outcome.load.seed,
        "p99_bound_s": outcome.load.bound_s,
        "requests": len(outcome.records),
        "errors": len(failed),
        "error_kinds": dict(Counter(failed).most_common(10)),
        "achieved_rate": rate,
        "achieved_items_per_s": rate and rate * fmean(record.items or 1 for record in good(outcome.records)),
        "latency_mean_s": fmean(latencies) if latencies else None,
        **{f"latency_p{share:g}_s": percentile(latencies, share / 100) if latencies else None for share in (50, 90, 99)},
        "latency_max_s": latencies[-1] if latencies else None,
        "send_lag_p50_s": percentile(lags, 0.5) if lags else None,
        "send_lag_p99_s": percentile(lags, 0.99) if lags else None,
        "starved": outcome.starved,
        "client_latency_p50_s": client and client.latency_p50_s,
        "client_latency_p99_s": client and client.latency_p99_s,
        "client_send_lag_p99_s": client and client.lag_p99_s,
        "client_rate": client and client.rate,
        "loadgen": outcome.verdict
        and {
            "valid": outcome.verdict.valid,
            "latency_s": outcome.verdict.latency_s,
            "early_stopping": outcome.verdict.early_stopping,
            "alignment_s": outcome.alignment_s,
        },
    }
    client_bound = client_reasons(outcome, client, latencies, lags)
    reasons = [*_reasons(outcome, failed, latencies), *client_bound]
    return {"valid": not reasons, "reasons": reasons, "client_bound": bool(client_bound), **result}


def _reasons(outcome: Outcome, failed: Sequence[str], latencies: Sequence[float]) -> list[str]:
    reasons = [f"ended early: {outcome.stopped}"] if outcome.stopped else []
    if outcome.verdict:
        reasons += outcome.verdict.reasons
    if failed:
        kinds = "; ".join(f"{why} ({count})" for why, count in Counter(failed).most_common(3))
        reasons.append(f"{len(failed)} of {len(outcome.records)} requests failed: {kinds}")
    bound_s = outcome.load.bound_s
    if bound_s is not None and latencies and percentile(latencies, 0.99) > bound_s:
        reasons = [reason for reason in reasons if reason != LATENCY_BOUND]  # the same, without the number
        reasons.append(f"p99 {show_seconds(percentile(latencies, 0.99))} is over its bound of {show_seconds(bound_s)}")
    return reasons


def clock_reason(outcome: Outcome) -> str | None:
    """Why latencies, which count from when LoadGen had a request due, mean nothing."""
    latencies = waits(outcome)
    if outcome.alignment_s is None or not latencies:
        return None
    if outcome.alignment_s <= max(LAG_FREE_S, _ALIGNED_SHARE * percentile(latencies, 0.5)):
        return None
    return f"LoadGen's clock and the client's came apart by {show_seconds(outcome.alignment_s)}: a clock was set meanwhile, measure again"


def client_reasons(outcome: Outcome, client: Client | None, latencies: Sequence[float], lags: Sequence[float]) -> list[str]:
    """Why the figures may be those of the client."""
    if not latencies:
        return []
    apart, allowed_s = clock_reason(outcome), max(LAG_FREE_S, LAG_SHARE * percentile(latencies, 0.99))
    reasons = [apart] if apart else []
    if outcome.load.scenario == "server":
        starved = outcome.starved / len(outcome.records)
        if starved > _STARVED_SHARE:
            limit = outcome.load.most_connections
            reasons.append(
                f"{100 * starved:.0f} % of the requests found all {limit} connections in use: the service is behind, or they are too few"
            )
        elif percentile(lags, 0.99) > allowed_s:
            reasons.append(
                f"the client was the bottleneck: it sent late by {show_seconds(percentile(lags, 0.99))} at p99, and "
                f"{show_seconds(allowed_s)} are allowed: lower the rate, or take another machine for the load"
            )
    if client and client.lag_p99_s is not None and client.lag_p99_s > allowed_s:
        late = show_seconds(client.lag_p99_s)
        reasons.append(f"the client cannot send this load: against a server that answers at once it was late by {late} at p99")
    if client and outcome.load.scenario == "offline":
        rate = _rate(outcome.records) or 0.0
        if rate > CLIENT_SHARE * client.rate:
            reasons.append(f"the client was the bottleneck: even from a server that answers at once it had {client.rate:.0f} answers/s")
    elif client and client.latency_p50_s > CLIENT_SHARE * percentile(latencies, 0.5):
        share = min(1.0, client.latency_p50_s / percentile(latencies, 0.5))
        reasons.append(f"the client was the bottleneck: a server that answers at once takes {100 * share:.0f} % of the median latency")
    return reasons
