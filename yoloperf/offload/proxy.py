"""The process behind a link: its far end in a network of its own, and the proxy that delays what passes.

    client --[tbf up]--> veth --> proxy --(rtt/2 each way)--> upstream

Run by `link.shaped`, as `python -m yoloperf.offload.proxy HOST PORT UP_BPS DOWN_BPS RTT_S` (a rate of 0: not limited); prints the
address that it listens on. The network namespace is this process's and has no name, so the kernel removes it, with both ends of the
link, when the process ends, however it ends.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from yoloperf.core.errors import UserError, exit_code

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_FRAME_BYTES = 1514  # of Ethernet: an MTU of 1500 and the head
_BURST_S = 0.5e-3  # of tokens beside a frame: what a timer that fires late must not lose
_QUEUE_S, _QUEUE_BYTES = 0.1, 65_536  # of the link's queue: so long, but not less than a first window of TCP needs
_CHUNK_BYTES = 65_536
_CHUNKS = 1024  # on their way in one direction: 64 MiB at most


@dataclass(frozen=True)
class _Ends:
    """Of a veth pair: name and addresses of its end here and of the one in the namespace; RFC 2544's block for tests of networks."""

    pid: int

    @property
    def name(self) -> str:
        return f"yp{self.pid}"

    def address(self, end: int) -> str:
        subnet = self.pid % 2**15  # of four addresses
        return f"198.{18 + subnet // 2**14}.{subnet // 2**6 % 2**8}.{subnet % 2**6 * 4 + end}"


def _listen(up_bps: float, down_bps: float) -> socket.socket:
    """A socket that clients reach over a link of these rates. Raises UserError where that is not permitted."""
    if not up_bps and not down_bps:
        return _bound("127.0.0.1")
    ends = _Ends(os.getpid())
    with open("/proc/self/ns/net") as home:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise UserError(
                f"a link with a rate needs a network namespace ({os.strerror(ctypes.get_errno())}): run it with sudo, "
                "or give the url: of a remote service over a real link, or links with an rtt: only"
            )
        _run(f"ip link add far type veth peer name {ends.name} netns {os.getppid()}")
        _raise_end("far", ends.address(2), down_bps)
        far = _bound(ends.address(2))  # belongs to the namespace for as long as it is open
        if libc.setns(home.fileno(), _CLONE_NEWNET):
            raise UserError(f"cannot return from a network namespace: {os.strerror(ctypes.get_errno())}")
    _raise_end(ends.name, ends.address(1), up_bps)
    return far


def _bound(address: str) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named: with it a short answer waits 40 ms for an ACK now and then
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind((address, 0))
    return bound


def _raise_end(name: str, address: str, rate_bps: float) -> None:
    _run(f"ip address add {address}/30 dev {name}")
    _run(f"ip link set {name} up")
    if rate_bps:
        burst = _FRAME_BYTES + int(rate_bps / 8 * _BURST_S)
        queue = max(_QUEUE_BYTES, int(rate_bps / 8 * _QUEUE_S))
        _run(f"tc qdisc add dev {name} root tbf rate {round(rate_bps)}bit burst {burst}b limit {queue}b")


def _run(command: str) -> None:
    words = command.split()
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise UserError(f"a link with a rate needs {words[0]}: apt-get install -y iproute2") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"no link can be made here: {command}: {said[0]}")


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay_s: float) -> None:
    """Pass on what comes, delay_s later: a pipeline, in which chunks are on their way together."""
    clock = asyncio.get_running_loop().time
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)

    async def take() -> None:
        chunk = b"-"
        while chunk:
            chunk = await source.read(_CHUNK_BYTES)
            await way.put((clock() + delay_s, chunk))

    async def give() -> None:
        while True:
            due, chunk = await way.get()
            await asyncio.sleep(due - clock())
            if not chunk:
                target.write_eof()
                return
            target.write(chunk)
            await target.drain()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(take())
        tasks.create_task(give())


async def _serve(listening: socket.socket, host: str, port: int, delay_s: float) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, ExceptionGroup):  # either side's end is the end of both
            up_reader, up_writer = await asyncio.open_connection(host, port)
            with contextlib.closing(up_writer):
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_carry(reader, up_writer, delay_s))
                    ways.create_task(_carry(up_reader, writer, delay_s))

    server = await asyncio.start_server(client, sock=listening)
    address, own_port = listening.getsockname()[:2]
    print(f"http://{address}:{own_port}", flush=True)
    await server.serve_forever()


def _main(words: Sequence[str]) -> int:
    host, port = words[0], int(words[1])
    up_bps, down_bps, rtt_s = map(float, words[2:])
    asyncio.run(_serve(_listen(up_bps, down_bps), host, port, rtt_s / 2))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("link", lambda: _main(sys.argv[1:])))
