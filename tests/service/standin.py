"""A node that answers as the service does, without a network: every picture holds one object, as large as the picture.

In a test's own process (`with StandIn() as node`) or, to be killed, as a process of its own: `python standin.py PORT DELAY_S`.
"""

import email
import email.policy
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

Refusal = tuple[int, dict[str, str], dict[str, Any]]  # status, headers, body


class StandIn(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int = 0, delay_s: float = 0.0, digest: str = "0123456789ab", model: str = "bccd") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.delay_s, self.digest, self.model = delay_s, digest, model
        self.truncated = False
        self.seen: list[list[str]] = []  # names of the pictures of each request
        self.at_once = self.most_at_once = 0
        self.refuse: Callable[[list[str]], Refusal | None] = lambda names: None
        self.refuse_all: Refusal | None = None  # what every GET is answered with
        self.dies_after: int | None = None  # requests, after which every connection is closed without an answer
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up waiting is no fault of the node."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: StandIn

    def dead(self) -> bool:
        self.close_connection = self.server.dies_after is not None and len(self.server.seen) >= self.server.dies_after
        return self.close_connection

    def do_GET(self) -> None:
        if self.dead():
            return
        if self.server.refuse_all:
            self.answer(*self.server.refuse_all)
            return
        models = [{"name": name, "digest": self.server.digest, "default": name != "coco"} for name in ("coco", self.server.model)]
        self.answer(200, {}, {"models": models} if self.path == "/api/models" else {"status": "ready"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.dead():
            return
        message = email.message_from_bytes(
            b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
        )
        parts = list(message.iter_parts())
        files = [(part.get_filename(), part.get_payload(decode=True)) for part in parts if part.get_filename()]
        names = [str(name) for name, _ in files]
        with self.server.lock:
            self.server.seen.append(names)
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        time.sleep(self.server.delay_s)
        with self.server.lock:
            self.server.at_once -= 1
        self.answer(*(self.server.refuse(names) or (200, {}, self.found(files))))

    def found(self, files: list[tuple[Any, Any]]) -> dict[str, Any]:
        results = []
        for name, content in files:
            height, width = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2]
            box = {"class": 0, "name": "cell", "score": 0.9, "box": [0.0, 0.0, width, height], "box_normalised": [0, 0, 1, 1]}
            results.append(
                {
                    "image": name,
                    "width": width,
                    "height": height,
                    "counts": {"cell": 1},
                    "truncated": self.server.truncated,
                    "boxes": [box],
                    "timing": {"decode_s": 0.001},
                }
            )
        return {
            "model": self.server.model,
            "model_digest": self.server.digest,
            "runtime": "none",
            "results": results,
            "timing": {"total_s": 0.001},
        }

    def answer(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    StandIn(int(sys.argv[1]), float(sys.argv[2])).serve_forever()
