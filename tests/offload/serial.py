"""A replica that takes a known time for each request, one after the other, and refuses what comes when its queue is full.

Who leaves when is reckoned from when requests come, and then slept for: a sleep that a busy machine makes longer delays one answer, and
not all that wait behind it.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Serial(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, service_s: float, queue: int = 10_000) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service_s, self.queue = service_s, queue
        self.lock, self.inside, self.free_at = threading.Lock(), 0, 0.0
        self.bodies: list[bytes] = []  # of the requests that came

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Serial":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Serial

    def do_GET(self) -> None:
        self.answer(200, {"models": [{"name": "shapes", "kind": "detection"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        with server.lock:
            server.bodies.append(body)
            full = server.inside > server.queue
            server.inside += not full
            leave_at = max(time.monotonic(), server.free_at) + server.service_s
            server.free_at = server.free_at if full else leave_at
        if full:
            self.answer(429, {"error": {"code": "busy", "message": "the queue is full"}})
            return
        time.sleep(max(0.0, leave_at - time.monotonic()))
        with server.lock:
            server.inside -= 1
        self.answer(200, {"results": []})

    def answer(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "X-Served-By": f"127.0.0.1:{self.server.server_port}"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
