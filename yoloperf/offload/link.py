"""A link of chosen rates and delay between this process and a service, on one machine.

The kernel limits the rates (tbf at both ends of a veth pair, what IP and TCP add included), a proxy adds the delay. TCP itself sees
the short way to the proxy: it opens its window faster than over a link that is really so long, which a kept connection has behind
it after a few requests.
"""

import contextlib
import math
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator

from yoloperf.core.errors import UserError
from yoloperf.offload.study import LinkSpec


@contextlib.contextmanager
def shaped(spec: LinkSpec, upstream_url: str) -> Iterator[str]:
    """URL of the service at upstream_url as seen over the link, while the block lasts. Without rates anybody may, with them root.

    Raises UserError where the link cannot be made, or broke in the middle (a UserError of the block itself goes first).
    """
    for name, rate in (("up", spec.up_bps), ("down", spec.down_bps)):
        if rate is not None and not (math.isfinite(rate) and rate >= 1):
            raise UserError(f"link {spec.name}: {name} must be a positive number of bit/s, or left out for no limit, not {rate:g}")
    if not (math.isfinite(spec.rtt_s) and spec.rtt_s >= 0):
        raise UserError(f"link {spec.name}: rtt must not be negative, and is {spec.rtt_s:g} s")
    parts = urllib.parse.urlsplit(upstream_url)
    if parts.scheme != "http" or not parts.hostname:
        raise UserError(f"link {spec.name}: only a plain http:// service can be put behind a link, not {upstream_url}")
    words = [parts.hostname, parts.port or 80, spec.up_bps or 0, spec.down_bps or 0, spec.rtt_s]
    proxy = [sys.executable, "-m", "yoloperf.offload.proxy", *map(str, words)]
    command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), *proxy]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise UserError(f"link {spec.name}: {_last_words(process)}")
            yield address + parts.path
            if process.poll() is not None:
                raise UserError(f"link {spec.name} broke ({_last_words(process)})")
        finally:
            process.kill()


def _last_words(process: "subprocess.Popen[str]") -> str:
    process.wait()
    assert process.stderr
    said = process.stderr.read().strip().splitlines()
    return said[-1].removeprefix("link: ") if said else f"its process ended with {process.returncode}"
