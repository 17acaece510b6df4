"""One pre-encoded request over one kept connection: sent, timed by this machine's clock, taken apart afterwards.

The standard library's HTTP client reads the answers: of those at hand it costs a load generator least (bench/load.py), and a client
that shares cores with the service that it measures must cost little. It would send head and body apart, which wakes the service twice,
so that what is sent is put together here.
"""

import contextlib
import http.client
import json
import select
import socket
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from yoloperf.core.request import RequestRecord

_BOUNDARY = "yoloperf-part"
_PLACE = "127.0.0.1:12345"  # as long as a host's name is taken to be
_MOST_S = 1e12  # of a time: no clock says more, and what is infinite or no number at all is not less
_STAGES = ("queue_s", "decode_s", "preprocess_s", "inference_s", "postprocess_s", "encode_s")


@dataclass(frozen=True)
class Request:
    """A request as bytes. sample: name of the first file; items: how many files."""

    path: str
    headers: dict[str, str]
    body: bytes
    sample: str
    items: int

    def message(self, place: str, base: str = "") -> bytes:
        """Head and body as they are sent to the host and port `place`, the path below `base`."""
        headers = {"Host": place, "Content-Length": str(len(self.body)), **self.headers}
        lines = [f"POST {base}{self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body

    @property
    def sent_bytes(self) -> int:
        """Head and body; the head to within the length of the host's name."""
        return len(self.message(_PLACE))


def encode(path: str, files: Sequence[tuple[str, bytes]], fields: dict[str, str], token: str | None = None) -> Request:
    """A POST of files (name, content) with form fields, as multipart/form-data."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()
    ]
    for number, (name, content) in enumerate(files):
        quoted = urllib.parse.quote(name, safe=" ")
        head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file{number}"; filename="{quoted}"\r\n'
        parts += [f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(), content, b"\r\n"]
    body = b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return Request(path, headers, body, files[0][0], len(files))


@dataclass(frozen=True)
class Exchange:
    """What came of a request. Times are this machine's monotonic seconds, which every process on it shares and nobody sets; sent_unix:
    sent_at by the clock that can be held against a service's, None where nothing was sent; payload: the answer's JSON, whatever it
    is, None where it is none; status: None where no answer came, and then `error` says why."""

    request: Request
    sent_at: float
    done_at: float
    status: int | None
    payload: Any
    received_bytes: int
    node: str | None
    error: str | None
    sent_unix: float | None = None

    def record(
        self, number: int, start_at: float, due_at: float | None = None, cell: str = "", offset_s: float | None = None
    ) -> RequestRecord:
        """start_at: begin of the run, due_at: when the request was to be sent (None: when it was), monotonic seconds of this machine;
        offset_s: the service's clock less this one's, both in unix seconds."""
        due_at = self.sent_at if due_at is None else due_at
        told = _mapping(self.payload)
        timing = _mapping(told.get("timing"))
        receive_s, total_s = _number(timing.get("receive_s")), _number(timing.get("total_s"))
        received_at, answered_at = _number(told.get("received_at")), _number(told.get("answered_at"))
        batch_size = timing.get("batch_size")
        upload_s = download_s = server_s = None
        if receive_s is not None and total_s is not None:
            server_s = total_s - receive_s
        if not (offset_s is None or self.sent_unix is None or received_at is None or receive_s is None or answered_at is None):
            upload_s = received_at + receive_s - offset_s - self.sent_unix
            # not what the other stages leave of the round trip: time that none of them accounts for is to be seen
            download_s = self.sent_unix + (self.done_at - self.sent_at) - (answered_at - offset_s)
        return RequestRecord(
            cell=cell,
            number=number,
            sample=self.request.sample,
            items=self.request.items,
            due_s=due_at - start_at,
            sent_s=self.sent_at - start_at,
            done_s=self.done_at - start_at,
            latency_s=self.done_at - due_at,
            round_trip_s=self.done_at - self.sent_at,
            sent_bytes=self.request.sent_bytes,
            received_bytes=self.received_bytes,
            status=self.status,
            error=self.error,
            upload_s=upload_s,
            server_s=server_s,
            download_s=download_s,
            batch_size=batch_size if type(batch_size) is int else None,
            node=self.node,
            clock_offset_s=offset_s,
            **{stage: _number(timing.get(stage)) for stage in _STAGES},
        )


class Connection:
    """A kept connection to a service; for one thread. A broken one is opened anew by the next request."""

    def __init__(self, url: str, timeout_s: float = 30.0) -> None:
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._base, self._place = parts.path.rstrip("/"), parts.netloc.rpartition("@")[2]
        self._http = kind(parts.hostname or "", parts.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def open(self) -> None:
        """Connect now, so that the first request does not pay for it. Raises OSError."""
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def try_open(self) -> None:
        """`open`, and what is wrong is left for the next request to say."""
        with contextlib.suppress(OSError):
            self.open()

    def exchange(self, request: Request) -> Exchange:
        """Send it and wait for the whole answer. Never raises for what the network or the service does."""
        status, content, node, error = None, b"", None, None
        head_bytes = 0
        sent_unix, sent_at = time.time(), time.monotonic()
        try:
            if self._http.sock is not None and select.select([self._http.sock], [], [], 0)[0]:
                self._http.close()  # the service closed it while nothing was asked
            if self._http.sock is None:
                self.open()
            self._http.sock.sendall(request.message(self._place, self._base))
            response = http.client.HTTPResponse(self._http.sock, method="POST")
            response.begin()
            status, node = response.status, response.headers.get("X-Served-By")
            lines = [f"HTTP/1.1 {status} {response.reason}", *(f"{name}: {value}" for name, value in response.headers.items()), ""]
            head_bytes = sum(len(line) + 2 for line in lines)
            content = response.read()
            if response.will_close:
                self._http.close()
        except (OSError, http.client.HTTPException) as problem:
            self._http.close()
            error = f"{type(problem).__name__}: {problem}".rstrip(": ")
        done_at = time.monotonic()
        payload = None
        if error is None:
            try:
                payload = json.loads(content)
            except (ValueError, RecursionError):
                error = f"HTTP {status}, and no JSON"
            else:
                error = None if status == 200 else _why(status, payload)
        return Exchange(request, sent_at, done_at, status, payload, head_bytes + len(content), node, error, sent_unix)


def _why(status: int | None, payload: Any) -> str:
    told = _mapping(payload).get("error")
    return f"HTTP {status}: {told.get('message')}" if isinstance(told, dict) else f"HTTP {status}"


def _mapping(value: Any) -> dict[str, Any]:
    """Empty where it is none: a service that is not ours may answer anything."""
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST_S
    return float(value) if known else None
