"""A real service on a port of its own, in a thread of the test's process."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Self

import httpx2
import psutil

from yoloperf.service.app import create_app
from yoloperf.service.served import Served
from yoloperf.service.server import Server, address, bind
from yoloperf.service.settings import Settings


class Live:
    def __init__(self, models: Sequence[Served], **settings: Any) -> None:
        self.settings = Settings(port=0, drain_s=0, **settings)
        self.app = create_app(self.settings, models)
        self.bound = bind("127.0.0.1", 0)
        self.url = address(self.bound)
        started = threading.Event()
        self.server = Server(self.app, self.settings, started.set)
        self.thread = threading.Thread(target=self.server.run, args=([self.bound],), daemon=True)
        self.thread.start()
        assert started.wait(20)
        self.client = httpx2.Client(base_url=self.url, timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def detect(self, *images: bytes, **fields: Any) -> httpx2.Response:
        return self.client.post(
            "/api/detect", files=[("image", (f"{number}.jpg", data)) for number, data in enumerate(images)], data=fields
        )


class Spawned:
    """`yoloperf serve` as a process of its own."""

    def __init__(self, *flags: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "yoloperf", "serve", "--port", str(port), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started: list[str] = []  # lines of the start, the last one with the address
        self.log: list[str] = []
        assert self.process.stdout and self.process.stderr
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,), daemon=True)
        self._reader.start()
        for line in self.process.stdout:
            self.started.append(line.rstrip())
            if line.startswith("serving on "):
                break
        else:
            self._end()
            raise AssertionError(f"the service did not start: {''.join(self.log)}")
        self.url = self.started[-1].removeprefix("serving on ")
        host, _, number = self.url.removeprefix("http://").rpartition(":")
        self.place = host, int(number)
        self.client = httpx2.Client(base_url=self.url, timeout=20)

    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._end()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self._reader.join(20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
