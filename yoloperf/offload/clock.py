"""How far the service's clock is from this machine's: estimated, never assumed to be nothing."""

import http.client
import json
import math
import time
import urllib.parse
from dataclasses import dataclass

from yoloperf.core.errors import UserError

_PATH = "/api/clock"
_STEADY = 500e-6  # seconds a second: the fastest that NTP turns a clock (RFC 5905, section 12); faster is a clock that was set
_READING_S = 1e-6  # a time in Unix seconds has some 0.2 us as a float, and clocks are read to the microsecond


@dataclass(frozen=True)
class Alignment:
    """The service's clock less this machine's over a measurement, right to within error_s; None where it cannot be said, and then
    `reason` is the line that says why."""

    offset_s: float | None
    error_s: float | None
    reason: str | None = None


def estimate_offset(url: str, probes: int = 20, token: str | None = None, timeout_s: float = 10.0) -> tuple[float, float] | None:
    """(offset_s, error_s): the service's clock less this machine's, and how wrong that may be; None where no /api/clock is.

    NTP's formula (RFC 5905, section 8) on the probe of least delay: offset ((t2 - t1) + (t3 - t4)) / 2, wrong by at most half of
    the delay (t4 - t1) - (t3 - t2), however unlike the two ways are. Raises UserError where nobody answers.
    """
    parts = urllib.parse.urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = []
    try:
        connection.connect()
        for _ in range(probes):
            sent_at, start = time.time(), time.perf_counter()
            connection.request("GET", parts.path.rstrip("/") + _PATH, headers=headers)
            response = connection.getresponse()
            content = response.read()
            took_s = time.perf_counter() - start
            times = _times(content) if response.status == 200 else None
            if times is None:
                return None
            received_at, answered_at = times
            delay_s = max(took_s - (answered_at - received_at), 0.0)
            found.append((delay_s, ((received_at - sent_at) + (answered_at - sent_at - took_s)) / 2))
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"{url} does not tell its clock ({error or type(error).__name__}): is the service running there?") from error
    finally:
        connection.close()
    delay_s, offset_s = min(found)
    return offset_s, delay_s / 2 + _READING_S


def aligned(before: tuple[float, float] | None, after: tuple[float, float] | None, elapsed_s: float) -> Alignment:
    """From the estimates before and after a measurement of elapsed_s. A clock that merely goes a little fast or slow is taken at its
    middle; one that was set meanwhile gives no offset."""
    if before is None or after is None:
        return Alignment(None, None, f"the service has no {_PATH}: upload and download cannot be told apart")
    moved_s, error_s = abs(after[0] - before[0]), max(before[1], after[1])
    if moved_s > before[1] + after[1] + _STEADY * elapsed_s:
        return Alignment(None, None, f"a clock was set meanwhile, by {moved_s:.3g} s: upload and download cannot be told apart")
    return Alignment((before[0] + after[0]) / 2, error_s + moved_s / 2)


def _times(content: bytes) -> tuple[float, float] | None:
    """None for what no /api/clock says: another server's page, or numbers that are no times."""
    try:
        payload = json.loads(content)
        received_at, answered_at = float(payload["received_at"]), float(payload["answered_at"])
    except (ValueError, KeyError, TypeError):
        return None
    return (received_at, answered_at) if math.isfinite(received_at) and answered_at >= received_at else None
