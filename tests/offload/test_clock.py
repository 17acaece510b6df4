import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.live import Live
from yoloperf.core.errors import UserError
from yoloperf.offload.clock import aligned, estimate_offset


@contextmanager
def service_that_says(answer: Callable[[], bytes], status: int = 200, slow_up_s: float = 0.0) -> Iterator[str]:
    """A stand-in whose answers are what `answer` gives, after slow_up_s."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written one by one: the second would wait 40 ms for an ACK

        def do_GET(self) -> None:
            time.sleep(slow_up_s)
            content = answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def clock_off_by(offset_s: float) -> Callable[[], bytes]:
    return lambda: json.dumps({"received_at": time.time() + offset_s, "answered_at": time.time() + offset_s}).encode()


@pytest.mark.parametrize("offset_s", [0.0, 0.003, -95.0, 7 * 3600.0, -86400.0 * 400])
def test_a_wrong_clock_is_found_within_the_bound(offset_s: float) -> None:
    with service_that_says(clock_off_by(offset_s)) as url:
        found = estimate_offset(url)
    assert found
    offset, error = found
    assert abs(offset - offset_s) <= error < 0.05


def test_the_bound_holds_where_only_one_way_is_slow() -> None:
    with service_that_says(clock_off_by(60.0), slow_up_s=0.02) as url:
        found = estimate_offset(url, probes=5)
    assert found
    assert 0.008 < abs(found[0] - 60.0) <= found[1]


def test_the_service_tells_its_clock(live: Live) -> None:
    found = estimate_offset(live.url)
    assert found
    assert abs(found[0]) <= found[1] < 0.05
    times = live.client.get("/api/clock").json()
    assert times["received_at"] <= times["answered_at"] <= time.time()
    assert "/api/clock" in httpx2.get(f"{live.url}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>", 200),
        (b"[]", 200),
        (b"{}", 404),
        (b'{"received_at": "now", "answered_at": 1}', 200),
        (b'{"received_at": NaN, "answered_at": NaN}', 200),
        (b'{"received_at": 2, "answered_at": 1}', 200),
    ],
)
def test_garbage_is_no_clock(content: bytes, status: int) -> None:
    with service_that_says(lambda: content, status) as url:
        assert estimate_offset(url) is None


def test_nobody_there() -> None:
    with service_that_says(lambda: b"") as url:
        pass
    with pytest.raises(UserError, match="does not tell its clock"):
        estimate_offset(url)


@given(st.floats(-1e5, 1e5), st.floats(0, 400e-6), st.floats(1, 3600))
def test_a_clock_that_drifts_is_taken_at_its_middle(offset_s: float, drift: float, elapsed_s: float) -> None:
    found = aligned((offset_s, 1e-4), (offset_s + drift * elapsed_s, 2e-4), elapsed_s)
    assert found.offset_s is not None and found.error_s is not None
    assert abs(found.offset_s - (offset_s + drift * elapsed_s / 2)) < 1e-9
    assert found.error_s >= drift * elapsed_s / 2


def test_a_clock_that_was_set_meanwhile() -> None:
    found = aligned((0.0, 1e-4), (120.0, 1e-4), 10)
    assert found.offset_s is None and found.reason and "a clock was set meanwhile, by 120 s" in found.reason


def test_without_a_clock_there_is_no_offset() -> None:
    assert aligned(None, (0.0, 1.0), 1).reason
