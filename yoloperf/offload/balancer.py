"""nginx in front of several replicas: which of them gets a request is its decision, as it would be in production."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from yoloperf.core.errors import UserError, choose

# policy -> nginx's directive in the upstream block; it takes turns where it is told nothing
DIRECTIVES = {"random": "random;", "round_robin": "", "least_conn": "least_conn;"}

_START_S = 10.0
# One process and no master: the kernel ends it with its parent, and a master's worker would outlive the master. No replica is set aside
# and no request is sent to a second one: what a policy does is to be seen, not what repairs it.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 2048;
}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    upstream replicas {{
        {directive}
        {servers}
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        client_max_body_size 0;
        client_body_buffer_size 4m;
        proxy_buffers 16 64k;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_next_upstream off;
        proxy_read_timeout 120s;
        location / {{
            proxy_pass http://replicas;
        }}
    }}
}}
"""


@contextlib.contextmanager
def balanced(urls: Sequence[str], policy: str) -> Iterator[str]:
    """The address of an nginx that hands requests to `urls` by a policy, one of DIRECTIVES, until the block ends.

    Raises UserError where nginx is not installed or does not start, and for an address that is not http://HOST:PORT.
    """
    choose(policy, DIRECTIVES, "balancing policy")
    places = [_place(url) for url in urls]
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise UserError("no nginx to spread requests over replicas: apt-get install -y nginx-light")
    with tempfile.TemporaryDirectory(prefix="yoloperf-nginx-") as name:
        folder, port = Path(name), _free_port()
        servers = "\n        ".join(f"server {place} max_fails=0;" for place in places)
        text = _CONFIGURATION.format(folder=folder, port=port, directive=DIRECTIVES[policy], servers=servers)
        (folder / "nginx.conf").write_text(text)
        nginx = [program, "-e", "stderr", "-p", name, "-c", f"{name}/nginx.conf"]
        command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), *nginx]
        with (folder / "nginx.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                _await(port, process, folder / "nginx.log")
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()


def _place(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
        raise UserError(f"a replica's address must be http://HOST:PORT, not {url!r}")
    return parts.netloc if parts.port else f"{parts.netloc}:80"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").splitlines()
            raise UserError(f"nginx did not start: {lines[-1] if lines else 'it said nothing'}")
        time.sleep(0.02)
