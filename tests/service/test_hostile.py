"""Whatever is sent is answered with 4xx, soon, by a service that goes on. YOLOPERF_HOSTILE=10000 sends more of it."""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.service.conftest import picture
from tests.service.hostile import request
from tests.service.live import Live, Spawned

COUNT = int(os.environ.get("YOLOPERF_HOSTILE", "400"))
SOON_S = 5
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def service(weights: Path, image_root: Path) -> Iterator[Spawned]:
    flags = ("--model", str(weights), "--runtime", "torch", "--image-root", str(image_root), "--drain-s", "0")
    with Spawned(*flags) as spawned:
        yield spawned


def ask(place: tuple[str, int], data: bytes, whole: bool) -> tuple[int, float]:
    """Status, 0 where the connection was closed without an answer, and seconds until then."""
    start = time.monotonic()
    answer = b""
    try:
        with socket.create_connection(place, SOON_S) as stream:
            stream.sendall(data)
            if not whole:  # there is nothing to wait for
                stream.shutdown(socket.SHUT_WR)
            while len(answer) < 12 and (more := stream.recv(4096)):
                answer = (answer + more).removeprefix(CONTINUE)
    except ConnectionError:  # refused before all was read
        pass
    return int(answer[9:12] or 0), time.monotonic() - start


def test_hostile_requests(service: Spawned) -> None:
    def send(number: int) -> tuple[str, int]:
        kind, data = request(number)
        status, seconds = ask(service.place, data, whole=kind != "bad_http")
        assert seconds < SOON_S, (number, kind)
        assert 200 <= status < 500 and status != 408 or (status == 0 and kind == "bad_http"), (number, kind, status)
        return kind, status

    def wave(numbers: range) -> Counter[tuple[str, int]]:
        with ThreadPoolExecutor(4) as pool:
            return Counter(pool.map(send, numbers))

    wave(range(COUNT, COUNT + 100))
    before = service.rss_bytes()
    seen = wave(range(COUNT))
    assert service.rss_bytes() - before < 64 * 2**20, "memory grows"
    refused = sum(count for (_, status), count in seen.items() if status >= 400)
    assert refused > COUNT / 2, seen
    assert not any(status == 200 for kind, status in seen if kind in ("bad_path", "bad_kind"))
    good = service.client.post("/api/detect", files={"image": ("x.jpg", picture(1))})
    assert good.status_code == 200
    assert not any("Traceback" in line for line in service.log), "".join(service.log)


def test_ends_well_after_all_that(service: Spawned) -> None:
    service.process.terminate()
    assert service.process.wait(20) == 0


def test_head_that_never_ends_is_given_up(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yoloperf.service.server._HEAD_S", 0.3)
    for start in (b"", b"GET / HTTP/1.1\r\nX-Slow: "):
        with socket.create_connection(live.bound.getsockname(), 5) as stream:
            stream.sendall(start)
            start_s = time.monotonic()
            with suppress(ConnectionResetError):
                assert stream.recv(100) == b""
            assert time.monotonic() - start_s < 3


@pytest.mark.parametrize(
    "length, more", [(1000, b"a"), (0, b"\r\n"), (0, b"")], ids=["rest of a body", "what begins no request", "nothing"]
)
def test_connection_on_which_no_request_comes_is_closed(live: Live, monkeypatch: pytest.MonkeyPatch, length: int, more: bytes) -> None:
    monkeypatch.setattr("yoloperf.service.server._IDLE_S", 0.3)
    with socket.create_connection(live.bound.getsockname(), 5) as stream:
        stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % length)
        while not (answer := stream.recv(4096)).endswith(b"}"):
            pass
        stream.sendall(more)
        with suppress(ConnectionResetError):
            assert stream.recv(100) == b"", answer


@pytest.mark.parametrize("offer", [b"h2c", b"websocket"])
def test_offer_of_another_protocol_is_not_taken(live: Live, offer: bytes) -> None:
    """The body follows in the head's segment and behind it, and two such requests share a connection."""
    data = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture(1) + b"\r\n--b--\r\n"
    head = b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n"
    asked = head % len(data) + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + offer + b"\r\n\r\n" + data
    both = asked + asked
    with socket.create_connection(live.bound.getsockname(), SOON_S) as stream:
        stream.sendall(both[:-100])
        time.sleep(0.05)
        stream.sendall(both[-100:])
        answer = b""
        while answer.count(b"HTTP/1.1 200 OK") < 2:
            more = stream.recv(65536)
            assert more, answer
            answer += more


def test_tunnel_is_refused(live: Live) -> None:
    status, seconds = ask(live.bound.getsockname(), b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", whole=True)
    assert status == 400 and seconds < SOON_S


def test_openapi_document_is_true(live: Live) -> None:
    """Requests made from the document, valid and invalid, get the statuses, headers and bodies that it states."""
    # what is valid as a document says nothing about whether the bytes are an image, so refusing it is right
    excluded = [schemathesis.checks.positive_data_acceptance]
    document = schemathesis.openapi.from_url(f"{live.url}/openapi.json")
    seen: Counter[tuple[str, int]] = Counter()
    for operation in document.get_all_operations():
        for mode in schemathesis.GenerationMode:

            @given(operation.ok().as_strategy(generation_mode=mode))
            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
            def ask_it(case: schemathesis.Case) -> None:
                response = case.call_and_validate(timeout=SOON_S, excluded_checks=excluded)
                seen[case.path, response.status_code] += 1

            with suppress(Unsatisfiable):  # nothing about a request without parameters can be invalid
                ask_it()
    assert {path for path, _ in seen} == {"/api/detect", "/api/predict", "/api/models", "/api/clock", "/healthz", "/readyz", "/metrics"}
    assert seen["/api/detect", 415] + seen["/api/detect", 422] > 40
