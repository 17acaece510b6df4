"""The HTTP server: uvicorn, with bounds on a request's head and an end that nobody notices."""

import asyncio
import contextlib
import signal
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from yoloperf.service.settings import Settings

_HEAD_BYTES = 32_768
_HEAD_S = 10.0
_IDLE_S = 75  # longer than nginx keeps a connection to a replica (60 s), so that nginx is the one to close it
_CONNECTIONS = 2048


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn waits for ever for the first request's head and takes one of any length; this does not."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._head_timer.cancel()
        self._head_timer = self.loop.call_later(_HEAD_S, self.transport.abort)

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_timer.cancel()
        super().on_headers_complete()

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > _HEAD_BYTES:
            raise ValueError("the head of the request is too long")  # becomes a 400


class Server(uvicorn.Server):
    """On SIGTERM it says on /readyz that it is about to end, goes on answering for `drain_s`, finishes what it has and ends with
    exit code 0. On SIGINT, or a second SIGTERM, it does not wait for load balancers to look."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=_IDLE_S,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=int(settings.limits.answer_s),
            )
        )
        self.readiness, self.drain_s = app.state.readiness, settings.drain_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            super().handle_exit(sig, frame)
        elif sig == signal.SIGTERM and not self.readiness.draining and self.drain_s:
            self.readiness.draining = True
            asyncio.get_running_loop().call_later(self.drain_s, self._end)
        else:
            self.readiness.draining = True
            self._end()

    def _end(self) -> None:
        self.should_exit = True


def serve(app: FastAPI, settings: Settings) -> None:
    """Until a signal ends it."""
    with contextlib.suppress(KeyboardInterrupt):
        Server(app, settings).run()
