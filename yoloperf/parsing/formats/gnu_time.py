"""GNU time's `-v` block: what the outermost command used, and how it ended.

Sources of the wording: the format strings of GNU time 1.7 to 1.9 and of BusyBox.
"""

import re

from yoloperf.parsing.command import take_command
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import clock, number, text
from yoloperf.parsing.verdict import Account

_ENDING = re.compile(rb"Command (exited with non-zero status|terminated by signal|stopped by signal) (\d+)\s*$")
_DEFAULT = re.compile(
    rb"(?<![\d.])([\d.]++)user ([\d.]++)system ([\d:.]++)elapsed (\d++|\?)%CPU \(\d+avgtext\+\d+avgdata (\d++)maxresident\)k"
)
_ELAPSED = re.compile(rb"(?:(\d+)(?::|h ))?(\d+)(?::|m )(\d\d?)(\.\d\d)?s?$")


def elapsed(text: bytes) -> float | None:
    """Seconds of `m:ss.cc` or, from one hour on, `h:mm:ss`; BusyBox prints `0m 2.00s` and `1h 0m 02s`."""
    match = _ELAPSED.match(text)
    if not match or (match[1] is None) == (match[4] is None):
        return None
    return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3] + (match[4] or b""))


class GnuTime(LineFormat):
    name = "gnu-time"
    description = "GNU time, -v block and default line: user, system and wall time, CPU share, peak memory, exit status"
    heads = (
        ("begin", rb"Command being timed: "),
        # Rows may stand behind other programs' lines: a helper process can outlive the command
        ("row", rb"User time \(s", rb"System time \(s", rb"Percent of CPU", rb"Elapsed \(", rb"Maximum resident set", rb"Exit status: "),
    )
    # A progress bar leaves the cursor behind it, so what GNU time says first is glued to the last drawing
    anywhere = (
        (b"Command exited with non-zero status ", "ending"),
        (b"Command terminated by signal ", "ending"),
        (b"Command stopped by signal ", "ending"),
        (b"maxresident)k", "default"),
    )
    reads_cut_line = True  # refuses its own cut lines: only `Exit status: 0` cannot be the beginning of another number

    pending: Account | None = None
    open: Account | None = None

    def ending(self, line: bytes) -> Answer:
        match = _ENDING.search(line)
        if not match or self.run.cut:
            return False
        number = int(match[2])
        self.pending = Account(signal=number) if b"signal" in match[1] else Account(exit_code=number)
        return True

    def default(self, line: bytes) -> Answer:
        """The line that GNU time prints without -v."""
        match = _DEFAULT.search(line)
        if match is None:
            return False
        self.open = self._account()
        self.open.user_s, self.open.system_s, self.open.wall_s = number(match[1]), number(match[2]), clock(match[3])
        self.open.cpu_percent, self.open.max_rss_kib = number(match[4]), number(match[5])
        self._close(self.open)
        return True

    def _account(self) -> Account:
        """Begin an account with what the line before it has said."""
        account, self.pending = self.pending or Account(), None
        return account

    def _close(self, account: Account) -> None:
        """What follows is another command's."""
        self.run.accounts.append(account)
        self.run.end()
        self.open = None

    def begin(self, line: bytes) -> Answer:
        self.open = self._account()
        self.run.open.add("GNU time block")
        if not self.run.cut:
            command = line.partition(b": ")[2].decode("utf-8", "replace").strip()
            self.open.command = command[1:-1] if command[:1] == command[-1:] == '"' else command
            take_command(self.run, self.open.command)
        return self.row

    def row(self, line: bytes) -> bool | Signal:
        account = self.open
        if account is None:
            return Signal.BLOCK_ENDS
        label, _, value = line.strip().rpartition(b": ")
        if label == b"Exit status":
            if self.run.cut and value != b"0":
                return False
            if account.exit_code is None and account.signal is None and value.isdigit():
                account.exit_code = int(value)
            self.run.open.discard("GNU time block")
            self._close(account)
            return True
        if self.run.cut or not _LABEL.match(label):
            return False
        known = _ROWS.get(label)
        if known:
            found = number(value.rstrip(b"%"))
            if found is None and value != b"?%":  # which stands where no time passed
                return self.run.reject(f"no number: {text(line)[:80]}")
            setattr(account, known, found)
        elif label.startswith(b"Elapsed"):
            account.wall_s = elapsed(value)
        return True

    def finish(self) -> None:
        if self.open or self.pending:  # cut short: what it has
            self.run.accounts.append(self.open or self.pending or Account())


_LABEL = re.compile(
    rb"(?:User|System) time|Percent of CPU|Elapsed|Average|Maximum resident|Major|Minor|Voluntary|Involuntary|Swaps|File system"
    rb"|Socket messages|Signals delivered|Page size"
)
_ROWS = {
    b"User time (seconds)": "user_s",
    b"System time (seconds)": "system_s",
    b"Percent of CPU this job got": "cpu_percent",
    b"Maximum resident set size (kbytes)": "max_rss_kib",
}
