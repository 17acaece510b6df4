"""GNU time: the outermost wrapper, whose block ends the console log of every attempt.

Only its flags and the little that the harness must know of the block are here; the parser reads the figures.
"""

import functools
import re
import shutil
import subprocess

_NAMES = ("/usr/bin/time", "gtime")  # gtime: Homebrew's name
# A trainer killed in its progress bar leaves the first line glued to that bar
_BLOCK = re.compile(r"(?:Command [a-z -]+ (?:status|signal) \d+\n)?^\tCommand being timed: .*", re.MULTILINE | re.DOTALL)
_SIGNAL = re.compile(r"Command (?:terminated|stopped) by signal (\d+)")
_STATUS = re.compile(r"^\tExit status: (\d+)$", re.MULTILINE)


@functools.cache
def find() -> str | None:
    """Path of GNU time, or None; the `time` of BusyBox and of BSD have no such block."""
    for name in _NAMES:
        path = shutil.which(name)
        if path is None:
            continue
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if "gnu time" in (answer.stdout + answer.stderr).lower():
            return path
    return None


def wrap(argv: list[str]) -> list[str]:
    """The command under GNU time, or as it is where there is none."""
    path = find()
    return [path, "-v", *argv] if path else argv


def split(text: str) -> tuple[str, str]:
    """What the command printed, and the block behind it ("" where GNU time did not live to write one)."""
    match = _BLOCK.search(text)
    return (text[: match.start()], match[0]) if match else (text, "")


def exit_code(block: str) -> int | None:
    """Exit code in a whole block, 128 + n after signal n (where the block itself says 0); None for a block cut short."""
    status = _STATUS.search(block)
    if status is None:
        return None
    signal = _SIGNAL.match(block)
    return 128 + int(signal[1]) if signal else int(status[1])
