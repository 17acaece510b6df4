"""What a request's answer comes to, whatever the service says."""

from pathlib import Path
from typing import Any

import pytest

from tests.service.standin import StandIn
from yoloperf.core.record import from_csv, to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.offload.exchange import Connection, Exchange, encode
from yoloperf.offload.loadgen import Load, run

REQUEST = encode("/api/detect", [("a.jpg", b"0123")], {})
GARBAGE: list[Any] = [
    {"timing": 12.5},
    {"timing": None},
    {"timing": [1]},
    {"timing": {"receive_s": "a", "total_s": 1}},
    {"timing": {"receive_s": 0.1, "total_s": None, "batch_size": 1.5}},
    {"timing": {"receive_s": True, "total_s": float("inf"), "inference_s": float("nan"), "decode_s": 10**400}},
    {"timing": {"receive_s": 0.1, "total_s": 0.2}, "received_at": "now"},
    {"timing": {"receive_s": 0.1, "total_s": 0.2}, "received_at": 10.0},
    {"timing": {"receive_s": 0.1, "total_s": 0.2}},
    [1, 2],
    "yes",
    None,
]


@pytest.mark.parametrize("answer", GARBAGE)
def test_an_answer_that_says_nothing_of_its_times_has_none(answer: Any) -> None:
    row = Exchange(REQUEST, 10.0, 10.5, 200, answer, 9, None, None, 10.0).record(0, 10.0, cell="x", offset_s=0.0)
    assert row.round_trip_s == 0.5 and row.upload_s is None and row.download_s is None and row.inference_s is None
    assert row.batch_size is None and row.decode_s is None
    assert from_csv(RequestRecord, to_csv(RequestRecord, [row])) == [row]


@pytest.mark.parametrize("answer", [{"timing": 12.5}, {"timing": {"receive_s": "a"}}, [1, 2], None])
def test_a_load_on_a_service_of_another_kind_is_kept(answer: Any, tmp_path: Path) -> None:
    with StandIn() as node:
        node.refuse = lambda names: (200, {}, answer)
        outcome = run(f"http://{node.address}", [REQUEST], Load("single_stream", 0.2), tmp_path, offset_s=0.0, progress=None)
    assert outcome.records and all(record.error is None and record.status == 200 for record in outcome.records)


def test_any_json_is_an_answer() -> None:
    with StandIn() as node, Connection(f"http://{node.address}", 10) as connection:
        node.refuse = lambda names: (200, {}, [1])
        exchange = connection.exchange(REQUEST)
        assert (exchange.error, exchange.payload) == (None, [1])
        node.refuse = lambda names: (503, {}, [1])
        assert connection.exchange(REQUEST).error == "HTTP 503"
