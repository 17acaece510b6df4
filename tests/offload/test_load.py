"""Load by LoadGen: what it draws, what the records say of it, and that a run is not believed when it should not be."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from tests.service.live import Live
from tests.service.standin import StandIn
from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.record import from_csv
from yoloperf.core.request import RequestRecord
from yoloperf.offload import load_summary, search
from yoloperf.offload.drive import DEAD_AFTER, closed_loop
from yoloperf.offload.exchange import Connection, Exchange, Request, encode
from yoloperf.offload.load_part import PART
from yoloperf.offload.load_summary import Client, self_test, summarise, waits
from yoloperf.offload.loadgen import Load, Outcome, capacity, percentile, run, warm_up
from yoloperf.offload.null_server import null_server
from yoloperf.offload.part import Cell, Done
from yoloperf.offload.search import TOLERANCE, Probe, find_peak
from yoloperf.offload.study import Place, Study
from yoloperf.report.evidence import CONTRADICTED, NOT_TESTABLE, SUPPORTED

DELAY_S = 0.02
NO_CLIENT = Client(0.0005, 0.001, 0.0005, 1e6)


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    with null_server(DELAY_S) as url:
        yield url


def requests(count: int = 3, size: int = 2000) -> list[Request]:
    return [encode("/api/detect", [(f"{number}.jpg", bytes(size))], {}) for number in range(count)]


@pytest.fixture(scope="module")
def served(slow: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("server")
    return run(slow, requests(), Load("server", 3.5, 150.0, seed=7), folder, progress=None), folder


def drawn(seed: int, rate: float, count: int) -> Any:
    """When LoadGen's requests are due, by its rule: std::mt19937, and libstdc++'s exponential_distribution of two words each."""
    generator = np.random.MT19937()
    generator._legacy_seeding(seed)
    words = generator.random_raw(2 * (count - 1)).astype(np.float64).reshape(-1, 2)
    gaps = -np.log1p(-(words[:, 0] + words[:, 1] * 2**32) / 2**64) / rate
    return np.concatenate([[0.0], np.cumsum(gaps)])


def test_arrivals_are_poisson_and_those_of_the_seed(served: tuple[Outcome, Path]) -> None:
    due = np.array([record.due_s for record in served[0].records])
    assert len(due) > 500
    assert kstest(np.diff(due), "expon", args=(0, 1 / 150)).pvalue > 0.01
    assert np.abs(due - drawn(7, 150.0, len(due))).max() < 1e-5
    assert np.abs(due - drawn(8, 150.0, len(due))).max() > 0.01


def test_records_say_what_loadgen_says(served: tuple[Outcome, Path]) -> None:
    outcome, folder = served
    assert outcome.verdict and outcome.verdict.valid and outcome.alignment_s is not None and outcome.alignment_s < 0.002
    latencies = waits(outcome)
    for share, tolerance_s in ((50, 0.003), (90, 0.003), (99, 0.02)):  # a busy machine may stop either on the way to the clock
        ours, theirs = percentile(latencies, share / 100), outcome.verdict.latency_s[f"{share}"]
        assert ours == pytest.approx(theirs, abs=tolerance_s), share
        assert ours >= DELAY_S
    assert {path.name for path in folder.iterdir()} >= {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_trace.json.gz"}


def test_a_record_adds_up(served: tuple[Outcome, Path]) -> None:
    records = served[0].records
    assert [record.number for record in records] == list(range(len(records)))
    assert {record.sample for record in records} == {"0.jpg", "1.jpg", "2.jpg"}
    for record in records:
        assert record.due_s is not None and record.sent_s is not None and record.done_s is not None
        assert record.latency_s == pytest.approx(record.done_s - record.due_s, abs=1e-6)
        assert record.round_trip_s == pytest.approx(record.done_s - record.sent_s, abs=1e-6)
        assert record.sent_s >= record.due_s - 0.001


def test_a_good_run_is_valid_and_has_its_rate(served: tuple[Outcome, Path]) -> None:
    result = summarise(served[0], None)
    assert result["errors"] == 0 and result["achieved_rate"] == pytest.approx(150, rel=0.1)
    assert result["latency_p50_s"] == pytest.approx(DELAY_S, rel=0.5)
    # on a machine that others use, too, the client may be late: then it says so, and nothing else
    assert result["valid"] or all("the client" in reason for reason in result["reasons"])


@pytest.mark.parametrize(("scenario", "connections", "at_once"), [("single_stream", None, 1), ("multi_stream", 4, 4)])
def test_streams(slow: str, tmp_path: Path, scenario: str, connections: int | None, at_once: int) -> None:
    outcome = run(slow, requests(), Load(scenario, 1.0, None, connections), tmp_path, progress=None)
    result = summarise(outcome, None)
    groups = waits(outcome)
    assert len(groups) * at_once == len(outcome.records) and 20 < len(groups) <= 1.1 / DELAY_S
    assert outcome.verdict and result["latency_p50_s"] == pytest.approx(outcome.verdict.latency_s["50"], abs=0.003)
    assert result["achieved_rate"] == pytest.approx(at_once / result["latency_mean_s"], rel=0.15)
    if scenario == "multi_stream":  # 99 % with confidence takes 662 groups
        assert not result["valid"] and "confidence" in result["reasons"][0] and "662" in result["loadgen"]["early_stopping"]


def test_offline_asks_everything_at_once(slow: str, tmp_path: Path) -> None:
    outcome = run(slow, requests(), Load("offline", 0.6, None, 4), tmp_path, progress=None)
    result = summarise(outcome, NO_CLIENT)
    assert result["valid"], result["reasons"]
    assert result["achieved_rate"] == pytest.approx(4 / DELAY_S, rel=0.2) and result["send_lag_p99_s"] is None
    assert {round(record.due_s or 0.0, 6) for record in outcome.records} == {0.0}


def test_too_few_requests_for_a_percentile(slow: str, tmp_path: Path) -> None:
    result = summarise(run(slow, requests(), Load("server", 0.5, 50.0, bound_s=1.0), tmp_path, progress=None), None)
    assert not result["valid"] and any("99 % confidence" in reason for reason in result["reasons"])


def test_a_bound_that_is_not_kept(slow: str, tmp_path: Path) -> None:
    result = summarise(run(slow, requests(), Load("server", 0.5, 50.0, bound_s=0.01), tmp_path, progress=None), None)
    assert not result["valid"] and any("over its bound of 10.0 ms" in reason for reason in result["reasons"])


def test_a_load_that_the_client_cannot_send(tmp_path: Path) -> None:
    load = Load("server", 0.3, 8000.0, 8)
    with null_server() as url:
        outcome = run(url, requests(), load, tmp_path, progress=None)
    result = summarise(outcome, None)
    assert not result["valid"] and result["client_bound"]
    assert result["send_lag_p99_s"] > 0.01 and outcome.starved


def test_self_test_convicts_a_client_that_is_late(served: tuple[Outcome, Path], tmp_path: Path) -> None:
    client = self_test(requests(), replace(served[0].load, duration_s=1.0), tmp_path)
    assert client.latency_p50_s < DELAY_S and client.lag_p99_s is not None
    late = replace(client, lag_p99_s=0.02, latency_p50_s=0.001)
    assert any("cannot send this load" in reason for reason in summarise(served[0], late)["reasons"])
    dear = replace(client, lag_p99_s=0.0, latency_p50_s=0.019)
    assert any("% of the median latency" in reason for reason in summarise(served[0], dear)["reasons"])


def test_a_run_in_which_a_clock_was_set_is_not_valid(served: tuple[Outcome, Path]) -> None:
    """LoadGen's clock is the system's, and the requests' is not."""
    assert not any("a clock was set" in reason for reason in summarise(replace(served[0], alignment_s=0.004), None)["reasons"])
    result = summarise(replace(served[0], alignment_s=2.0), None)
    assert not result["valid"] and result["client_bound"]
    assert "LoadGen's clock and the client's came apart by 2.00 s: a clock was set meanwhile, measure again" in result["reasons"]


def test_a_clock_that_is_set_does_not_change_what_a_closed_loop_measures(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(1e9, 3600)
    monkeypatch.setattr(time, "time", lambda: next(hours))
    assert capacity(slow, requests(), 2, 0.2) > 1  # by the clock that is set it would be one in half an hour


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0.0}, "rate must be above 0, not 0"),
        ({"rate": -3.0}, "rate must be above 0, not -3"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"rate": None}, "needs a rate"),
        ({"duration_s": 0.0}, "duration must be above 0"),
        ({"bound_s": -1.0}, "bound on p99 must be above 0"),
        ({"connections": 0}, "concurrency must be from 1 to 512"),
        ({"scenario": "servr"}, "did you mean 'server'"),
        ({"scenario": "single_stream"}, "has no rate"),
        ({"scenario": "single_stream", "rate": None, "connections": 2}, "one request at a time"),
    ],
)
def test_a_load_that_makes_no_sense(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(Load("server", 1.0, 10.0), **change).check()


def test_a_service_that_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="Connection refused.*is the service running"):
        warm_up("http://127.0.0.1:9", requests(), 1, 1.0)
    assert len(closed_loop("http://127.0.0.1:9", requests(), 1000, 2, 1.0, progress=None)) < DEAD_AFTER + 3
    assert main(["load", "127.0.0.1:9", "--rate", "1", "-o", str(tmp_path)]) == 2
    assert "is a service running there" in capsys.readouterr().err


def test_ctrl_c_ends_a_closed_loop(slow: str) -> None:
    """Rather than giving a short measurement for a whole one."""
    told = threading.Event()

    def interrupt(_: Exchange) -> None:
        if not told.is_set():
            told.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        closed_loop(slow, requests(), 10**9, progress=None, seen=interrupt)


def test_a_request_leaves_in_one_piece() -> None:
    """Head and body apart would wake the service twice."""
    request, answer = requests()[0], b"HTTP/1.1 200 OK\r\nX-Served-By: me\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        waiting = pool.submit(Connection(f"http://{place}/base", 10).exchange, request)
        stream, _ = server.accept()
        with stream:
            sent = stream.recv(65536)
            stream.sendall(answer)
        exchange = waiting.result()
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == request.body and head.splitlines()[:2] == [b"POST /base/api/detect HTTP/1.1", b"Host: " + place.encode()]
    assert len(sent) - len(f"/base{place}") == request.sent_bytes - len("127.0.0.1:12345")
    assert (exchange.status, exchange.error, exchange.node, exchange.payload) == (200, None, "me", {})
    assert exchange.received_bytes == len(answer)


def pictures(count: int = 2) -> list[Request]:
    from tests.service.conftest import picture

    return [encode("/api/detect", [(f"{number}.jpg", picture(number))], {}) for number in range(count)]


def test_a_service_that_dies_keeps_what_was_measured(tmp_path: Path) -> None:
    with StandIn() as node:
        node.dies_after = 60
        outcome = run(f"http://{node.address}", pictures(), Load("server", 20.0, 100.0), tmp_path, progress=None)
    assert outcome.stopped and "stopped answering" in outcome.stopped and outcome.verdict is None
    result = summarise(outcome, None)
    assert not result["valid"] and result["requests"] - result["errors"] >= 50 and result["latency_p50_s"] > 0


def test_refusals_are_counted_and_named(tmp_path: Path) -> None:
    with StandIn() as node:
        busy = (429, {}, {"error": {"code": "busy", "message": "come again"}})
        node.refuse = lambda names: busy if names == ["1.jpg"] else None
        outcome = run(f"http://{node.address}", pictures(), Load("server", 1.0, 60.0), tmp_path, progress=None)
    result = summarise(outcome, None)
    assert 0 < result["errors"] < result["requests"] and result["error_kinds"] == {"HTTP 429: come again": result["errors"]}
    assert not result["valid"] and any("requests failed: HTTP 429: come again" in reason for reason in result["reasons"])


def test_a_service_that_is_slow_or_speaks_garbage(tmp_path: Path) -> None:
    with StandIn(delay_s=1.0) as node, pytest.raises(UserError, match="timed out|TimeoutError"):
        run(f"http://{node.address}", pictures(), Load("single_stream", 1.0, timeout_s=0.2), tmp_path, progress=None)
    garbage = "import socket\ns = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)\n"
    garbage += "while True:\n    c = s.accept()[0]; c.recv(99999); c.sendall(b'\\x00\\xff nothing of HTTP\\r\\n\\r\\n'); c.close()\n"
    with subprocess.Popen([sys.executable, "-c", garbage], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        with pytest.raises(UserError, match="BadStatusLine"):
            run(f"http://127.0.0.1:{port}", pictures(), Load("single_stream", 1.0), tmp_path, progress=None)
        process.kill()


@given(st.floats(1.0, 1000.0), st.floats(0.05, 1.5))
def test_the_search_finds_the_peak(capacity: float, share: float) -> None:
    peak = share * capacity
    found = find_peak(lambda number, rate: Probe(rate, rate <= peak, {"reasons": ["p99 is over"]}), capacity)
    assert found.rate is not None and found.rate <= peak <= found.rate * (1 + 2 * TOLERANCE) + 1e-9
    assert len(found.probes) <= 12


def test_the_search_gives_up_where_nothing_keeps_the_bound() -> None:
    found = find_peak(lambda number, rate: Probe(rate, False, {"reasons": ["p99 is over"]}), 100.0)
    assert found.rate is None and "p99 is over" in found.limit and len(found.probes) < 12


def test_the_verb_on_a_real_service(live: Live, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["load", live.url, "--rate", "20", "--duration", "1", "--seed", "3", "-o", str(tmp_path), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert {"valid", "achieved_rate", "latency_p50_s", "latency_p99_s", "errors", "reasons", "loadgen"} <= set(result)
    assert code == int(not result["valid"]) and result["errors"] == 0 and result["url"].endswith("/api/detect")
    records = from_csv(RequestRecord, (tmp_path / "requests.csv").read_text())
    assert len(records) == result["requests"] and all(record.inference_s and record.queue_s is not None for record in records)
    assert json.loads((tmp_path / "load.json").read_text()) == result
    assert (tmp_path / "tables" / "times.csv").read_text().startswith("time,mean,p50,p90,p99,max\nlatency,")
    for name in ("latency_over_time", "latency_distribution", "send_lag"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_verb_finds_the_peak(slow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["load", slow, "--find-peak", "--duration", "0.5", "-o", str(tmp_path), "--p99-bound-ms"]
    assert main([*arguments, "1"]) == 2
    assert "a request that meets nobody takes 2" in capsys.readouterr().err
    monkeypatch.setattr(search, "MOST_PROBES", 2)
    monkeypatch.setattr(load_summary, "LAG_FREE_S", 10.0)  # others use this machine, too
    main([*arguments, "2000", "--json"])
    result = json.loads(capsys.readouterr().out)
    tried = result["peak"]["probes"]
    assert [probe["passed"] for probe in tried] == [True, True] and result["peak"]["rate"] == result["rate"] == tried[1]["rate"]
    assert tried[1]["rate"] == pytest.approx(1.25 * tried[0]["rate"]) and "the service may do more" in result["peak"]["limit"]
    for number in ("00", "01"):
        assert (tmp_path / "probes" / number / "requests.csv").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--find-peak"], "give it --p99-bound-ms"),
        (["--rate", "0"], "rate must be above 0"),
        (["--rate", "5", "--data", "nowhere.jpg"], "cannot read nowhere.jpg"),
        (["--rate", "5", "--model", "nul"], "did you mean 'null'"),
        (["--rate", "5", "--images-per-request", "0"], "at least 1"),
        (["--rate", "5", "--token-file", "nowhere"], "cannot read the token"),
    ],
)
def test_the_verb_refuses_in_one_line(
    slow: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["load", slow, *arguments, "-o", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_measured(slow: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "yoloperf", "load", slow, "--scenario", "single_stream", "--duration", "20", "-o", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begun = tmp_path / "loadgen" / "mlperf_log_detail.txt"
        until = time.monotonic() + 30
        while not begun.exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130 and "INVALID" in out and "ended early: interrupted" in out
    records = from_csv(RequestRecord, (tmp_path / "requests.csv").read_text())
    assert len(records) > 10 and all(record.error is None for record in records)


def test_the_part_on_a_real_service(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.service.conftest import picture
    from yoloperf.offload import load_part
    from yoloperf.offload.samples import Sample

    made = [Sample(f"{seed}.jpg", picture(seed)) for seed in range(2)]
    monkeypatch.setattr(load_part, "load_samples", lambda study: made)
    settings = {"scenarios": ["server"], "shares": [0.2, 0.5], "seconds": 0.5, "capacity_seconds": 0.3, "p99_s": 5.0}
    study = Study("s", "shapes=shapes.pt", "data.yaml", remote=Place("remote", url=live.url), parts={"load": settings})
    cells = PART.cells(study)
    assert [cell.name for cell in cells] == ["server_0.2", "server_0.5"]
    assert cells == PART.cells(replace(study, remote=replace(study.remote, price_per_hour=1.0, currency="EUR")))
    done = []
    for cell in cells:
        folder = tmp_path / cell.name
        summary = json.loads(json.dumps(PART.measure(cell, study, folder), allow_nan=False))
        done.append(Done(cell, summary, from_csv(RequestRecord, (folder / "requests.csv").read_text())))
    assert done[1].summary["rate"] == pytest.approx(0.5 * done[1].summary["capacity"])
    assert all(record.upload_s is not None for one in done for record in one.requests)
    results = PART.results(done, study)
    assert len(results.tables[0].rows) == 2 and results.charts[0].name == "load_rates"
    assert PART.results(done[:1], study).findings and PART.results([], study).tables == []


@pytest.mark.parametrize(
    ("means_s", "changed", "verdict", "says"),
    [
        ((0.04, 0.08), {}, SUPPORTED, "2.00 times as much"),
        ((0.08, 0.04), {}, CONTRADICTED, "0.50 times as much"),
        ((0.04, 0.0401), {}, NOT_TESTABLE, "mean 40.0 ms ± 9.62 ms at 25 % of the closed loop's rate, 40.1 ms ± 9.62 ms at 80 %: runs of"),
        ((0.04, 0.08), {"errors": 1}, NOT_TESTABLE, "two rates"),
        ((0.04, 0.08), {"loadgen": None}, NOT_TESTABLE, "two rates"),
        ((0.04, 0.08), {"client_bound": True}, NOT_TESTABLE, "two rates"),
    ],
)
def test_whether_latency_grows_with_the_rate(means_s: tuple[float, float], changed: dict[str, Any], verdict: str, says: str) -> None:
    done = []
    for share, mean_s in zip((0.25, 0.8), means_s, strict=True):
        # ten requests of a second, by turns all quicker and all slower
        rows = [RequestRecord(due_s=k / 10, sent_s=k / 10, latency_s=mean_s + (0.0145 if k // 10 % 2 else -0.0145)) for k in range(120)]
        outcome = Outcome(Load("server", 12.0, 10.0), rows, None, None, 0, None)
        summary = {**summarise(outcome, None), "share": share, "loadgen": {"valid": False}, "valid": False, "client_bound": False}
        done.append(Done(Cell(f"server_{share:g}", {}), summary | (changed if share == 0.8 else {}), rows))
    (found,) = [one for one in PART.results(done, Study("s", "a=b", "c")).findings if one.text.startswith("Latency grows")]
    assert found.verdict == verdict and says in found.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": [1]}, "did you mean 'shares'"),
        ({"shares": [0]}, "shares must be above 0"),
        ({"scenarios": ["sever"]}, "did you mean 'server'"),
        ({"connections": 0}, "connections must be from 1"),
        ({"seconds": -1}, "seconds must be above 0"),
        ({"shares": [0.5, 1, 0.5]}, "shares has 0.5 twice"),
        ({"scenarios": ["offline", "offline"]}, "scenarios has offline twice"),
    ],
)
def test_settings_of_the_part(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        PART.cells(Study("s", "a=b", "c", parts={"load": settings}))
