"""One pass of requests over one link: one connection, the next request when the answer is there, both clocks aligned."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yoloperf.core.errors import UserError
from yoloperf.core.request import RequestRecord
from yoloperf.offload.clock import aligned, estimate_offset
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import Exchange, Request
from yoloperf.offload.link import shaped
from yoloperf.offload.study import LinkSpec, Study

_WARM_UP = 2  # requests: the connection is opened and its window grows; they are in no record
_TIMEOUT_S = 60.0
_SEPARATOR = "@"  # between cell and link in a record; in no name of either


@dataclass(frozen=True)
class Pass:
    """records: of all requests but the warm-up; reason: why a part or all of them brought nothing, in a line; clock: why upload and
    download are not told apart, or None; clock_error_s: how wrong they may be."""

    records: list[RequestRecord]
    reason: str | None
    clock: str | None
    clock_error_s: float | None


def links_of(study: Study) -> list[LinkSpec]:
    """The way to the service as it is, then the study's links. Raises UserError where one has the first one's name."""
    own = LinkSpec("direct" if study.remote.url else "loopback")
    if own.name in {link.name for link in study.links}:
        raise UserError(f"links: {own.name} is the name of the way without a link: choose another")
    return [own, *study.links]


def link_of(record: RequestRecord) -> str:
    """Name of the link that `send` sent it over."""
    return (record.cell or "").rpartition(_SEPARATOR)[2]


def send(cell: str, link: LinkSpec, url: str, requests: Sequence[Request], count: int, most_s: float | None = None) -> Pass:
    """Send `count` requests, those of `requests` in turn; none is begun after most_s seconds. The records' cell is CELL@LINK.

    Raises UserError where the link cannot be made or the service is down; where either breaks in the middle, it is a reason.
    """
    start, before, after = time.perf_counter(), estimate_offset(url), None
    exchanges: list[Exchange] = []
    broke: UserError | None = None
    try:
        with _way(link, url) as way:
            exchanges = closed_loop(
                way, requests, _WARM_UP + count, timeout_s=_TIMEOUT_S, duration_s=most_s, progress=f"{cell} {link.name}"
            )
        after = estimate_offset(url)
    except UserError as error:
        if not exchanges:
            raise
        broke = error  # what came before is kept
    alignment = aligned(before, after, time.perf_counter() - start)
    kept = exchanges[_WARM_UP:]
    if not kept:
        raise UserError(f"{len(exchanges)} requests took {most_s:g} s: send smaller ones, or allow more seconds")
    records = [
        exchange.record(number, kept[0].sent_at, cell=f"{cell}{_SEPARATOR}{link.name}", offset_s=alignment.offset_s)
        for number, exchange in enumerate(kept)
    ]
    errors = [record.error for record in records if record.error]
    reason = str(broke) if broke else None
    if errors:
        reason = f"{len(errors)} of {len(records)} requests failed: {errors[0]}"
    return Pass(records, reason, alignment.reason, alignment.error_s)


@contextlib.contextmanager
def _way(link: LinkSpec, url: str) -> Iterator[str]:
    if link == LinkSpec(link.name):
        yield url
    else:
        with shaped(link, url) as way:
            yield way
