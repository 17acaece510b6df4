"""Three services behind nginx on this machine, with the project's own nginx.conf: what clients see when replicas die, go and come."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest

from tests.conftest import missing
from yoloperf.service.client import DetectionClient
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.weights import Checkpoint, save_checkpoint

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_until(true: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Replica:
    """`yoloperf serve` as a process, on the same port at every start."""

    def __init__(self, weights: Path, port: int, log: Path) -> None:
        self.port, self.log = port, log
        self.command = [sys.executable, "-m", "yoloperf", "serve", "--model", f"bccd={weights}", "--port", str(port), "--runtime", "torch"]
        self.command += ["--max-batch", "4"]  # fewer sizes to warm up
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=os.environ | QUIET)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    @property
    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def requests(self) -> int:
        """Detection requests that this process has answered."""
        text = httpx2.get(f"http://127.0.0.1:{self.port}/metrics").text
        return sum(int(float(count)) for count in re.findall(r'^\w*requests_total\{.*?"/api/detect".*?\} (\S+)$', text, re.MULTILINE))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cfg = with_classes(load_cfg("yolov3-tiny"), 3)
    path = tmp_path_factory.mktemp("weights") / "bccd.pt"
    save_checkpoint(path, Checkpoint(cfg, Darknet(cfg).state_dict(), ["red", "white", "platelet"], 64))
    return path


@pytest.fixture(scope="module")
def replicas(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    started = [Replica(weights, port, folder / f"{port}.log") for port in free_ports(3)]
    try:
        up(*started)
        yield started
    finally:
        for replica in started:
            replica.process.kill()
            replica.process.wait()


def up(*replicas: Replica) -> None:
    """Start those that are dead; return when all answer."""
    for replica in replicas:
        if replica.process.poll() is not None:
            replica.start()
    for replica in replicas:
        wait_until(lambda one=replica: one.ready)  # type: ignore[misc]


@contextmanager
def balancer(ports: list[int], folder: Path) -> Iterator[str]:
    """nginx with deploy/nginx.conf, its upstream and its paths exchanged for those of the test; yields its address."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        missing("no nginx: apt-get install nginx-light")
    (port,) = free_ports(1)
    text = CONFIGURATION.read_text()
    servers = re.findall(r"^ *server serve:8080 resolve.*\n", text, re.MULTILINE)
    lists = ["".join(server.replace("serve:8080 resolve", f"127.0.0.1:{one}") for one in ports) for server in servers]
    for old, new in (
        *zip(servers, lists, strict=True),
        ("listen 8080;", f"listen 127.0.0.1:{port};"),
        ("worker_processes auto;", "worker_processes 1;"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text.replace(" /tmp/", f" {folder}/"))
    with (folder / "nginx.log").open("wb") as log:
        # an empty folder below everything: its workers are no root and must get through to their temporary files
        process = subprocess.Popen(
            [str(program), "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off; user root;"],
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: _listens(port, process, folder))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _listens(port: int, process: subprocess.Popen[bytes], folder: Path) -> bool:
    assert process.poll() is None, (folder / "nginx.log").read_text()
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def front(replicas: list[Replica], tmp_path: Path) -> Iterator[str]:
    with balancer([replica.port for replica in replicas], tmp_path) as address:
        yield address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(240):
        cv2.imwrite(str(images / f"{number}.jpg"), np.random.default_rng(number).integers(0, 255, (64 + number, 96, 3), np.uint8))
    return images


class Load:
    """Threads that ask for boxes until the block ends, and what each answer was."""

    def __init__(self, ask: Callable[[], None], threads: int = 4) -> None:
        self.outcomes: Counter[str] = Counter()
        self._ask, self._stop = ask, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        while not self._stop.is_set():
            time.sleep(0.005)
            try:
                self._ask()
                self.outcomes["ok"] += 1
            except Exception as error:  # whatever it is, it is what a client would have seen
                self.outcomes[repr(error)] += 1

    def wait_for(self, more: int) -> None:
        """Until so many more were answered."""
        aim = self.outcomes["ok"] + more
        wait_until(lambda: self.outcomes["ok"] >= aim)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_killed_replica_is_noticed_by_nobody_who_retries_once(front: str, replicas: list[Replica], folder: Path) -> None:
    images = itertools.cycle([image.read_bytes() for image in sorted(folder.iterdir())[:8]])
    with DetectionClient(front) as client, Load(lambda: _detect(client, next(images))) as load:
        load.wait_for(100)
        before = [replica.requests() for replica in replicas]
        replicas[1].end(signal.SIGKILL)
        load.wait_for(100)
        up(replicas[1])
        wait_until(lambda: replicas[1].requests() > 5)
    assert load.outcomes.keys() == {"ok"}, load.outcomes
    assert min(before) > 10, "the load is spread"


def _detect(client: DetectionClient, image: bytes) -> None:
    assert client.detect(image).width == 96


def test_send_loses_and_doubles_nothing_when_replicas_and_send_itself_are_killed(replicas: list[Replica], folder: Path) -> None:
    """Straight to the replicas: one dies and comes back, then the sending is killed, goes on, and another replica dies."""
    up(*replicas)
    output = folder.parent / "out"
    file = output / "detections.jsonl"
    command = [sys.executable, "-m", "yoloperf", "send", str(folder), "--output", str(output), "--json", "--batch", "2", "--in-flight", "1"]
    command += ["--conf", "0.05", "--nodes", *(f"127.0.0.1:{replica.port}" for replica in replicas)]

    def lines() -> int:
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()
    wait_until(lambda: lines() >= 20)
    replicas[0].end(signal.SIGKILL)
    wait_until(lambda: lines() >= 60)
    first.kill()
    first.communicate()
    interrupted = lines()
    assert interrupted < 240
    replicas[0].start()
    second = start()
    wait_until(lambda: lines() > interrupted)
    replicas[1].end(signal.SIGKILL)
    text, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    result = json.loads(text)
    assert result["done_before"] == interrupted and result["done_before"] + result["sent"] == 240
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(line["image"] for line in found) == sorted(image.name for image in folder.iterdir())
    with DetectionClient(f"127.0.0.1:{replicas[2].port}", confidence=0.05) as client:
        for line in found[::48]:
            alone = client.detect(folder / line["image"])
            assert (line["width"], line["height"], len(line["boxes"])) == (alone.width, alone.height, len(alone.detections))


def test_replica_that_is_told_to_end_is_noticed_by_nobody_at_all(front: str, replicas: list[Replica], folder: Path) -> None:
    up(replicas[0], replicas[2])  # a third that is dead is no matter
    image = (folder / "0.jpg").read_bytes()
    with httpx2.Client() as client:

        def ask() -> None:
            client.post(f"http://{front}/api/detect", files={"image": ("0.jpg", image)}).raise_for_status()

        with Load(ask) as load:
            load.wait_for(50)
            assert replicas[0].end(signal.SIGTERM) == 0
            load.wait_for(50)
    assert load.outcomes.keys() == {"ok"}, load.outcomes


def test_what_nginx_says_itself_is_in_the_shape_of_the_service(tmp_path: Path) -> None:
    with balancer(free_ports(2), tmp_path) as address, httpx2.Client(base_url=f"http://{address}") as client:
        for path in ("/api/detect", "/readyz"):
            nobody = client.post(path, files={"image": b"x"})
            assert (nobody.status_code, nobody.json()["error"]["code"], nobody.headers["Retry-After"]) == (503, "no-replica", "1")
            assert nobody.headers["Content-Type"] == "application/json"
        assert client.get("/metrics").status_code == 404
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 5) as raw:
            raw.sendall(f"POST /api/detect HTTP/1.1\r\nHost: {address}\r\nContent-Length: 200000000\r\n\r\n".encode())
            head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
        assert b" 413 " in head and json.loads(body)["error"]["code"] == "request-too-large"
