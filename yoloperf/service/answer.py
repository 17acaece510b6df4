"""What answers of every route have in common: waiting for the results, and saying what the time went on."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request, Response

from yoloperf.service.batcher import Batcher, Found
from yoloperf.service.limits import Limits
from yoloperf.service.refusal import Refused


@dataclass(frozen=True)
class Arrived:
    """When a request's head came: unix seconds, and by perf_counter."""

    at: float = field(default_factory=time.time)
    start: float = field(default_factory=time.perf_counter)


async def finished(batcher: Batcher, files: list[tuple[str, bytes]], options: Any, limits: Limits, request: Request) -> list[Found]:
    """What became of each (name, content). request: whose body was read. Raises Refused."""
    futures = batcher.submit(files, options)
    results = asyncio.gather(*map(asyncio.wrap_future, futures))
    watch = asyncio.create_task(_left(request))
    watch.add_done_callback(lambda _: results.cancel())
    try:
        async with asyncio.timeout(limits.answer_s):
            return await results
    except TimeoutError as error:
        raise Refused(503, "timeout", "the answer took too long: try again later", retry_after_s=5) from error
    except asyncio.CancelledError as error:
        if not watch.done():
            raise
        raise Refused(400, "disconnected", "the client left") from error
    finally:
        watch.cancel()
        for future in futures:  # of no use any more if one of them failed
            future.cancel()


async def _left(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answered(
    batcher: Batcher, found: Sequence[Found], results: list[dict[str, Any]], arrived: Arrived, received: float, sent_at: float | None
) -> Response:
    """The answer with one result a file. received: when the body was here, by perf_counter."""
    encoded = json.dumps(results, allow_nan=False)
    last = max(found, key=lambda one: one.done_at)
    end = time.perf_counter()
    timing = {
        "receive_s": received - arrived.start,
        **vars(last.times),
        "encode_s": end - last.done_at,
        "total_s": end - arrived.start,
    }
    head = {
        "model": batcher.model.name,
        "model_digest": batcher.model.digest,
        "runtime": batcher.model.runtime.name,
        "timing": {**timing, "batch_size": last.batch_size},
        "sent_at": sent_at,
        "received_at": arrived.at,
        "answered_at": time.time(),
    }
    content = f'{json.dumps(head, allow_nan=False)[:-1]}, "results": {encoded}}}'
    stages = ", ".join(f"{name.removesuffix('_s')};dur={1000 * seconds:.3f}" for name, seconds in timing.items())
    return Response(content, media_type="application/json", headers={"Server-Timing": stages, "Cache-Control": "no-store"})
