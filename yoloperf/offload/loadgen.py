"""Load on a service by MLPerf's LoadGen, which says when a request is due and whether the test was one; HTTP and records are from here.

https://github.com/mlcommons/inference/tree/master/loadgen

single_stream: one request after the other. multi_stream: a group at a time, its latency is that of its slowest. server: Poisson
arrivals at a rate, drawn ahead from the seed, latency from when a request was due. offline: all at once, for the rate.
"""

import gzip
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

from tqdm import tqdm

from yoloperf.core.errors import UserError, choose
from yoloperf.core.request import RequestRecord
from yoloperf.core.units import show_seconds
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import Request
from yoloperf.offload.loadgen_log import Scheduled, Verdict, read_schedule, read_verdict
from yoloperf.offload.loadgen_process import Job, Sent

SCENARIOS = {"single_stream": "SingleStream", "multi_stream": "MultiStream", "server": "Server", "offline": "Offline"}
CONNECTIONS = {"single_stream": 1, "multi_stream": 8, "server": 128, "offline": 8}
_WARM = 8  # connections of the server scenario that are open before it begins
_BEHIND_S = 10.0  # of the rate's requests may be unanswered before a test is given up
_DEAD_AFTER = 50  # requests in a row without any answer
_CHILD = "from yoloperf.offload.loadgen_process import main; main()"  # not -m: the classes would be those of __main__ there
_NO_BOUND_S = 3600.0


@dataclass(frozen=True)
class Load:
    """rate: requests per second, of the server scenario the one asked for, of offline the one expected; connections: as many at most
    at a time (server, offline), requests of a group (multi_stream); bound_s: what the 99th percentile of a server test must keep."""

    scenario: str
    duration_s: float
    rate: float | None = None
    connections: int | None = None
    bound_s: float | None = None
    seed: int = 0
    timeout_s: float = 30.0

    def check(self) -> None:
        """Raises UserError for what makes no sense."""
        choose(self.scenario, SCENARIOS, "scenario")
        numbers = {"rate": self.rate, "duration": self.duration_s, "bound on p99": self.bound_s, "timeout": self.timeout_s}
        for words, value in numbers.items():
            if value is not None and not (0 < value < math.inf):
                raise UserError(f"the {words} must be above 0, not {value:g}")
        if self.connections is not None and not 1 <= self.connections <= 512:
            raise UserError(f"the concurrency must be from 1 to 512, not {self.connections}")
        if self.scenario == "single_stream" and (self.connections or 1) != 1:
            raise UserError("single_stream has one request at a time: leave --concurrency out, or take multi_stream")
        if self.scenario == "server" and self.rate is None:
            raise UserError("the server scenario needs a rate: give --rate R, or --find-peak with --p99-bound-ms")
        if self.rate is not None and self.scenario.endswith("stream"):
            raise UserError(f"{self.scenario} sends when the last answer has come and has no rate: leave --rate out, or take server")

    @property
    def most_connections(self) -> int:
        return self.connections or CONNECTIONS[self.scenario]


@dataclass(frozen=True)
class Outcome:
    """What came of a load. verdict: None where LoadGen could not finish; stopped: why not; starved: requests that found every
    connection in use; alignment_s: how far apart LoadGen's times and the records' may be."""

    load: Load
    records: list[RequestRecord]
    verdict: Verdict | None
    stopped: str | None
    starved: int
    alignment_s: float | None
    interrupted: bool = False


def warm_up(url: str, requests: Sequence[Request], connections: int, timeout_s: float) -> float:
    """Ask a few times, so that the first requests of a test are like the others; the least round trip in seconds.

    Raises UserError where nothing can be measured: the service is down, or refuses what it is sent.
    """
    answers = closed_loop(url, requests, max(3, min(connections, 8)), min(connections, 8), timeout_s, progress=None)
    good = [answer.done_at - answer.sent_at for answer in answers if answer.error is None]
    if not good:
        raise UserError(f"{url} answers no request ({answers[0].error}): is the service running there, and is this its kind of data?")
    return min(good)


def capacity(url: str, requests: Sequence[Request], connections: int, duration_s: float, timeout_s: float = 30.0) -> float:
    """Answers per second in a closed loop of so many connections. Raises UserError where none came."""
    answers = closed_loop(url, requests, 10**9, connections, timeout_s, duration_s=duration_s, progress=None)
    good = [answer for answer in answers if answer.error is None]
    if not good:
        raise UserError(f"{url} answers no request{f' ({answers[0].error})' if answers else ''}: is the service running there?")
    return len(good) / (max(answer.done_at for answer in good) - min(answer.sent_at for answer in good))


def run(
    url: str,
    requests: Sequence[Request],
    load: Load,
    folder: Path,
    *,
    cell: str = "",
    offset_s: float | None = None,
    progress: str | None = "load",
) -> Outcome:
    """Load the service; LoadGen's files are in `folder` afterwards. Ctrl-C and a service that dies end it early, and what was
    measured is kept. offset_s: the service's clock less this one's, where it is known.

    Raises UserError where the service answers nothing at all.
    """
    load.check()
    folder.mkdir(parents=True, exist_ok=True)
    connections = load.most_connections
    fastest_s = warm_up(url, requests, connections, load.timeout_s)
    if load.scenario == "offline" and load.rate is None:
        load = replace(load, rate=1.1 * capacity(url, requests, connections, min(2.0, load.duration_s), load.timeout_s))
    job = Job(
        url,
        list(requests),
        SCENARIOS[load.scenario],
        _settings(load, fastest_s),
        connections,
        min(connections, _WARM),
        load.timeout_s,
        str(folder),
    )
    sent, stopped, interrupted = _drive(job, load, progress)
    if not stopped:
        schedule = read_schedule(folder)
        verdict = read_verdict(folder)
        origin, alignment_s = _origin(sent, schedule)
        due = {number: origin + item.scheduled_s for number, item in schedule.items()}
        _compress(folder / "mlperf_log_trace.json")
    else:  # LoadGen's trace is not there: a request was due when LoadGen gave it out, or not much earlier
        verdict, alignment_s = None, None
        due = {item.number: item.handed_at for item in sent}
    start_at = min(due.values(), default=0.0)
    whole = ((item.number, replace(item.exchange, request=requests[item.index])) for item in sent)
    records = [exchange.record(number, start_at, due[number], cell, offset_s) for number, exchange in whole]
    return Outcome(load, records, verdict, stopped, sum(item.starved for item in sent), alignment_s, interrupted)


def _settings(load: Load, fastest_s: float) -> dict[str, Any]:
    seeds = {f"{name}_rng_seed": load.seed for name in ("schedule", "sample_index", "qsl")}
    common = {**seeds, "min_duration_ms": math.ceil(1000 * load.duration_s), "min_query_count": 1}
    # LoadGen draws the requests of twice the duration ahead, at the latency that it is told to expect, and must not run out of them
    expected_ns = max(1, int(fastest_s * 1e9 / 2))
    if load.scenario == "single_stream":
        return {**common, "single_stream_expected_latency_ns": expected_ns}
    if load.scenario == "multi_stream":
        return {**common, "multi_stream_expected_latency_ns": expected_ns, "multi_stream_samples_per_query": load.most_connections}
    assert load.rate
    if load.scenario == "offline":
        return {**common, "offline_expected_qps": load.rate}
    return {
        **common,
        "server_target_qps": load.rate,
        "server_target_latency_ns": int(1e9 * (load.bound_s or _NO_BOUND_S)),
        "server_target_latency_percentile": 0.99,
        "server_max_async_queries": math.ceil(max(2 * load.most_connections, load.rate * _BEHIND_S)),
    }


def _drive(job: Job, load: Load, progress: str | None) -> tuple[list[Sent], str | None, bool]:
    """What was sent, in LoadGen's order, why LoadGen could not finish, and whether that was Ctrl-C."""
    sent: list[Sent] = []
    stopped, interrupted, ended = None, False, False
    command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), sys.executable, "-c", _CHILD]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
        tqdm(total=load.duration_s, desc=progress, disable=True if progress is None else None, leave=False, bar_format=_BAR) as bar,
    ):
        assert child.stdin and child.stdout
        begun = time.monotonic()
        try:
            pickle.dump(job, child.stdin)
            child.stdin.close()
            while (batch := pickle.load(child.stdout)) is not None:
                sent += batch
                _show(bar, sent, min(time.monotonic() - begun, load.duration_s))
                last = sent[-_DEAD_AFTER:]
                if len(last) == _DEAD_AFTER and all(item.exchange.status is None for item in last):
                    stopped = f"the service stopped answering: {last[-1].exchange.error}"
                    break
            ended = batch is None
        except KeyboardInterrupt:
            stopped, interrupted = "interrupted", True
        except (EOFError, pickle.UnpicklingError, BrokenPipeError):
            pass
        finally:
            child.kill()
    if not ended and not stopped:
        raise RuntimeError(f"LoadGen ended with exit code {child.returncode}; its folder is {job.folder}")
    return sorted(sent, key=lambda item: item.number), stopped, interrupted


_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"


def _show(bar: "tqdm[Never]", sent: Sequence[Sent], elapsed_s: float) -> None:
    bar.n = elapsed_s
    recent = sorted(item.told_at - item.handed_at for item in sent[-500:])
    if recent and elapsed_s:
        errors = sum(item.exchange.error is not None for item in sent)
        rate, median, high = len(sent) / elapsed_s, show_seconds(percentile(recent, 0.5)), show_seconds(percentile(recent, 0.99))
        bar.set_postfix_str(f"{len(sent)} requests, {rate:.1f}/s, p50 {median}, p99 {high}, {errors} errors", refresh=False)
    bar.refresh()


def _origin(sent: Sequence[Sent], schedule: dict[int, Scheduled]) -> tuple[float, float]:
    """LoadGen's zero in monotonic seconds, and the width of the interval that it lies in.

    LoadGen notes when it begins to hand a request out, which is before it arrives here, and when it hears that it is answered, which is
    after that was noted here: each request bounds the zero on both sides. LoadGen's own clock is the system's: where that is set
    meanwhile, the bounds exclude each other by as much.
    """
    least, most = -math.inf, math.inf
    for item in sent:
        times = schedule[item.number]
        least = max(least, item.told_at - times.scheduled_s - times.completed_s)
        most = min(most, item.handed_at - times.scheduled_s - times.issued_s)
    return (least + most) / 2, abs(most - least)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of ascending values, by LoadGen's rule: the one at place floor(n x share), so that both say the same."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _compress(trace: Path) -> None:
    with trace.open("rb") as plain, gzip.open(f"{trace}.gz", "wb", compresslevel=4) as packed:
        shutil.copyfileobj(plain, packed)
    trace.unlink()
