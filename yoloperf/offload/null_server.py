"""A service that does nothing and answers at once: what a load generator measures against it is the load generator.

`python -m yoloperf.offload.null_server [DELAY_S]` prints its URL and runs until it is killed; DELAY_S: answer that much later, however
many requests are in flight.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import cast

_BODY = b'{"model": "null", "models": [{"name": "null", "kind": "detection", "default": true}], "results": [], "timing": {}}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class _Client(asyncio.Protocol):
    """One connection: counts bytes until a request has ended. Only what the load generator sends: Content-Length, no chunks."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.head, self.missing = delay_s, b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.missing:
            self.missing -= len(data)
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = next((line for line in self.head[:end].split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
            self.missing = int(length.partition(b":")[2]) - (len(self.head) - end - 4)
            self.head = b""
        if self.missing <= 0:
            self.missing = 0
            if self.delay_s:
                asyncio.get_running_loop().call_later(self.delay_s, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_ANSWER)


async def _serve(delay_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Client(delay_s), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def null_server(delay_s: float = 0.0) -> Iterator[str]:
    """Its URL, while a process of its own runs it."""
    command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), sys.executable, "-m", __name__, str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


if __name__ == "__main__":
    import uvloop

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
