"""A real service on a port of its own, in a thread of the test's process."""

import threading
from typing import Any, Self

import httpx2

from yoloperf.service.app import create_app
from yoloperf.service.model import ServedModel
from yoloperf.service.server import Server, address, bind
from yoloperf.service.settings import Settings


class Live:
    def __init__(self, models: list[ServedModel], **settings: Any) -> None:
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
