"""The rates and delays are measured, with plain sockets on both sides."""

import os
import signal
import socket
import socketserver
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.conftest import missing
from yoloperf.core.errors import UserError
from yoloperf.offload.link import shaped
from yoloperf.offload.study import LinkSpec


class _Counting(socketserver.BaseRequestHandler):
    """Reads an 8-byte size to take and one to give, takes, gives; again until the client leaves."""

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := self.request.recv(16, socket.MSG_WAITALL):
            take, give = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
            _take(self.request, take)
            self.request.sendall(b"g" * give)


def _take(connection: socket.socket, count: int) -> None:
    while count:
        got = len(connection.recv(min(count, 65536)))
        assert got, "the connection ended early"
        count -= got


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections end as they please."""


@pytest.fixture(scope="module")
def counting() -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Counting) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def permitted(counting: str) -> None:
    """Links with rates can be made here."""
    try:
        with shaped(LinkSpec("try", up_bps=1e9), counting):
            pass
    except UserError as error:
        missing(f"{error} (tests of links: sudo, apt-get install -y iproute2)")


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def exchange_s(connection: socket.socket, give: int, take: int) -> float:
    start = time.perf_counter()
    connection.sendall(give.to_bytes(8, "big") + take.to_bytes(8, "big") + b"c" * give)
    _take(connection, take)
    return time.perf_counter() - start


@pytest.mark.parametrize(("up_bps", "down_bps"), [(4e6, 4e6), (2e6, 40e6), (100e6, 10e6)])
@pytest.mark.usefixtures("permitted")
def test_rates_are_those_asked_for(counting: str, up_bps: float, down_bps: float) -> None:
    with shaped(LinkSpec("l", up_bps, down_bps), counting) as url, connected(url) as connection:
        exchange_s(connection, 30_000, 30_000)
        up, down = (int(rate / 8 * 0.2) for rate in (up_bps, down_bps))
        up_s = statistics.median(exchange_s(connection, up, 1) for _ in range(3))
        down_s = statistics.median(exchange_s(connection, 1, down) for _ in range(3))
        assert 8 * up / up_s == pytest.approx(up_bps, rel=0.1)
        assert 8 * down / down_s == pytest.approx(down_bps, rel=0.1)


@pytest.mark.parametrize("rtt_s", [0.004, 0.05, 0.2])
def test_delay_needs_no_rights_and_is_the_one_asked_for(counting: str, rtt_s: float) -> None:
    with connected(counting) as connection:
        bare_s = statistics.median(exchange_s(connection, 100, 100) for _ in range(20))
    with shaped(LinkSpec("l", rtt_s=rtt_s), counting) as url, connected(url) as connection:
        assert url.startswith("http://127.0.0.1:")
        seen_s = statistics.median(exchange_s(connection, 100, 100) for _ in range(5))
    assert seen_s - bare_s == pytest.approx(rtt_s, abs=max(0.2 * rtt_s, 0.003))


def test_what_is_on_its_way_does_not_wait_for_what_went_before(counting: str) -> None:
    with shaped(LinkSpec("l", rtt_s=0.1), counting) as url, connected(url) as connection:
        assert exchange_s(connection, 20_000_000, 20_000_000) < 5  # 305 chunks of 64 KiB each way; 30 s if each waited


@pytest.mark.usefixtures("permitted")
def test_rate_and_delay_add_up(counting: str) -> None:
    with shaped(LinkSpec("l", 8e6, 8e6, 0.06), counting) as url, connected(url) as connection:
        exchange_s(connection, 1000, 1000)
        assert exchange_s(connection, 100_000, 50_000) == pytest.approx(0.15 * 1514 / 1448 + 0.06, rel=0.1)


@pytest.mark.usefixtures("permitted")
def test_links_beside_each_other(counting: str) -> None:
    with shaped(LinkSpec("a", 8e6), counting) as one, shaped(LinkSpec("b", 2e6), counting) as two:
        assert one != two
        with connected(one) as fast, connected(two) as slow:
            assert exchange_s(fast, 200_000, 1) == pytest.approx(0.2, rel=0.15)
            assert exchange_s(slow, 100_000, 1) == pytest.approx(0.4, rel=0.15)


def links_of(process: psutil.Process) -> list[str]:
    return [f"yp{child.pid}" for child in process.children(recursive=True)]


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def gone(name: str) -> bool:
    for _ in range(100):
        if name not in interfaces():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.usefixtures("permitted")
def test_nothing_is_left(counting: str) -> None:
    with shaped(LinkSpec("l", 8e6), counting):
        (name,) = interfaces() & set(links_of(psutil.Process()))
    assert gone(name)


@pytest.mark.usefixtures("permitted")
def test_nothing_is_left_by_one_that_is_killed(counting: str) -> None:
    code = (
        "from yoloperf.offload.link import shaped; from yoloperf.offload.study import LinkSpec; import time\n"
        f"with shaped(LinkSpec('l', 8e6), {counting!r}) as url: print(url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline()
        (name,) = interfaces() & set(links_of(psutil.Process(process.pid)))
        process.kill()
    assert gone(name)


def proxy() -> psutil.Process:
    (found,) = [child for child in psutil.Process().children() if "yoloperf.offload.proxy" in child.cmdline()]
    return found


def test_a_link_that_breaks_is_named(counting: str) -> None:
    with (
        pytest.raises(UserError, match="link hut broke"),
        shaped(LinkSpec("hut", rtt_s=0.01), counting) as url,
        connected(url) as connection,
    ):
        exchange_s(connection, 10, 10)
        os.kill(proxy().pid, signal.SIGKILL)
        with pytest.raises((OSError, AssertionError)):
            exchange_s(connection, 10, 10)
        time.sleep(0.2)  # the kernel closes its sockets before it lets go of it


def test_a_service_that_is_not_there_ends_the_connection(counting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with shaped(LinkSpec("l", rtt_s=0.01), f"http://127.0.0.1:{port}") as url, connected(url) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("spec", "url", "told"),
    [
        (LinkSpec("l", up_bps=0), "http://127.0.0.1:1", "up must be a positive number"),
        (LinkSpec("l", down_bps=-3e6), "http://127.0.0.1:1", "down must be a positive number"),
        (LinkSpec("l", up_bps=float("nan")), "http://127.0.0.1:1", "up must be a positive number"),
        (LinkSpec("l", rtt_s=-0.1), "http://127.0.0.1:1", "rtt must not be negative"),
        (LinkSpec("l"), "https://example.com", "only a plain http:// service"),
        (LinkSpec("l"), "127.0.0.1:80", "only a plain http:// service"),
    ],
)
def test_what_makes_no_link(spec: LinkSpec, url: str, told: str) -> None:
    with pytest.raises(UserError, match=told), shaped(spec, url):
        pass


def test_without_the_right_the_way_out_is_named(counting: str) -> None:
    """As another user, where this one is root."""
    code = (
        "import os, sys\nfrom yoloperf.offload import proxy\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "from yoloperf.core.errors import exit_code\n"
        "sys.exit(exit_code('link', lambda: proxy._main(['127.0.0.1', '1', '1e6', '1e6', '0'])))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Operation not permitted" in done.stderr and "sudo" in done.stderr
