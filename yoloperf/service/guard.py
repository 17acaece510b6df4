"""What surrounds every request: token, foreign pages, security headers, who answered, the line in the log, the counters."""

import hmac
import logging
import time
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from yoloperf.service.metrics import Metrics
from yoloperf.service.refusal import Refused

LOG = logging.getLogger("yoloperf.serve")

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
]


class Guard:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        host, port = scope["server"]
        served_by = (b"x-served-by", f"{host}:{port}".encode())  # behind a balancer nothing else tells the replicas apart

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, served_by]
            await send(message)

        try:
            refused = self._refused(scope)
            if refused:
                await refuse(refused, answer)
            else:
                await self.app(scope, receive, answer)
        finally:
            self._note(scope, status, time.perf_counter() - start)

    def _refused(self, scope: Scope) -> Refused | None:
        headers = dict(scope["headers"])
        if scope["method"] not in ("GET", "HEAD") and _foreign(headers):
            return Refused(403, "cross-site", "another site's page may not do this: open this service's own page")
        given = headers.get(b"authorization", b"")
        if self.expected and needs_token(scope["path"]) and not hmac.compare_digest(given, self.expected):
            return Refused(401, "token", "this service wants its token: send Authorization: Bearer TOKEN")
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts and logs the route, never the path: file names and paths may say whose picture it is."""
        route, method = getattr(scope.get("route"), "path", "other"), scope["method"]
        self.metrics.requests.labels(route, method, status).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        images = scope.get("state", {}).get("images")
        LOG.info("%s %s %d %.1f ms%s", method, route, status, 1000 * seconds, f" {images} images" if images else "")


async def refuse(refused: Refused, send: Send) -> None:
    body = refused.body()
    headers = {**refused.headers(), "Content-Length": str(len(body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def needs_token(path: str) -> bool:
    """All but the page, which holds no data, and what a probe or the writer of a client must reach."""
    return path.startswith("/api/") or path == "/metrics"


def _foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sent this: browsers say so, programs have no reason to."""
    if headers.get(b"sec-fetch-site") == b"cross-site":
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        own = urlsplit(b"//" + headers.get(b"host", b""))
        return urlsplit(origin).hostname != own.hostname
    except ValueError:  # one of them is no address
        return True
