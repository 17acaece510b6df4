"""Two questions about the load generator: does it agree with another one, and what does a request cost it?

agreement: LoadGen's server scenario against an open loop of this file's own at a share of what the service can do, in turn, round after
round, so that a machine whose speed drifts does not change the ratios. The other one shares no code with LoadGen or the driver of it:
raw sockets, latency from the moment at which a request was due. Its arrivals are LoadGen's of the same seed, drawn anew ("same": what
differs is the generator, and not the luck of the arrivals), of another seed ("poisson"), or evenly spaced as wrk2's ("constant": then
requests meet each other less, and latencies agree only where nothing queues).

cost: CPU time of the client for a request to a server that answers at once: http.client in threads, raw sockets in threads, and httpx2
on asyncio. For a quiet machine.

    python bench/load.py agreement 127.0.0.1:8080 --share 0.5 --rounds 5 --seconds 30
    python bench/load.py cost
"""

import argparse
import asyncio
import itertools
import json
import queue
import random
import resource
import select
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from yoloperf.core.errors import exit_code
from yoloperf.core.units import show_seconds
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import Request
from yoloperf.offload.load_data import find_target, make_requests
from yoloperf.offload.loadgen import Load, capacity, percentile, run
from yoloperf.offload.null_server import null_server

CONNECTIONS = 64


def wire(request: Request, host: str) -> bytes:
    head = {"Host": host, "Content-Length": str(len(request.body)), **request.headers}
    return (
        f"POST {request.path} HTTP/1.1\r\n".encode() + b"".join(f"{k}: {v}\r\n".encode() for k, v in head.items()) + b"\r\n" + request.body
    )


def read_answer(stream: socket.socket) -> int:
    """Status, once the whole answer is there."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += stream.recv(65536) or _closed()
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += stream.recv(65536) or _closed()
    return int(head.split()[1])


def _closed() -> bytes:
    raise ConnectionError("the service closed a connection")


def open_loop(place: tuple[str, int], messages: Sequence[bytes], due: Sequence[float]) -> list[float]:
    """Latency of every request, from when it was due; requests at the times `due`, in seconds from the start."""
    todo: queue.SimpleQueue[tuple[int, float] | None] = queue.SimpleQueue()
    latencies: list[float] = []

    def work() -> None:
        stream = socket.create_connection(place, 60)
        while item := todo.get():
            number, at = item
            if select.select([stream], [], [], 0)[0]:  # the service closed it while nothing was asked
                stream.close()
                stream = socket.create_connection(place, 60)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.sendall(messages[number % len(messages)])
            status = read_answer(stream)
            assert status == 200, f"the service answered {status}"
            latencies.append(time.perf_counter() - at)
        stream.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    start = time.perf_counter()
    for number, offset in enumerate(due):
        time.sleep(max(0.0, start + offset - time.perf_counter()))
        todo.put((number, start + offset))
    for _ in threads:
        todo.put(None)
    for thread in threads:
        thread.join()
    assert len(latencies) == len(due), "a request was not answered"
    return sorted(latencies)


def schedule(kind: str, rate: float, seconds: float, seed: int) -> list[float]:
    if kind == "constant":
        return [number / rate for number in range(int(rate * seconds))]
    if kind == "same":
        # LoadGen's own arrivals, drawn here by its rule: std::mt19937, and libstdc++'s exponential_distribution of two words each
        generator = np.random.MT19937()
        generator._legacy_seeding(seed)
        words = generator.random_raw(2 * int(2 * rate * seconds + 100)).astype(float).reshape(-1, 2)
        due = np.cumsum(-np.log1p(-(words[:, 0] + words[:, 1] * 2**32) / 2**64) / rate)
        return [0.0, *due[due < seconds].tolist()]
    dice = random.Random(seed)
    return list(itertools.takewhile(lambda at: at < seconds, itertools.accumulate(dice.expovariate(rate) for _ in itertools.count())))


def agreement(args: argparse.Namespace) -> dict[str, object]:
    target = find_target(args.url, None, None)
    requests, _ = make_requests(target, args.data, None, 1, None)
    parts = urllib.parse.urlsplit(target.url)
    place = (parts.hostname or "", parts.port or 80)
    messages = [wire(request, parts.netloc) for request in requests]
    closed_loop_rate = capacity(target.url, requests, 8, 5.0)  # which warms the service up, too
    rate = args.rate or args.share * closed_loop_rate
    print(f"{rate:.1f} requests/s for {args.seconds:g} s, {args.rounds} rounds")
    ratios: dict[str, list[float]] = {"mean": [], "p50": [], "p99": []}
    pooled: dict[str, list[float]] = {"loadgen": [], args.arrivals: []}
    for number in range(args.rounds):
        measured = {}
        for name in ("loadgen", args.arrivals)[:: 1 if number % 2 else -1]:
            if name == "loadgen":
                with tempfile.TemporaryDirectory() as folder:
                    load = Load("server", args.seconds, rate, CONNECTIONS, seed=number)
                    outcome = run(target.url, requests, load, Path(folder), progress=None)
                latencies = sorted(record.latency_s or 0.0 for record in outcome.records)
                assert not any(record.error for record in outcome.records), "a request failed"
            else:
                latencies = open_loop(place, messages, schedule(args.arrivals, rate, args.seconds, number))
            measured[name] = figures(latencies)
            pooled[name] += latencies
            print(f"{number} {name:9}", *(f"{key} {show_seconds(value)}" for key, value in measured[name].items()), flush=True)
        for key, values in ratios.items():
            values.append(measured["loadgen"][key] / measured[args.arrivals][key])
    print(
        "loadgen / own:",
        *(f"{key} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})" for key, values in ratios.items()),
    )
    whole = {name: figures(sorted(values)) for name, values in pooled.items()}
    together = {key: whole["loadgen"][key] / whole[args.arrivals][key] for key in ratios}
    print("of all rounds together:", *(f"{key} {value:.3f}" for key, value in together.items()))
    return {"rate": rate, "arrivals": args.arrivals, "ratios": ratios, "together": together, "latencies": whole}


def figures(ordered: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(ordered), "p50": percentile(ordered, 0.5), "p99": percentile(ordered, 0.99)}


def cost(args: argparse.Namespace) -> dict[str, object]:
    """Seconds of CPU of this process for a request, the kernel's included; in turn, the least of the rounds."""
    result: dict[str, list[float]] = {}
    with null_server() as url:
        target = find_target(url, None, None)
        requests, _ = make_requests(target, args.data, None, 1, None)
        parts = urllib.parse.urlsplit(url)
        messages = [wire(request, parts.netloc) for request in requests]
        clients: dict[str, Callable[[], object]] = {
            "http.client, threads": lambda: closed_loop(url, requests, args.requests, args.connections, progress=None),
            "raw sockets, threads": lambda: open_loop((parts.hostname or "", parts.port or 80), messages, [0.0] * args.requests),
            "httpx2, asyncio": lambda: asyncio.run(_httpx(url, requests, args.requests, args.connections)),
        }
        for _ in range(args.rounds):
            for name, act in clients.items():
                before = resource.getrusage(resource.RUSAGE_SELF)
                act()
                after = resource.getrusage(resource.RUSAGE_SELF)
                spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                result.setdefault(name, []).append(spent / args.requests)
    for name, seconds in result.items():
        print(f"{name:22} {show_seconds(min(seconds))} of CPU a request (least of {args.rounds} rounds; most {show_seconds(max(seconds))})")
    return {"cpu_s": result}


async def _httpx(url: str, requests: Sequence[Request], count: int, connections: int) -> None:
    import httpx2

    turn = iter(range(count))
    async with httpx2.AsyncClient(base_url=url) as client:

        async def work() -> None:
            for number in turn:
                request = requests[number % len(requests)]
                response = await client.post(request.path, content=request.body, headers=request.headers)
                response.json()

        await asyncio.gather(*(work() for _ in range(connections)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    both = parser.add_subparsers(dest="what", required=True)
    agree = both.add_parser("agreement")
    agree.add_argument("url")
    agree.add_argument("--arrivals", choices=["poisson", "constant", "same"], default="same")
    agree.add_argument("--share", type=float, default=0.5, help="of the closed loop's rate (default: 0.5)")
    agree.add_argument("--rate", type=float, help="instead of a share")
    agree.add_argument("--rounds", type=int, default=5)
    agree.add_argument("--seconds", type=float, default=30.0)
    dear = both.add_parser("cost")
    dear.add_argument("--requests", type=int, default=2000)
    dear.add_argument("--connections", type=int, default=8)
    dear.add_argument("--rounds", type=int, default=5)
    for one in (agree, dear):
        one.add_argument("--data", type=Path, nargs="+", default=[])
    args = parser.parse_args()
    result = agreement(args) if args.what == "agreement" else cost(args)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("bench/load.py", main))
