"""Text logs: bytes in, finished runs out, in one pass and constant memory.

What makes it fast: most of a training log is progress bars redrawn over themselves (separated by carriage
returns, of which only the last one counts) and long tables. So lines are cut with bytes methods, one regular
expression looks at the beginning of a line to find the format that knows it, and a table's rows go straight
to the format that began it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from yoloperf.parsing.content import DAMAGED
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats import line_formats
from yoloperf.parsing.formats.base import Answer, Block, LineFormat, Signal

MAX_LINE_BYTES = 1 << 20  # a longer line without redraws is no log
_UNREADABLE = (ValueError, OverflowError)  # digits that make no number, or none that fits
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# ClearML's console capture puts this before the first line of a message; "error" only means stderr
_CAPTURE = re.compile(rb"\d{13} \S+ (?:info|error|warning) ")
# Bytes of progress bars, the most frequent first: looking for one that is not among them rules a mark out at memory speed
_RARITY = b" 0123456789.:/|%[]<,?itsGaelmnorcdhgPRAICTbjx"
_PROBED_REDRAWS = 3  # the first redraws that tell whether a line holds one bar only


class _Dispatch:
    """Which format takes a line: one regular expression over the beginnings of all of them, whose last group says whose it is."""

    def __init__(self) -> None:
        self.heads: list[re.Pattern[bytes]] = []
        self.owners: list[tuple[int, str]] = []  # (number of the format, method) of each head
        self.anywhere: list[tuple[bytes, bytes, int, str]] = []  # (a byte of the mark that is rare, mark, format, method)
        for index, kind in enumerate(line_formats()):
            for method, *heads in kind.heads:
                self.heads += [re.compile(head) for head in heads]
                self.owners += [(index, method)] * len(heads)
            for mark, method in kind.anywhere:
                rare = max(mark, key=lambda byte: _RARITY.find(byte) % 256)
                self.anywhere.append((bytes([rare]), mark, index, method))
        # The group stands last, so that a branch begins with what the engine can rule out at once
        self.match = re.compile(b"|".join(head.pattern + b"()" for head in self.heads)).match


@cache
def _dispatch() -> _Dispatch:
    return _Dispatch()


class LogReader:
    """Reads one text log. `new_draft` makes the drafts of its runs; `unknown` gets the lines that nobody knows, where wanted."""

    def __init__(self, new_draft: Callable[[], Draft], unknown: Callable[[int, bytes], None] | None = None) -> None:
        self.dispatch = _dispatch()
        self.match_head = self.dispatch.match
        self.anywhere = self.dispatch.anywhere
        self.new_draft = new_draft
        self.unknown = unknown
        self.finished: list[Draft] = []
        self.number = 0
        self.begin_run({})

    def begin_run(self, pending: Mapping[str, Any]) -> None:
        self.run = self.new_draft()
        self.run.line = self.number
        self.run.carried = dict(pending)
        self.readers: dict[int, LineFormat] = {}
        self.counted: set[int] = set()  # formats that have read a line
        self.block: Block | None = None  # the table at hand: it is asked first
        self.interrupted: Block | None = None  # the table that refused a line: it is asked last

    def _finish(self, run: Draft, readers: dict[int, LineFormat]) -> None:
        for reader in readers.values():
            try:
                reader.finish()
            except _UNREADABLE as error:
                run.reject(f"{reader.name}: {error}")
        self.finished.append(run)

    def read(self, chunks: Iterable[bytes]) -> Iterator[Draft]:
        """Runs of the log in their order, each as soon as it has ended; there is always at least one."""
        rest = b""
        source = iter(chunks)
        while True:
            try:
                chunk = next(source, b"")
            except DAMAGED as error:
                self.run.open.add("file")
                self.run.reject(f"the file is damaged here: {error}")
                chunk = b""
            if not chunk:
                break
            text = rest + chunk if rest else chunk
            cut = text.rfind(b"\n") + 1
            rest = text[cut:]
            if cut:
                self.feed(text[:cut])
            if len(rest) > MAX_LINE_BYTES:
                rest = self._shorten(rest)
            yield from self._drain()
        if rest:
            self._feed_cut_line(rest)
        self._finish(self.run, self.readers)
        yield from self._drain()

    def _drain(self) -> list[Draft]:
        done, self.finished = self.finished, []
        return done

    def _shorten(self, line: bytes) -> bytes:
        """Read the redraws of an endless line that are already overdrawn; drop what is no text line."""
        cut = line.rfind(b"\r")
        if cut < 0:
            self.run.line = self.number + 1
            self.run.reject(f"a line longer than {MAX_LINE_BYTES} bytes")
            return b""
        self._line(line[:cut])
        return line[cut:]

    def _feed_cut_line(self, line: bytes) -> None:
        self.run.cut = True
        self.number += 1
        self.run.line = self.number
        self._line(line)

    def feed(self, text: bytes) -> None:
        """Lines, each with its end."""
        number = self.number
        lines = text.split(b"\n")
        lines.pop()
        for line in lines:
            number += 1
            self.run.line = number
            if self.block is not None and b"\r" not in line and self._row(line):
                continue
            if line:
                self.number = number
                self._line(line)
        self.number = number

    def _row(self, line: bytes) -> bool:
        """Ask the table at hand, or else the interrupted one."""
        block = self.block or self.interrupted
        if block is None:
            return False
        try:
            answer = block(line)
        except _UNREADABLE as error:
            return self.run.reject(_said(line, error))
        if answer is not True:
            self.block, self.interrupted = None, block if answer is False else None
        return answer is True

    def _line(self, line: bytes) -> None:
        if line.endswith(b"\r"):
            line = line.rstrip(b"\r")
        known = self._redrawn(line) if b"\r" in line else self._plain(line)
        for rare, mark, index, method in self.anywhere:  # last, as such a text stands behind what a bar has drawn
            if rare in line and mark in line:
                known |= self._answer(line, index, method)
        if not known and line.strip():
            self.run.unknown_lines += 1
            if self.unknown:
                self.unknown(self.number, line)

    def _redrawn(self, line: bytes) -> bool:
        """A line that was drawn over: the last drawing of each bar in it counts."""
        end = len(line)
        while end > 0:  # the last drawing that can be read: the very last one may be cut
            start = line.rfind(b"\r", 0, end) + 1
            part = _clean(line[start:end])
            end = start - 1
            content = part.lstrip()
            if not content:
                continue
            match = self.match_head(content)
            kind = match.lastindex if match else None
            if self._first_kind(line) not in (None, kind):
                return self._all_redraws(line)
            if match is None or self._matched(part, content, match):
                return match is not None
        return False

    def _first_kind(self, line: bytes) -> int | None:
        """Kind of the first known drawing; a bar's description often follows an empty bar."""
        for part in line.split(b"\r", _PROBED_REDRAWS)[:_PROBED_REDRAWS]:
            kind = self._kind(part)
            if kind is not None:
                return kind
        return None

    def _all_redraws(self, line: bytes) -> bool:
        """Several bars, or messages among them, in one line: read the last drawing of each stretch of a kind."""
        known, held, held_kind = False, b"", None
        for part in line.split(b"\r"):
            kind = self._kind(part)
            if held_kind is not None and kind is not None and kind != held_kind:
                known |= self._plain(held)
            if kind is not None:
                held, held_kind = part, kind
        return (self._plain(held) or known) if held_kind is not None else known

    def _kind(self, part: bytes) -> int | None:
        match = self.match_head(_clean(part).lstrip())
        return match.lastindex if match else None

    def _plain(self, line: bytes) -> bool:
        line = _clean(line)
        if self.block is not None:
            if self.run.cut and not self.block_owner.reads_cut_line:
                return self.run.reject("the last line has no end: left out")
            if self._row(line):
                return True
        content = line.lstrip()
        match = self.match_head(content)
        if match is not None and self._matched(line, content, match):
            return True
        if self.interrupted is None or self.run.cut and not self.block_owner.reads_cut_line:
            return False
        return self._row(line)

    def _matched(self, line: bytes, content: bytes, match: re.Match[bytes]) -> bool:
        """Give the line to the format whose head matched its content (the line without leading blanks)."""
        assert match.lastindex is not None
        heads, owners = self.dispatch.heads, self.dispatch.owners
        first = match.lastindex - 1
        for number in range(first, len(heads)):
            # It looked like the first one's; where it is not, ask the others that begin so
            if (number == first or heads[number].match(content)) and self._answer(line, *owners[number]):
                if self.interrupted is not None and self.readers.get(owners[number][0]) is not self.block_owner:
                    self.interrupted = None
                return True
        return False

    def _answer(self, line: bytes, index: int, method: str) -> bool:
        """Ask a format about a line; one that follows the end of a run begins the next run, if it is read."""
        if self.run.ended and not self.run.whole_folder and not line_formats()[index].follows_end:
            ended = self._set_aside()
            if self._ask(line, index, method):
                self._finish(ended[0], ended[1])
                return True
            self.run, self.readers, self.counted, self.block, self.interrupted = ended
            return False
        return self._ask(line, index, method)

    def _ask(self, line: bytes, index: int, method: str) -> bool:
        run = self.run
        reader = self.readers.get(index) or self._reader(index)
        if run.cut and not reader.reads_cut_line:
            return run.reject("the last line has no end: left out")
        rejected = run.rejected_lines
        try:
            answer: Answer = getattr(reader, method)(line)
        except _UNREADABLE as error:
            return run.reject(_said(line, error))
        if answer is Signal.NEXT_RUN:
            before = self._set_aside()
            self._finish(before[0], before[1])
            return self._ask(line, index, method)
        if answer is False or isinstance(answer, Signal):
            return False
        if answer is True and run.rejected_lines > rejected:  # claims the format, and is none of it
            return True
        if index not in self.counted:
            self.counted.add(index)
            run.formats[reader.name] = None
        if answer is not True:
            self.block, self.block_owner, self.interrupted = answer, reader, None
        return True

    def _set_aside(self) -> tuple[Draft, dict[int, LineFormat], set[int], Block | None, Block | None]:
        """Begin another run; returns the state of the one so far."""
        before = self.run, self.readers, self.counted, self.block, self.interrupted
        self.begin_run(self.run.pending)
        self.run.cut, self.run.line = before[0].cut, before[0].line
        return before

    def _reader(self, index: int) -> LineFormat:
        self.readers[index] = reader = line_formats()[index](self.run)
        return reader


def _said(line: bytes, error: Exception) -> str:
    return f"{error}: {_clean(line)[:80].decode('utf-8', 'replace').strip()}"


def _clean(line: bytes) -> bytes:
    if b"\x1b" in line:
        line = _ANSI.sub(b"", line)
    if line[13:14] == b" ":
        line = _CAPTURE.sub(b"", line, count=1) if _CAPTURE.match(line) else line
    return line
