"""What LoadGen wrote: its verdict (mlperf_log_detail.txt) and when it had scheduled each request (mlperf_log_trace.json).

Formats: MLLOG lines, https://github.com/mlcommons/logging; Chrome's trace events, a line each, times in us with three decimals.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_MARK = ":::MLLOG "
LATENCY_BOUND = "LoadGen: the latency bound is not met"
_CONSTRAINTS = {
    "result_perf_constraints_met": LATENCY_BOUND,
    "result_min_duration_met": "LoadGen: the test ended before its duration",
    "result_min_queries_met": "LoadGen: too few requests were issued",
    "early_stopping_met": "LoadGen: too few requests for a percentile at 99 % confidence",
}
_SAMPLE = re.compile(
    r'"name":"Sample",.*"ph":"b",.*"ts":(?P<ts>[\d.]+),.*"sample_seq":(?P<number>\d+),.*'
    r'"issue_start_ns":(?P<issue>-?\d+),"complete_ns":(?P<complete>\d+)'
)
_PERCENTILE = re.compile(r"result_([\d.]+)_percentile_(?:per_query_)?latency_ns")


@dataclass(frozen=True)
class Verdict:
    """reasons: why LoadGen calls the test INVALID, in its own terms; latency_s: percentile ("50", "99.9") and "mean" -> seconds;
    early_stopping: LoadGen's words on its statistics."""

    valid: bool
    reasons: list[str]
    latency_s: dict[str, float]
    early_stopping: str | None


@dataclass(frozen=True)
class Scheduled:
    """Seconds: scheduled_s from an origin of LoadGen's own, issued_s and completed_s from scheduled_s on."""

    scheduled_s: float
    issued_s: float
    completed_s: float


def read_verdict(folder: Path) -> Verdict:
    found: dict[str, object] = {}
    told: list[str] = []
    for line in (folder / "mlperf_log_detail.txt").read_text().splitlines():
        if line.startswith(_MARK):
            entry = json.loads(line.removeprefix(_MARK))
            found[entry["key"]] = entry["value"]
            if entry["metadata"]["is_error"]:
                told.append(f"LoadGen: {str(entry['value']).strip()}")
    valid = found["result_validity"] == "VALID"
    reasons = [why for key, why in _CONSTRAINTS.items() if found.get(key) is False]
    percentiles = {match[1]: value for key, value in found.items() if (match := _PERCENTILE.fullmatch(key))}
    latency_s = {f"{float(share):g}": float(str(value)) / 1e9 for share, value in percentiles.items()}
    mean = found.get("result_mean_query_latency_ns", found.get("result_mean_latency_ns"))
    if mean is not None:
        latency_s["mean"] = float(str(mean)) / 1e9
    stopping = found.get("early_stopping_result")
    words = " ".join(part.strip(" *") for part in str(stopping).splitlines()) if stopping else None
    why_not = list(dict.fromkeys([*reasons, *told])) or ["LoadGen: INVALID, for a reason of its own: see mlperf_log_summary.txt"]
    return Verdict(valid, [] if valid else why_not, latency_s, words)


def read_schedule(folder: Path) -> dict[int, Scheduled]:
    """Number of the request -> its times."""
    schedule = {}
    with (folder / "mlperf_log_trace.json").open() as trace:
        for line in trace:
            if match := _SAMPLE.search(line):
                schedule[int(match["number"])] = Scheduled(
                    float(match["ts"]) / 1e6, int(match["issue"]) / 1e9, int(match["complete"]) / 1e9
                )
    return schedule
