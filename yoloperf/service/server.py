"""The HTTP server: uvicorn, with bounds on a request's head and an end that nobody notices."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import httptools
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from yoloperf.core.errors import UserError
from yoloperf.service.settings import Settings

_HEAD_BYTES = 32_768
_HEAD_S = 10.0
_IDLE_S = 75  # longer than nginx keeps a connection to a replica (60 s), so that nginx is the one to close it
_CONNECTIONS = 2048


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn waits for ever for a request's head and takes one of any length, forgets that a connection is idle at its next byte, and
    loses the body of a request that offers another protocol; this does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._timer = self.loop.call_later(_HEAD_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as offer:
                    rest = memoryview(rest)[offer.args[0] :]
                    self.parser.feed_data(self._head_without_offer())
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._wait(_HEAD_S)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._timer.cancel()
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """From here to the next request time is short, whatever bytes come: the rest of a body that nobody wants, or nothing."""
        last = not self.pipeline or self.transport.is_closing()
        super().on_response_complete()
        if last:
            self._wait(_IDLE_S)

    def _wait(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _head_without_offer(self) -> bytes:
        """A client that offers HTTP/2 or a WebSocket takes HTTP/1.1 as well (RFC 9110, 7.8); one that asks for a tunnel does not."""
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > _HEAD_BYTES:
            raise ValueError("the head of the request is too long")  # becomes a 400


class Server(uvicorn.Server):
    """On SIGTERM it says on /readyz that it is about to end, goes on answering for `drain_s`, finishes what it has and ends with
    exit code 0. On SIGINT, or a second SIGTERM, it does not wait for load balancers to look."""

    def __init__(self, app: FastAPI, settings: Settings, listening: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_IDLE_S,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=int(settings.limits.answer_s),
            )
        )
        self.readiness, self.drain_s, self.listening = app.state.readiness, settings.drain_s, listening
        self.end_at = float("inf")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            super().handle_exit(sig, frame)
        wait_s = self.drain_s if sig == signal.SIGTERM and not self.readiness.draining else 0
        self.readiness.draining = True
        self.end_at = time.monotonic() + wait_s

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self.end_at
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet: whether the port is free is known before models are loaded. Raises UserError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot listen on {host}:{port} ({error}): choose another --host or --port") from error
    return bound


def address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: FastAPI, settings: Settings, bound: socket.socket, listening: Callable[[], None]) -> None:
    """Until a signal ends it. listening: called when requests are answered."""
    Server(app, settings, listening).run([bound])
