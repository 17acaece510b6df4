import dataclasses
import json
import math
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import vl_convert

from tests.conftest import missing
from tests.offload.test_clock import service_that_says
from tests.service.conftest import picture
from tests.service.live import Live
from yoloperf.core.errors import UserError
from yoloperf.core.record import from_csv
from yoloperf.core.request import RequestRecord
from yoloperf.offload import places
from yoloperf.offload.exchange import Connection, Exchange, Request
from yoloperf.offload.link import shaped
from yoloperf.offload.part import Cell, Done
from yoloperf.offload.places import PART
from yoloperf.offload.places_results import ABOVE, BELOW, IN_PROCESS, LOCAL, REMOTE
from yoloperf.offload.study import LinkSpec, Place, Study

RTT_S = 0.02


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with a label each."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for number in range(6):
        (root / "images" / f"{number}.jpg").write_bytes(picture(number, 320, 240))
        (root / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "shapes.yaml").write_text(f"path: {root}\ntrain: images\nval: images\nnames: [disc, square]\n")
    return root / "shapes.yaml"


@pytest.fixture(scope="module")
def make_study(weights: Path, data: Path, live: Live) -> Callable[..., Study]:
    def make(**changes: Any) -> Study:
        settings = {"pictures": 4, "rounds": 3, "timeout_s": 5}
        remote = Place("remote", url=live.url, power_w=50.0, price_per_hour=0.9, currency="EUR")
        local = Place("local", "torch", "fp32", 1, url=live.url)
        study = Study("s", f"shapes={weights}", str(data), images=6, local=local, remote=remote, parts={"places": settings})
        return dataclasses.replace(study, links=(LinkSpec("far", rtt_s=RTT_S),), **changes)

    return make


def measure(study: Study, folder: Path, *names: str) -> list[Done]:
    done = []
    for cell in PART.cells(study):
        if cell.name in names:
            own = folder / cell.name
            summary = PART.measure(cell, study, own)
            assert json.loads(json.dumps(summary, allow_nan=False)) == summary
            done.append(Done(cell, summary, from_csv(RequestRecord, (own / "requests.csv").read_text())))
    return done


@pytest.fixture(scope="module")
def measured(make_study: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[Done], Path]:
    study, folder = make_study(), tmp_path_factory.mktemp("places")
    return study, measure(study, folder, IN_PROCESS, LOCAL, REMOTE, f"{REMOTE}-far"), folder


def test_cells_are_named_for_places_and_links(make_study: Callable[..., Study]) -> None:
    cells = PART.cells(make_study())
    assert [cell.name for cell in cells] == [IN_PROCESS, LOCAL, REMOTE, f"{REMOTE}-far", ABOVE, BELOW]
    assert all(json.dumps(cell.settings) for cell in cells)


def test_every_picture_in_every_place(measured: tuple[Study, list[Done], Path]) -> None:
    _, done, _ = measured
    for one in done:
        assert len(one.requests) == 12 and len({row.sample for row in one.requests}) == 4
        assert all(row.error is None and row.inference_s for row in one.requests)
    here, local, _, far = done
    assert here.summary["img_size"] == 64
    assert all(row.sent_bytes is None and row.upload_s is None for row in here.requests)
    for row in local.requests:
        assert row.upload_s is not None and row.download_s is not None and row.server_s is not None and row.round_trip_s is not None
        assert row.upload_s + row.server_s + row.download_s <= row.round_trip_s + 1e-4
        assert row.sent_bytes and row.received_bytes
    shortest = min(row.round_trip_s or 0 for row in far.requests)
    assert shortest >= RTT_S
    assert all(row.upload_s and row.download_s and min(row.upload_s, row.download_s) > 0.9 * RTT_S / 2 for row in far.requests)


def test_stages_account_for_the_round_trip_on_loopback(measured: tuple[Study, list[Done], Path]) -> None:
    study, done, _ = measured
    (found,) = [finding for finding in PART.results(done, study).findings if finding.text.startswith("The stages account for")]
    assert found.verdict == "supported" and found.evidence == [LOCAL]


@pytest.mark.parametrize("missing_stage", [None, "decode_s", "inference_s", "encode_s"])
def test_a_stage_that_is_missing_is_seen(make_study: Callable[..., Study], missing_stage: str | None) -> None:
    """100 ms, 20 of them in each of five stages. A stage that the service leaves out is in no total of its, either."""
    stages = {stage: 0.02 for stage in ("decode_s", "inference_s", "encode_s") if stage != missing_stage}
    timing = {"receive_s": 0.0, "total_s": sum(stages.values()), **stages}
    answer = {"received_at": 1000.02, "answered_at": 1000.08, "timing": timing}
    exchange = Exchange(Request("/", {}, b"", "a", 1), 5.0, 5.1, 200, answer, 9, None, None, sent_unix=950.0)
    rows = [exchange.record(0, 5.0, cell=LOCAL, offset_s=50.0)]
    cell = next(cell for cell in PART.cells(make_study()) if cell.name == LOCAL)
    done = Done(cell, {"clock_reason": None, "clock_error_s": 1e-4}, rows)
    (found,) = [finding for finding in PART.results([done], make_study()).findings if finding.text.startswith("The stages account for")]
    assert found.verdict == ("supported" if missing_stage is None else "contradicted"), found.text


def test_requests_that_failed_are_told(measured: tuple[Study, list[Done], Path]) -> None:
    study, done, _ = measured
    refused = [
        dataclasses.replace(row, error="HTTP 429: busy") if one.cell.name == REMOTE and number < 5 else row
        for one in done
        for number, row in enumerate(one.requests)
    ]
    fewer = [Done(one.cell, one.summary, [row for row in refused if row.cell == one.cell.name]) for one in done]
    results = PART.results(fewer, study)
    (found,) = [finding for finding in results.findings if "failed" in finding.text]
    assert found.text == "Requests failed and are in no figure: 5 of 12 in remote (mostly HTTP 429: busy)."
    assert found.answers and found.evidence == [REMOTE]
    stages = {row["place"]: (row["requests"], row["failed"]) for row in results.tables[0].rows}
    assert stages[REMOTE] == ("7", "5") and stages[LOCAL] == ("12", "0")


def test_tables_charts_and_findings(measured: tuple[Study, list[Done], Path]) -> None:
    study, done, _ = measured
    results = PART.results(done, study)
    assert {table.name for table in results.tables} == {"places_stages", "places_spread", "places_links", "places_costs"}
    spread = next(table for table in results.tables if table.name == "places_spread")
    assert {row["time"] for row in spread.rows if row["place"] == LOCAL} == {"upload", "prediction", "in the service", "download", "total"}
    assert all(row["mean"] and row["p99"] and row["standard deviation"] and row["skewness"] and row["kurtosis"] for row in spread.rows)
    costs = next(table for table in results.tables if table.name == "places_costs").rows
    assert len(costs) == 1 and costs[0]["energy per request"].endswith(" J")  # the local place's power and price are not known
    assert costs[0]["price of 1000 requests"].startswith("EUR 0.")
    assert "offload" in results.findings[0].text.lower()
    for chart in results.charts:
        assert cv2.imdecode(np.frombuffer(vl_convert.vegalite_to_png(chart.spec), np.uint8), cv2.IMREAD_COLOR) is not None


@pytest.mark.parametrize(
    ("there_s", "faster", "says"),
    [
        (0.08, "remote", r"Remote is faster over far \(95 % confidence: by 19\.\d ms to 20\.\d ms\)\."),
        (0.12, "local", r"Local is faster than remote over far \(95 % confidence: by 19\.\d ms to 20\.\d ms\)\."),
        (0.1001, "neither", r"No difference between local and remote can be measured over far\."),
    ],
)
def test_which_is_faster_over_a_link(make_study: Callable[..., Study], there_s: float, faster: str, says: str) -> None:
    def rows(time_s: float) -> list[RequestRecord]:
        sizes: dict[str, Any] = {"sent_bytes": 75_000, "received_bytes": 15_000}
        times = [time_s + 0.0002 * (k // 4) for k in range(20)]
        return [RequestRecord(sample=str(k % 4), round_trip_s=one, server_s=0.01, **sizes) for k, one in enumerate(times)]

    link = dataclasses.asdict(LinkSpec("far", rtt_s=0.02))
    times_s = {IN_PROCESS: 0.1, REMOTE: 0.05, f"{REMOTE}-far": there_s}
    done = [
        Done(cell, {"link": link if cell.name.endswith("far") else None}, rows(times_s[cell.name]))
        for cell in PART.cells(make_study())
        if cell.name in times_s
    ]
    results = PART.results(done, make_study())
    (found,) = [one for one in results.findings if " over far" in one.text]
    assert re.fullmatch(says, found.text) and found.answers and found.evidence == [f"{REMOTE}-far"]
    assert [table.rows[0]["faster"] for table in results.tables if table.name == "places_links"] == [faster]


def test_results_of_any_subset(measured: tuple[Study, list[Done], Path]) -> None:
    study, done, _ = measured
    assert PART.results([], study).tables == []
    for one in done:
        results = PART.results([one], study)
        assert results.tables and all(finding.verdict != "contradicted" for finding in results.findings)


def test_break_even_is_confirmed_on_both_sides(
    make_study: Callable[..., Study], measured: tuple[Study, list[Done], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local place that takes 100 ms more, by sleeping."""
    _, done, folder = measured
    try:
        with shaped(LinkSpec("try", 1e9), "http://127.0.0.1:1"):
            pass
    except UserError as error:
        missing(f"{error} (tests of links: sudo, apt-get install -y iproute2)")
    work = places._InProcess.exchange

    def sleepy(self: Any, request: Any) -> Any:
        time.sleep(0.1)
        exchange = work(self, request)
        return dataclasses.replace(exchange, sent_at=exchange.sent_at - 0.1)

    monkeypatch.setattr(places._InProcess, "exchange", sleepy)
    study = make_study()
    names = (IN_PROCESS, REMOTE, ABOVE, BELOW)
    results = PART.results(measure(study, folder.with_name("confirmed"), *names), study)
    assert results.findings[0].text.startswith("Offload pays above ")
    (found,) = [finding for finding in results.findings if "predicted break-even" in finding.text]
    assert found.verdict == "supported" and found.evidence == [ABOVE, BELOW], found.text
    assert "places_bandwidth" in {chart.name for chart in results.charts}


@pytest.fixture
def confirmations(make_study: Callable[..., Study]) -> Callable[..., list[str]]:
    """Verdicts on a break-even of 8 Mbit/s and the frames, where the local place takes so many times its 100 ms in the cells that
    confirm it, the service so many times its 10, and the link so many seconds more than the model has it."""

    def rows(cell: str, place: str, local: bool, time_s: float, server_s: float) -> list[RequestRecord]:
        size: dict[str, Any] = {} if local else {"sent_bytes": 75_000, "received_bytes": 15_000}
        times = [time_s * (1 + 0.002 * (k % 5)) for k in range(20)]
        return [
            RequestRecord(cell=f"{cell}{place}", sample=str(k % 4), round_trip_s=one, server_s=one if local else server_s, **size)
            for k, one in enumerate(times)
        ]

    def verdicts(slower_local: float = 1.0, slower_server: float = 1.0, late_s: float = 0.0) -> list[str]:
        done = []
        for cell in PART.cells(make_study()):
            if cell.name in (IN_PROCESS, REMOTE):
                local = cell.name == IN_PROCESS
                own = rows(cell.name, "", local, 0.1 if local else 0.01, 0.01)
                done.append(Done(cell, {}, own))
            elif cell.name in (ABOVE, BELOW):
                bps = cell.settings["factor"] * 8e6 * 1514 / 1448
                there_s = 0.01 * slower_server + late_s + 0.09 / cell.settings["factor"]
                own = rows(cell.name, f"/{IN_PROCESS}", True, 0.1 * slower_local, 0.0)
                own += rows(cell.name, f"/{REMOTE}", False, there_s, 0.01 * slower_server)
                link = dataclasses.asdict(LinkSpec(cell.name, bps, bps))
                done.append(Done(cell, {"link": link}, own))
        return [str(one.verdict) for one in PART.results(done, make_study()).findings if "predicted break-even" in one.text]

    return verdicts


def test_a_confirmation_is_judged_by_the_machine_as_it_was_then(confirmations: Callable[..., list[str]]) -> None:
    assert confirmations() == ["supported"]
    assert confirmations(late_s=0.05) == ["contradicted"] and confirmations(late_s=-0.05) == ["contradicted"]
    assert confirmations(slower_local=1.1) == confirmations(slower_local=0.9) == ["supported"]
    assert confirmations(slower_local=1.1, slower_server=1.1) == ["supported"]
    assert confirmations(slower_local=1.3) == confirmations(slower_local=0.7) == ["not testable"]
    assert confirmations(slower_local=0.05) == ["not testable"]  # no link would be fast enough
    assert confirmations(slower_server=4.0) == ["not testable"]  # the local place is as fast as it was, and the break-even another


def test_nothing_to_confirm_where_it_never_pays(make_study: Callable[..., Study], tmp_path: Path) -> None:
    study = make_study()
    study.parts["places"]["rtt_ms"] = 500
    done = measure(study, tmp_path, IN_PROCESS, REMOTE, ABOVE)
    assert "there is no break-even to confirm: offload never pays over a round trip of 500 ms" in done[-1].summary["reason"]
    assert any(finding.verdict == "not testable" for finding in PART.results(done, study).findings)


def test_confirming_needs_what_it_confirms(make_study: Callable[..., Study], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="just-above needs what in-process measures"):
        measure(make_study(), tmp_path, ABOVE)


def test_a_link_that_drops_in_the_middle(make_study: Callable[..., Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    exchange = Connection.exchange

    def cut(self: Any, request: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3 + 5:  # warm-up, four that are answered, and this one
            for child in psutil.Process().children():
                if "yoloperf.offload.proxy" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)
        return exchange(self, request)

    monkeypatch.setattr(Connection, "exchange", cut)
    with pytest.raises(UserError, match=r"remote-far: no answers any more after 4 of 12 .*; the 4 answers before it are in .*requests.csv"):
        measure(make_study(), tmp_path, f"{REMOTE}-far")
    rows = from_csv(RequestRecord, (tmp_path / f"{REMOTE}-far" / "requests.csv").read_text())
    assert [row.error is None for row in rows] == [True] * 4 + [False] * 3


def test_a_service_that_is_down(make_study: Callable[..., Study], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not tell its models"):
        measure(make_study(remote=Place("remote", url="http://127.0.0.1:9")), tmp_path, REMOTE)


def test_a_service_of_another_kind_is_not_measured(make_study: Callable[..., Study], live: Live, tmp_path: Path) -> None:
    with (
        service_that_says(lambda: b'{"ok": true}') as url,
        pytest.raises(UserError, match="does not tell its models .*: is yoloperf's service running there"),
    ):
        measure(make_study(remote=Place("remote", url=url)), tmp_path, REMOTE)
    with pytest.raises(UserError, match="unknown model at .* 'other'"):
        measure(make_study(model="other=w.pt"), tmp_path, REMOTE)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"picture": 3}, "did you mean 'pictures'"),
        ({"rounds": 0}, "rounds must be a number above 0"),
        ({"pictures": 2.5}, "pictures must be a whole number"),
        ({"rtt_ms": -1}, "rtt_ms must be a number"),
        ({"down_over_up": math.nan}, "down_over_up must be a number"),
        ({"above": 0.9}, "below must be less than 1 and above more"),
        ({"timeout_s": "long"}, "timeout_s must be a number"),
    ],
)
def test_settings_that_make_no_sense(make_study: Callable[..., Study], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PART.cells(make_study(parts={"places": settings}))


def test_cells_change_with_what_decides_them(make_study: Callable[..., Study]) -> None:
    def settings(study: Study) -> list[Cell]:
        return PART.cells(study)

    assert settings(make_study()) == settings(make_study())
    assert settings(make_study()) != settings(make_study(seed=1))
    local, remote = make_study().local, make_study().remote
    assert settings(make_study()) != settings(make_study(local=dataclasses.replace(local, threads=2)))
    stated = dataclasses.replace(remote, power_w=90.0, price_per_hour=0.1, currency="USD")
    assert settings(make_study()) == settings(make_study(remote=stated))
