"""The closed loop: so many connections, each of which sends its next request when the answer to the last one is there."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence

from tqdm import tqdm

from yoloperf.offload.exchange import Connection, Exchange, Request

DEAD_AFTER = 20  # failures in a row, before any answer: a service that is not there is not asked a thousand times more


def closed_loop(
    url: str,
    requests: Sequence[Request],
    count: int,
    connections: int = 1,
    timeout_s: float = 30.0,
    *,
    duration_s: float | None = None,
    progress: str | None = "sending",
    seen: Callable[[Exchange], None] | None = None,
) -> list[Exchange]:
    """Send `count` requests, those of `requests` in turn, over `connections` kept connections; what came of them, in the order in
    which they were sent.

    A request that fails is an Exchange with its error and the next one follows; fewer than `count` come back where the service never
    answered at all (DEAD_AFTER), or after duration_s. Ctrl-C ends it, and nothing comes back.
    progress: the bar's label, None for no bar; seen: told of every exchange, from the threads that send.
    """
    done: list[Exchange] = []
    turn, lock, stop, start = itertools.count(), threading.Lock(), threading.Event(), time.perf_counter()
    answered = False

    def work(bar: "tqdm[None]") -> None:
        nonlocal answered
        with Connection(url, timeout_s) as connection:
            while not stop.is_set():
                number = next(turn)
                if number >= count or (duration_s is not None and time.perf_counter() - start >= duration_s):
                    break
                exchange = connection.exchange(requests[number % len(requests)])
                with lock:
                    done.append(exchange)
                    answered = answered or exchange.status is not None
                    bar.update()
                    if not answered and len(done) >= DEAD_AFTER:
                        stop.set()
                if seen:
                    seen(exchange)

    with tqdm(total=count, desc=progress, unit="request", disable=True if progress is None else None, leave=False) as bar:
        threads = [threading.Thread(target=work, args=(bar,), daemon=True) for _ in range(min(connections, count))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            stop.set()
    with lock:
        return sorted(done, key=lambda exchange: exchange.sent_at)
