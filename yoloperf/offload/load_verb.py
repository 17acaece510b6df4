"""`yoloperf load`: put load on a service by LoadGen, and say what it can take."""

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.offload.exchange import Request
from yoloperf.offload.load_charts import charts, save_png, times_table
from yoloperf.offload.load_data import find_target, make_requests
from yoloperf.offload.load_summary import measure, summarise
from yoloperf.offload.loadgen import CONNECTIONS, SCENARIOS, Load, Outcome, capacity, run, warm_up
from yoloperf.offload.part import Table
from yoloperf.offload.search import Peak, Probe, find_peak

PROBE_S = 10.0
_LEAST_OF_A_PROBE = 100  # requests: of fewer there is no p99


def _run(args: argparse.Namespace) -> Result:
    if args.find_peak and (args.scenario != "server" or args.p99_bound_ms is None or args.rate is not None):
        raise UserError("--find-peak looks for the rate of the server scenario: give it --p99-bound-ms, and no --rate")
    load = Load(
        args.scenario,
        args.duration,
        1.0 if args.find_peak else args.rate,
        args.concurrency,
        None if args.p99_bound_ms is None else args.p99_bound_ms / 1000,
        args.seed,
        args.timeout,
    )
    load.check()
    token = _token(args.token_file) if args.token_file else None
    target = find_target(args.url, args.model, token)
    requests, words = make_requests(target, args.data, args.model, args.images_per_request, token, args.seed)
    folder: Path = args.output or Path(f"load-{args.scenario}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose another --output") from error
    mean_bytes = sum(len(request.body) for request in requests) / len(requests)
    print(f"{target.url}{target.path}: {words}, {args.images_per_request} a request of {mean_bytes / 1024:.0f} KiB")
    peak = _search(target.url, requests, load, folder) if args.find_peak else None
    if peak and peak.rate is None:
        raise UserError(f"no rate tried keeps p99 within {args.p99_bound_ms:g} ms ({peak.limit}); the probes are in {folder / 'probes'}")
    load = replace(load, rate=peak.rate) if peak else load
    outcome, result = measure(target.url, requests, load, folder)
    if peak:
        tried = [{"rate": probe.rate, "passed": probe.passed, **_brief(probe.result)} for probe in peak.probes]
        result |= {"peak": {"rate": peak.rate, "limit": peak.limit, "probes": tried}}
    result = {"url": f"{target.url}{target.path}", "model": args.model, "output": str(folder), **result}
    write_atomic(folder / "load.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
    _show(result, _write_views(outcome, folder))
    return (130 if outcome.interrupted else int(not result["valid"])), result


def _search(url: str, requests: Sequence[Request], load: Load, folder: Path) -> Peak:
    fastest_s = warm_up(url, requests, 1, load.timeout_s)
    if load.bound_s is not None and fastest_s > load.bound_s:
        alone = show_seconds(fastest_s)
        raise UserError(
            f"no rate keeps p99 within {show_seconds(load.bound_s)}: a request that meets nobody takes {alone}; give a longer bound"
        )
    most = capacity(url, requests, 8, min(5.0, load.duration_s), load.timeout_s)
    print(f"closed loop of 8 connections: {most:.1f}/s")
    print(f"{'probe':>5} {'rate':>9} {'requests':>9} {'p50':>9} {'p99':>9}  outcome")

    def probe(number: int, rate: float) -> Probe:
        seconds = max(min(PROBE_S, load.duration_s), _LEAST_OF_A_PROBE / rate)
        place = folder / "probes" / f"{number:02}"
        outcome = run(url, requests, replace(load, rate=rate, duration_s=seconds), place / "loadgen", progress=f"{rate:.1f}/s")
        write_atomic(place / "requests.csv", to_csv(RequestRecord, outcome.records))
        if outcome.interrupted:
            raise KeyboardInterrupt
        result = summarise(outcome, None)
        write_atomic(place / "load.json", json.dumps(result, indent=2, allow_nan=False) + "\n")
        # LoadGen's other rules (so many requests for a percentile with confidence) are for the test at the rate that is found
        assert load.bound_s
        kept = result["latency_p99_s"] is not None and result["latency_p99_s"] <= load.bound_s
        passed = kept and not result["errors"] and not result["client_bound"] and not outcome.stopped
        p50, p99 = ("-" if result[key] is None else show_seconds(result[key]) for key in ("latency_p50_s", "latency_p99_s"))
        told = [reason for reason in result["reasons"] if not reason.startswith("LoadGen: too few")]
        said = "kept" if passed else "; ".join(told)
        print(f"{number:5} {rate:7.1f}/s {result['requests']:9} {p50:>9} {p99:>9}  {said}", flush=True)
        return Probe(rate, passed, {**result, "reasons": told})

    return find_peak(probe, most)


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("requests", "errors", "latency_p50_s", "latency_p99_s", "send_lag_p99_s", "reasons")}


def _write_views(outcome: Outcome, folder: Path) -> Table:
    table = times_table(outcome.records)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["time", "mean", "p50", "p90", "p99", "max"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    write_atomic(folder / "tables" / "times.csv", text.getvalue())
    for chart in charts(outcome.records, outcome.load.bound_s):
        save_png(chart, folder / "plots")
    return table


def _show(result: dict[str, Any], table: Table) -> None:
    if table.rows:
        print(f"{'':15}{'mean':>9}{'p50':>9}{'p90':>9}{'p99':>9}{'max':>9}")
    for row in table.rows:
        print(f"{row['time']:15}" + "".join(f"{row[key]:>9}" for key in ("mean", "p50", "p90", "p99", "max")))
    rate = "nothing was answered" if result["achieved_rate"] is None else f"{result['achieved_rate']:.1f} answers/s"
    asked = f" of {result['rate']:.1f}/s" if result["scenario"] == "server" else ""
    failed = f", {result['errors']} failed" if result["errors"] else ""
    print(f"{result['scenario']}: {'VALID' if result['valid'] else 'INVALID'}, {rate}{asked}, {result['requests']} requests{failed}")
    for reason in result["reasons"]:
        print(f"  {reason}")
    if "peak" in result:
        peak = result["peak"]
        print(f"highest rate that kept the bound in a short test: {peak['rate']:.1f}/s ({peak['limit']})")
    print(f"requests.csv, load.json, tables, plots and LoadGen's files: {result['output']}")


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the token in {file}: {error}") from error


def _configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", help="service: host:port, http(s)://host:port, or with a path, to which requests go as it stands")
    add("--scenario", choices=list(SCENARIOS), default="server", help="of MLPerf's LoadGen (default: %(default)s)")
    add("--rate", type=float, metavar="R", help="requests per second; server: to send, offline: to expect (default there: as measured)")
    add("--duration", type=float, default=60.0, metavar="S", help="seconds (default: %(default)g; MLPerf's own rules want 600)")
    most = ", ".join(f"{name} {count}" for name, count in CONNECTIONS.items())
    add("--concurrency", type=int, metavar="N", help=f"connections at most; of multi_stream: requests at a time (default: {most})")
    add("--data", type=Path, nargs="+", default=[], metavar="PATH", help="files, or folders of them (default: synthetic blood smears)")
    add("--images-per-request", type=int, default=1, metavar="N", help="default: 1")
    add("--model", metavar="NAME", help="which of the served models (default: the service's own)")
    add("--p99-bound-ms", type=float, metavar="MS", help="longest 99th percentile of the latency with which the run is valid")
    add("--find-peak", action="store_true", help="search the highest rate within --p99-bound-ms, then test at it")
    add("--seed", type=int, default=0, help="of arrivals and of the order of requests (default: 0)")
    add("--timeout", type=float, default=30.0, metavar="S", help="of a request (default: 30)")
    add("--token-file", type=Path, metavar="FILE", help="with the bearer token, where the service wants one")
    add("-o", "--output", type=Path, metavar="DIR", help="for requests.csv, load.json, tables and plots (default: load-SCENARIO)")


load = Verb(
    "put load on a service by MLPerf's LoadGen: latency, highest rate within a bound, and whether to believe it",
    "yoloperf load 127.0.0.1:8080 --scenario server --rate 20 --duration 60 -o load",
    _configure,
    _run,
)
