"""The service against the same runtime in one process, and against the usual student design: Flask, one image a request, eager fp32.

All of it on the same cores, the client included, in turn, round after round, so that a machine whose speed drifts does not change
the ratios. Latencies at a fixed rate count from the moment at which a request was due, not from when it could be sent.

    pip install flask
    python bench/serve.py --weights yolov3-tiny.weights --source datasets/coco128/images/val2017 --rounds 5 --overload-s 60
"""

import argparse
import contextlib
import itertools
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from in_process import pictures_per_second

from yoloperf.core.environment import collect
from yoloperf.core.errors import UserError, exit_code
from yoloperf.core.limits import available_cores
from yoloperf.service.batcher import Workers, largest_batch
from yoloperf.service.model import ServedModel
from yoloperf.service.settings import Settings
from yoloperf.yolo.detect import find_images

CONNECTIONS = 48


def student(weights: str, port: int) -> None:
    """What a detector behind HTTP looks like in most course projects, written as quickly as that design allows."""
    import cv2
    import torch
    from flask import Flask, jsonify
    from flask import request as flask_request

    from yoloperf.yolo.boxes import decode_heads, suppress
    from yoloperf.yolo.images import letterbox
    from yoloperf.yolo.weights import find_weights, load_weights

    app = Flask("student")
    checkpoint = load_weights(find_weights(weights))
    names, size = checkpoint.class_names(), checkpoint.img_size or 416
    network = checkpoint.build()

    @app.post("/api/detect")
    def detect():  # type: ignore[no-untyped-def]
        data = np.frombuffer(flask_request.files["image"].read(), np.uint8)
        image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        square, placed = letterbox(image, size)
        with torch.no_grad():
            batch = torch.from_numpy(square).permute(2, 0, 1)[None].float() / 255
            (found,) = suppress(decode_heads(network(batch), network.heads, size), 0.25, 0.45, multi_label=False)
        rows = placed.undo(found.numpy(), image.shape[1], image.shape[0]).tolist()
        return jsonify([{"box": corners, "score": score, "name": names[int(label)]} for *corners, score, label in rows])

    app.run(port=port, threaded=True)


@dataclass
class Load:
    """What became of requests: seconds of those that were answered with 200, since they were due and since they were sent, and how often
    each status came."""

    seconds: list[float] = field(default_factory=list)
    since_sent: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall_s: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_s


def drive(place: tuple[str, int], bodies: list[bytes], due: Iterator[float | None], connections: int) -> Load:
    """Send requests at the times that are due (seconds from now, in order); those of None as soon as a connection is free."""
    load, lock, start = Load(), threading.Lock(), time.perf_counter()
    turn = itertools.count()

    def work() -> None:
        stream = None
        while True:
            with lock:
                at, number = next(due, -1.0), next(turn)
            if at == -1.0:
                break
            begun = time.perf_counter() if at is None else start + at
            time.sleep(max(0.0, begun - time.perf_counter()))
            sent = time.perf_counter()
            stream = stream or socket.create_connection(place, 60)
            status, stays = _exchange(stream, bodies[number % len(bodies)])
            answered = time.perf_counter()
            if not stays:
                stream.close()
                stream = None
            with lock:
                load.statuses[status] += 1
                if status == 200:
                    load.seconds.append(answered - begun)
                    load.since_sent.append(answered - sent)
        if stream:
            stream.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.wall_s = time.perf_counter() - start
    return load


def _exchange(stream: socket.socket, request: bytes) -> tuple[int, bool]:
    """Status, and whether the connection stays open."""
    stream.sendall(request)
    answer = b""
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += stream.recv(65_536)
    head = answer[:end].lower()
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    left = end + 4 + length - len(answer)
    while left > 0:
        left -= len(stream.recv(65_536))
    return int(head[9:12]), b"connection: close" not in head and head.startswith(b"http/1.1")


def at_once(count: int) -> Iterator[float | None]:
    return itertools.repeat(None, count)


def poisson(rate: float, seconds: float, seed: int) -> Iterator[float | None]:
    """Times of independent visitors."""
    dice, now = random.Random(seed), 0.0
    while (now := now + dice.expovariate(rate)) < seconds:
        yield now


def requests(paths: list[Path], images: int) -> list[bytes]:
    """Whole HTTP requests with so many images each."""
    made = []
    for start in range(0, len(paths), images):
        parts = [
            b'--xxx\r\nContent-Disposition: form-data; name="image"; filename="%d.jpg"\r\n\r\n' % number + path.read_bytes() + b"\r\n"
            for number, path in enumerate(paths[start : start + images])
        ]
        body = b"".join(parts) + b"--xxx--\r\n"
        head = b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=xxx\r\n"
        made.append(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return made


@contextlib.contextmanager
def server(command: list[str], place: tuple[str, int]) -> Iterator[psutil.Process]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(1200):
                with contextlib.suppress(OSError), socket.create_connection(place, 1):
                    break
                if process.poll() is not None:
                    raise UserError(f"{' '.join(command)} ended with {process.returncode}: run it by hand")
                time.sleep(0.1)
            else:
                raise UserError(f"{' '.join(command)} did not listen within two minutes: run it by hand")
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def p99(seconds: list[float]) -> float:
    return float(np.quantile(seconds, 0.99))


def wait_bound(accepted_per_second: float, streams: int) -> float:
    """Seconds that a full queue and the batches under way take at that rate. What is accepted waits no longer for inference; what exceeds
    it was spent on HTTP, by the service or by the client on the same cores."""
    return (Settings.queue + streams * largest_batch(Settings.max_batch, streams)) / accepted_per_second


def overload(
    process: psutil.Process, place: tuple[str, int], bodies: list[bytes], rate: float, seconds: float, streams: int
) -> dict[str, object]:
    """More requests than can be served: what they got, the memory meanwhile, and how long until one passes again."""
    drive(place, bodies, at_once(2 * len(bodies)), CONNECTIONS)
    samples: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            samples.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    load = drive(place, bodies, (number / rate for number in range(int(rate * seconds))), 4 * CONNECTIONS)
    ended.set()
    watcher.join()
    stopped = time.perf_counter()
    while not drive(place, bodies, at_once(1), 1).seconds:
        pass
    return {
        "rate": rate,
        "statuses": dict(load.statuses),
        "accepted_per_s": load.per_second,
        "accepted_p99_s": p99(load.since_sent),
        "accepted_p99_since_due_s": p99(load.seconds),
        "accepted_bound_s": wait_bound(load.per_second, streams),
        "rss_start_bytes": median(samples[:4]),
        "rss_end_bytes": median(samples[-4:]),
        "recovery_s": time.perf_counter() - stopped,
    }


def measure(args: argparse.Namespace) -> dict[str, object]:
    paths = find_images(args.source)[:128]
    single, many = requests(paths, 1), requests(paths, 8)
    service, flask = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    threads = [] if args.threads is None else ["--threads", str(args.threads)]
    serve = [sys.executable, "-m", "yoloperf", "serve", "--model", args.weights, "--port", str(service[1]), "--runtime", args.runtime]
    serve += ["--streams", str(args.streams), "--max-batch", str(Settings.max_batch), "--queue", str(Settings.queue)]
    model = ServedModel.load("same", args.weights, args.runtime, threads=args.threads, streams=args.streams)
    workers = Workers(available_cores(), model.streams)
    rounds: list[dict[str, float]] = []
    with (
        server([*serve, *threads], service) as process,
        server([sys.executable, __file__, "--weights", args.weights, "--student", str(flask[1])], flask),
    ):
        for number in range(args.rounds + 1):
            found = {"in process": pictures_per_second(model, workers, args.repeat * paths)}
            cpu = time.process_time()
            full = drive(service, single, at_once(args.repeat * len(single)), CONNECTIONS)
            found["client, cores"] = (time.process_time() - cpu) / full.wall_s
            found["service"] = full.per_second
            found["service, 8 images a request"] = 8 * drive(service, many, at_once(args.repeat * len(many)), CONNECTIONS // 8).per_second
            found["student"] = drive(flask, single, at_once(len(single)), 8).per_second
            found["one request, ms"] = 1000 * median(drive(service, single, at_once(64), 1).seconds)
            half = drive(service, single, poisson(full.per_second / 2, args.seconds, number), CONNECTIONS)
            found["p99 at half load, ms"] = 1000 * p99(half.seconds)
            found["service / in process"] = found["service"] / found["in process"]
            found["service / student"] = found["service"] / found["student"]
            found["p99 at half load / one request"] = found["p99 at half load, ms"] / found["one request, ms"]
            if number:  # the first round warms up
                rounds.append(found)
                print(f"round {number}: " + ", ".join(f"{name} {value:.3g}" for name, value in found.items()), flush=True)
        capacity = rounds[-1]["service"]
        extreme = overload(process, service, single, 3 * capacity, args.overload_s, model.streams) if args.overload_s else None
    workers.close()
    return {"rounds": rounds, "overload": extreme}


def main(args: argparse.Namespace) -> int:
    if args.student:
        student(args.weights, args.student)
        return 0
    found = measure(args)
    rounds = found["rounds"]
    assert isinstance(rounds, list)
    for name in rounds[0]:
        values = sorted(own[name] for own in rounds)
        print(f"{name:32} {median(values):8.3g}   ({values[0]:.3g}-{values[-1]:.3g})")
    if found["overload"]:
        print(f"overload: {json.dumps(found['overload'])}")
    if args.output:
        args.output.write_text(json.dumps({"environment": collect(), **found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--weights", default="yolov3-tiny.weights", help=".pt or .weights: a path or a known name")
    flags.add_argument("--source", help="folder of images; 128 of them are used")
    flags.add_argument("--runtime", default="auto")
    flags.add_argument("--threads", type=int, help="of the runtime, here and in the service (default: every core)")
    flags.add_argument("--streams", type=int, default=Settings.streams, help="likewise (default: the service's own)")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--repeat", type=int, default=4, help="times that the images are sent a round (default: 4)")
    flags.add_argument("--seconds", type=float, default=15, help="of half load a round (default: 15)")
    flags.add_argument("--overload-s", type=float, default=0, help="seconds of three times the capacity at the end (default: none)")
    flags.add_argument("--output", type=Path, help="JSON of every round")
    flags.add_argument("--student", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = flags.parse_args()
    raise SystemExit(exit_code("serve.py", lambda: main(arguments)))
