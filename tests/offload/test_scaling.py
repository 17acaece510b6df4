"""Replicas behind a real nginx: stand-ins whose service time is known, for the model to be held against, and real services."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import vl_convert

from tests.conftest import missing
from tests.offload.serial import Serial
from tests.service.conftest import picture
from yoloperf.core.errors import UserError
from yoloperf.core.record import from_csv
from yoloperf.core.request import RequestRecord
from yoloperf.offload import scaling
from yoloperf.offload.balancer import balanced
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import encode
from yoloperf.offload.loadgen import Load, Outcome
from yoloperf.offload.part import Cell, Done
from yoloperf.offload.samples import Sample
from yoloperf.offload.scaling import PART, summarise
from yoloperf.offload.scaling_rows import fitted
from yoloperf.offload.services import replicas
from yoloperf.offload.study import Study
from yoloperf.report.evidence import CONTRADICTED, NOT_TESTABLE, SUPPORTED

SERVICE_S = 0.02
REQUEST = encode("/api/detect", [("a.jpg", b"0123")], {})


@pytest.fixture
def nginx() -> None:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        missing("no nginx: apt-get install -y nginx-light")


@pytest.fixture
def pair() -> Iterator[list[Serial]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Serial(SERVICE_S)) for _ in range(2)]


def study(**settings: Any) -> Study:
    return Study("s", "shapes=shapes.pt", "nowhere.yaml", parts={"scaling": settings})


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Sample(f"{seed}.jpg", picture(seed)) for seed in range(4)]
    monkeypatch.setattr(scaling, "load_samples", lambda study: files)


@pytest.mark.parametrize("policy", ["random", "round_robin", "least_conn"])
def test_nginx_hands_requests_on(nginx: None, pair: list[Serial], policy: str) -> None:
    with balanced([node.url for node in pair], policy) as url:
        answers = closed_loop(url, [REQUEST], 40, 4, progress=None)
    assert {answer.status for answer in answers} == {200}
    shares = Counter(answer.node for answer in answers)
    assert set(shares) == {node.url.removeprefix("http://") for node in pair}
    if policy == "round_robin":
        assert set(shares.values()) == {20}


def test_least_connections_spares_the_slow_replica(nginx: None) -> None:
    with Serial(0.002) as fast, Serial(0.05) as slow, balanced([slow.url, fast.url], "least_conn") as url:
        answers = closed_loop(url, [REQUEST], 60, 2, progress=None)
    assert Counter(answer.node for answer in answers)[fast.url.removeprefix("http://")] > 45


def test_a_dead_replica_is_an_error_and_not_hidden(nginx: None, pair: list[Serial]) -> None:
    pair[1].__exit__()
    with balanced([node.url for node in pair], "round_robin") as url:
        answers = closed_loop(url, [REQUEST], 10, progress=None)
    assert Counter(answer.status for answer in answers) == {200: 5, 502: 5}
    assert {answer.error for answer in answers if answer.status == 502} == {"HTTP 502, and no JSON"}


def test_nginx_ends_with_its_parent(nginx: None, tmp_path: Path) -> None:
    use = "with balanced(['http://127.0.0.1:9'], 'random') as url: print(url, flush=True); time.sleep(60)"
    code = f"import time\nfrom yoloperf.offload.balancer import balanced\n{use}"
    own = {**os.environ, "TMPDIR": str(tmp_path)}  # who is killed leaves nginx's folder
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=own) as parent:
        assert parent.stdout and parent.stdout.readline().startswith("http://127.0.0.1:")
        children = psutil.Process(parent.pid).children(recursive=True)
        assert "nginx" in {child.name() for child in children}
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_balancer_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="did you mean 'round_robin'"), balanced(["http://127.0.0.1:9"], "round-robin"):
        pass
    with pytest.raises(UserError, match="must be http://HOST:PORT, not 'https://host/x'"), balanced(["https://host/x"], "random"):
        pass
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UserError, match="apt-get install -y nginx-light"), balanced(["http://127.0.0.1:9"], "random"):
        pass


def test_real_replicas_say_who_they_are(nginx: None, weights: Path) -> None:
    request = encode("/api/detect", [("a.jpg", picture(1))], {})
    with replicas(2, [f"shapes={weights}"], "--threads", "1", "--max-batch", "1", "--runtime", "torch") as services:
        places = {service.url.removeprefix("http://") for service in services}
        assert len(places) == 2
        with balanced([service.url for service in services], "round_robin") as url:
            answers = closed_loop(url, [request], 8, progress=None)
    assert [answer.error for answer in answers] == [None] * 8
    assert Counter(answer.node for answer in answers) == dict.fromkeys(places, 4)
    assert all(service.process and service.process.poll() is not None for service in services)


def test_a_service_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did not start: .*none.pt"), replicas(1, [f"a={tmp_path / 'none.pt'}"]):
        pass


def measure(cell: Cell, about: Study, folder: Path) -> Done:
    folder.mkdir()
    summary = PART.measure(cell, about, folder)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    return Done(cell, summary, from_csv(RequestRecord, (folder / "requests.csv").read_text()))


def test_the_model_predicts_what_is_measured(nginx: None, pair: list[Serial], pictures: None, tmp_path: Path) -> None:
    """Half load on one replica, and a fourth of what two can do: 20 ms each, always. Bounds: what a request costs beside those, a few
    milliseconds, may be another in the load than in the calibration before it."""
    urls = [node.url for node in pair]
    about = study(replicas=[1, 2], intervals_s=[0.04], policies=["least_conn"], seconds=3, requests=1, calibrate_seconds=1, urls=urls)
    cells = PART.cells(about)
    assert [cell.name for cell in cells] == ["calibrate_c1", "c1_least_conn_0.04s", "calibrate_c2", "c2_least_conn_0.04s"]
    done = [measure(cell, about, tmp_path / cell.name) for cell in cells]
    results = PART.results(done, about)
    grid = next(table for table in results.tables if table.name == "scaling_least_conn")
    ratios = [float(row["model / measured"]) for row in grid.rows]
    assert len(ratios) == 2 and all(0.75 <= ratio <= 1.3 for ratio in ratios), ratios
    one, loaded, two, spread = (each.summary for each in done)
    assert 0.9 * SERVICE_S < one["occupied_s"] < 1.3 * SERVICE_S
    assert two["throughput_rps"] > 1.5 * one["throughput_rps"]
    assert loaded["queue"] == spread["queue"] == "bounded" and loaded["errors"] == {}
    assert loaded["requests"] == loaded["answered"] == len(done[1].requests) > 50
    assert min(spread["shares"].values()) > 0.3
    assert vl_convert.vegalite_to_png(json.dumps(results.charts[0].spec)).startswith(b"\x89PNG")


def test_an_overload_is_told(nginx: None, pictures: None, tmp_path: Path) -> None:
    with Serial(SERVICE_S, queue=5) as small, Serial(SERVICE_S) as patient:
        found = {}
        for name, node in (("overflows", small), ("grows", patient)):
            about = study(replicas=[1], intervals_s=[0.01], policies=["random"], seconds=2, requests=1, urls=[node.url])
            found[name] = measure(PART.cells(about)[1], about, tmp_path / name).summary
    assert {name: summary["queue"] for name, summary in found.items()} == {"overflows": "overflows", "grows": "grows"}
    assert found["overflows"]["errors"] == {"HTTP 429": found["overflows"]["refused"]}
    assert found["overflows"]["answered_rps"] == pytest.approx(1 / SERVICE_S, rel=0.2)
    assert found["grows"]["trend"]["slope"] > 0.3  # 100 a second come, 50 leave: half a second a second


def test_a_service_that_is_down_is_named(nginx: None, pictures: None, tmp_path: Path) -> None:
    about = study(replicas=[1], urls=["http://127.0.0.1:9"])
    with pytest.raises(UserError, match="http://127.0.0.1:9 does not tell its models .*refused"):
        PART.measure(PART.cells(about)[0], about, tmp_path)


def test_replicas_that_run_already_are_asked_for_the_study_s_model(nginx: None, pictures: None, tmp_path: Path) -> None:
    with Serial(0.001) as node:
        about = study(replicas=[1], intervals_s=[0.1], seconds=0.3, requests=1, urls=[node.url])
        measure(PART.cells(about)[1], about, tmp_path / "right")
        assert all(b'name="model"\r\n\r\nshapes\r\n' in body for body in node.bodies) and node.bodies
        other = replace(about, model="cells=cells.pt")
        with pytest.raises(UserError, match="unknown model at http://.* 'cells': choose from shapes"):
            PART.measure(PART.cells(other)[0], other, tmp_path)


def test_a_load_in_which_a_clock_was_set_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer = RequestRecord(due_s=0.0, sent_s=0.0, done_s=0.02, latency_s=0.02, status=200)
    outcome = Outcome(Load("server", 1.0, 10.0), [answer], None, None, 0, alignment_s=0.5)
    monkeypatch.setattr(scaling.loadgen, "run", lambda *_, **__: outcome)
    with pytest.raises(UserError, match="came apart by 500 ms: a clock was set meanwhile, measure again"):
        scaling._load(PART.cells(study())[1], "http://127.0.0.1:9", [REQUEST], tmp_path)


def ended(*, answered: int = 100, refused: int = 0, timed_out: int = 0, lost: int = 0, stopped: str | None = None) -> Outcome:
    """A request every 10 ms, the answers first."""
    kinds = [(200, None)] * answered + [(429, "HTTP 429: busy")] * refused
    kinds += [(None, "TimeoutError: timed out")] * timed_out + [(502, "HTTP 502, and no JSON")] * lost
    rows = [
        RequestRecord(due_s=k / 100, sent_s=k / 100, done_s=k / 100 + 0.02, latency_s=0.02, status=status, error=error)
        for k, (status, error) in enumerate(kinds)
    ]
    return Outcome(Load("server", 1.0, 100.0), rows, None, stopped, 0, alignment_s=None)


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (ended(answered=40, lost=60), r"60 of 100 requests failed, mostly with HTTP 502, and no JSON \(60\): do all replicas still run"),
        (ended(timed_out=50), r"50 of 150 requests failed, mostly with TimeoutError: timed out \(50\): .* the whole queue within 30 s"),
        (ended(answered=40, stopped="the service stopped answering: x"), "the service stopped answering: x"),
    ],
)
def test_a_load_in_which_replicas_die_is_not_kept(outcome: Outcome, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scaling.loadgen, "run", lambda *_, **__: outcome)
    with pytest.raises(UserError, match=says):
        scaling._load(PART.cells(study())[1], "http://127.0.0.1:9", [REQUEST], tmp_path)
    assert len(from_csv(RequestRecord, (tmp_path / "requests.csv").read_text())) == len(outcome.records)


def test_a_load_that_is_too_much_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outcome = ended(answered=100, refused=100, timed_out=100)
    monkeypatch.setattr(scaling.loadgen, "run", lambda *_, **__: outcome)
    facts = scaling._load(PART.cells(study())[1], "http://127.0.0.1:9", [REQUEST], tmp_path)
    assert facts["queue"] == "overflows" and facts["errors"] == {"HTTP 429": 100, "TimeoutError": 100}
    assert facts["answered_rps"] == pytest.approx(100 / 2.99)  # it was asked for 3 s, and not for the first of them alone


def test_the_issue_s_grid_is_the_default() -> None:
    cells = PART.cells(study())
    assert len(cells) == 3 + 4 + 2 * 3 * 4  # one replica has no use for a policy
    assert len({cell.name for cell in cells}) == len(cells)
    intervals = [cell.settings["interval_s"] for cell in cells if cell.settings.get("policy") == "least_conn"]
    assert intervals == [0.5, 0.2, 0.1, 0.01] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replica": [1]}, "did you mean 'replicas'"),
        ({"replicas": 2}, "replicas must be a list of whole numbers of at least 1, not 2"),
        ({"replicas": [0]}, "replicas must be"),
        ({"replicas": [1, 1]}, "replicas has 1 twice"),
        ({"intervals_s": [1, 0.5, 1.0]}, "intervals_s has 1 twice"),
        ({"intervals_s": [0.1, 0.10000001]}, "intervals_s has 0.1 twice"),
        ({"policies": ["random", "random"]}, "policies has random twice"),
        ({"intervals_s": [0.0]}, "intervals_s must be"),
        ({"intervals_s": []}, "intervals_s must be"),
        ({"rates": [-1]}, "rates must be"),
        ({"policies": ["rr"]}, "choose from least_conn, random, round_robin"),
        ({"seconds": float("inf")}, "seconds must be a number above 0"),
        ({"threads": True}, "threads must be a whole number"),
        ({"p99_s": 0}, "p99_s must be a number above 0"),
        ({"urls": ["http://a:1"]}, "4 replicas need as many urls, 1 are given"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PART.cells(study(**settings))


def calibrated(count: int, occupied_s: float) -> Done:
    summary = {"replicas": count, "throughput_rps": count / occupied_s, "occupied_s": occupied_s, "unloaded_s": 0.022, "scv": 0.01}
    return Done(Cell(f"calibrate_c{count}", {"kind": "calibrate"}), summary, [])


def stalled() -> Done:
    """19 requests alone of 20 ms and one of 300, in which the machine did other work."""
    about = calibrated(1, 0.02)
    rows = [RequestRecord(cell="calibrate_c1@alone", round_trip_s=0.02) for _ in range(19)]
    return Done(about.cell, {**about.summary, "unloaded_s": 0.034}, [*rows, RequestRecord(cell="calibrate_c1@alone", round_trip_s=0.3)])


def loaded(count: int, policy: str, interval_s: float, mean_s: float, queue: str = "bounded") -> Done:
    rate = 1 / interval_s
    summary = {"replicas": count, "policy": policy, "interval_s": interval_s, "requests": 100, "answered": 100, "refused": 0, "errors": {}}
    summary |= {"offered_rps": rate, "answered_rps": min(rate, count * 50), "lag_p99_s": 0.0, "queue": queue, "mean_error_s": 0.001}
    summary |= {"mean_s": mean_s, "median_s": mean_s, "p95_s": mean_s, "p99_s": mean_s, "shares": {"a:1": 1.0}}
    return Done(Cell(f"c{count}_{policy}_{interval_s:g}s", {"kind": "load"}), summary, [])


def verdicts(done: list[Done], about: Study) -> dict[str, str | None]:
    names = {"saturates first": "saturates", "More replicas": "shorter", "Least": "policy", "The queueing": "model", "Nowhere": "saturates"}
    found = PART.results(done, about).findings
    return {word: one.verdict for one in found for start, word in names.items() if start in one.text}


def test_findings_follow_the_data() -> None:
    about = study(rates=[10, 100])
    kinds = [calibrated(1, 0.02), calibrated(2, 0.02)]
    kind = fitted(kinds)
    assert kind
    expected = []
    for count, policy in ((1, "random"), (2, "random"), (2, "least_conn")):
        for interval in (0.05, 0.03, 0.0125, 0.005):
            mean = kind.round_trip_s(policy, 1 / interval, count)
            expected.append(loaded(count, policy, interval, 1.1 * mean if mean else 2 / count, "bounded" if mean else "overflows"))
    said = verdicts([*kinds, *expected], about)
    assert said == {"saturates": SUPPORTED, "shorter": SUPPORTED, "policy": SUPPORTED, "model": SUPPORTED}

    assert not any("calibration" in one.text for one in PART.results([*kinds, *expected], about).findings)
    slower = [calibrated(1, 0.04), calibrated(2, 0.04)]
    assert any(
        "50 instead of 25" in one.text or "100 instead of 50" in one.text for one in PART.results([*slower, *expected], about).findings
    )

    summaries = [one.summary for one in expected]
    inverse = [loaded(one["replicas"], one["policy"], one["interval_s"], 0.1**2 / one["mean_s"]) for one in summaries]
    said = verdicts([*kinds, *inverse], about)
    assert said == {"saturates": NOT_TESTABLE, "shorter": CONTRADICTED, "policy": CONTRADICTED, "model": CONTRADICTED}


def test_results_of_a_part_of_the_cells() -> None:
    about = study()
    assert PART.results([], about).tables == [] and PART.results([], about).findings == []
    lone = PART.results([loaded(2, "random", 0.1, 0.02)], about)
    assert lone.tables[0].rows[0]["mean, by the model"] == "" and lone.charts
    only = PART.results([calibrated(1, 0.02)], study(rates=[100], p99_s=0.1))
    assert [table.name for table in only.tables] == ["scaling_calibration", "scaling_plan"]
    assert [row["nodes"] for row in only.tables[1].rows] == [
        row["nodes"] for row in sorted(only.tables[1].rows, key=lambda row: -int(row["nodes"]))
    ]
    assert "it takes 3 nodes of this kind" in only.findings[-1].text
    unbounded = PART.results([stalled()], study(rates=[100])).findings[-1].text
    assert "99th percentile of 200 ms (10 times that of a request that meets nobody" in unbounded and "it takes 3 nodes" in unbounded
    short = PART.results([calibrated(1, 0.02)], study(p99_s=0.01))
    assert "No number of nodes" in short.findings[-1].text


def test_a_cell_in_which_nothing_is_answered_has_no_round_trip() -> None:
    gone = [
        RequestRecord(number=k, due_s=k / 10, sent_s=k / 10, done_s=k / 10, latency_s=0.0, error="ConnectionRefusedError: x")
        for k in range(9)
    ]
    facts = summarise(gone)
    assert facts["answered"] == 0 and facts["errors"] == {"ConnectionRefusedError": 9} and facts["queue"] is None
    assert "mean_s" not in facts
    cell = Cell("c1_random_0.1s", {"kind": "load"})
    table = PART.results([Done(cell, {**facts, "replicas": 1, "policy": "random", "interval_s": 0.1}, gone)], study()).tables[0]
    assert table.rows[0]["mean"] == "" and table.rows[0]["other errors"] == "9"
