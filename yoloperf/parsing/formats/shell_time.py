"""`time` of shells and systems, all but GNU's -v: bash, POSIX, zsh, csh, GNU's default line, BSD's and macOS's -l."""

import re

from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import clock, number
from yoloperf.parsing.verdict import Account

_BASH = re.compile(rb"(real|user|sys)[\t ]+(?:(\d+)m)?(\d+[.,]\d+)s?\s*$")
_ZSH = re.compile(rb"(?<![\d.])([\d.]++)s user ([\d.]++)s system (\d++)% cpu ([\d:.]++) total\s*$")
_CSH = re.compile(rb"([\d.]+)u ([\d.]+)s ([\d:.]+) ([\d.]+)% ")
_BSD = re.compile(rb"\s+([\d.]+) real\s+([\d.]+) user\s+([\d.]+) sys\s*$")
_BSD_RSS = re.compile(rb"\s+(\d+)\s+maximum resident set size\s*$")
_BSD_ROW = re.compile(rb"\s+\d+  (?:average|page|swaps|block|messages|signals|voluntary|involuntary|instructions|cycles|peak)")
# Of the rows that follow, FreeBSD has none of these; it counts KiB where macOS counts bytes
_MACOS_ROW = re.compile(rb"\s+\d+  (?:instructions retired|cycles elapsed|peak memory footprint)")
_NAMES = {b"real": "wall_s", b"user": "user_s", b"sys": "system_s"}


class ShellTime(LineFormat):
    name = "shell-time"
    description = "time of bash, zsh, csh and POSIX, GNU time's default line, BSD and macOS time -l"
    anywhere = ((b"s system ", "zsh"),)
    heads = (
        ("bash", rb"real[\t ]+(?:\d+m)?\d+[.,]\d", rb"user[\t ]+(?:\d+m)?\d+[.,]\d", rb"sys[\t ]+(?:\d+m)?\d+[.,]\d"),
        ("csh", rb"\d[\d.]*+u [\d.]+s [\d:.]+ [\d.]+% "),
        ("bsd", rb"\d[\d.]*+ real\s+[\d.]+ user\s"),
    )

    follows_end = True
    parts: dict[str, float]
    accounted = False
    rss: int | None = None  # in bytes, if this is macOS

    def bash(self, line: bytes) -> Answer:
        match = _BASH.match(line)
        if match is None:
            return False
        if match[1] == b"real" or not hasattr(self, "parts"):
            if self.another(self.accounted):
                return Signal.NEXT_RUN
            self.parts = {}
        value = int(match[2] or 0) * 60 + float(match[3].replace(b",", b"."))
        self.parts[_NAMES[match[1]]] = value
        if len(self.parts) == 3:
            self._account(**self.parts)
            del self.parts
        return True

    def zsh(self, line: bytes) -> Answer:
        match = _ZSH.search(line)
        if match is None:
            return False
        return self._account(clock(match[4]), number(match[1]), number(match[2]), float(match[3]))

    def csh(self, line: bytes) -> Answer:
        match = _CSH.match(line)
        if match is None:
            return False
        return self._account(clock(match[3]), number(match[1]), number(match[2]), number(match[4]))

    def bsd(self, line: bytes) -> Answer:
        match = _BSD.match(line)
        if match is None:
            return False
        answer = self._account(number(match[1]), number(match[2]), number(match[3]))
        return self._bsd_row if answer is True else answer

    def _bsd_row(self, line: bytes) -> bool:
        match = _BSD_RSS.match(line)
        if match:
            self.rss = int(match[1])
        elif self.rss and _MACOS_ROW.match(line):
            self.run.accounts[-1].max_rss_kib = self.rss / 1024
        return match is not None or _BSD_ROW.match(line) is not None

    def _account(self, wall_s: float | None, user_s: float | None, system_s: float | None, cpu_percent: float | None = None) -> Answer:
        """Take the times, unless GNU time's are there: they are about the same command or one around it."""
        if self.another(self.accounted):
            return Signal.NEXT_RUN
        self.accounted = True
        if not self.run.accounts:
            self.run.accounts.append(Account(wall_s=wall_s, user_s=user_s, system_s=system_s, cpu_percent=cpu_percent))
        self.run.end()
        return True
