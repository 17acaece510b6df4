"""What a log format is: a reader of lines that may lie between the lines of others, or of a whole file.

A log has several writers: a trainer's console, a profiler's table, GNU time's block, Slurm's last word. So a
text format does not own a file. It names the beginnings of the lines that it knows, and gets those lines.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from yoloperf.parsing.draft import Draft


class Signal(Enum):
    NEXT_RUN = "this line begins another run: finish the one at hand and ask again"
    BLOCK_ENDS = "not a line of this block, and none will follow"


# A block takes the lines after its first one (True). What it refuses (False) is asked of everybody; from then on it gets what
# nobody else knows, as other programs print between its rows, until another format takes a line or it says that it has ended.
Block = Callable[[bytes], bool | Signal]
# What a handler answers: read (True), not mine after all (False), or that a run or a block begins.
Answer = bool | Signal | Block


class LineFormat:
    """Reader of one text format in one run. Made when the first line of its kind is met.

    A handler gets a line without its end, colours and overdrawn parts. It reads what is there and stores it in
    `self.run`. A ValueError or OverflowError that it raises rejects the line: numbers that are none.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    # (name of the method that takes the line, regular expressions for its beginning after blanks, without groups).
    # An expression begins with a character or a class that is not repeated: then it costs next to nothing where it fails.
    heads: ClassVar[tuple[tuple[Any, ...], ...]] = ()
    # (text that may stand anywhere in a line, glued to a progress bar for instance; name of the method). Tried after the
    # heads, on every line that is not a row of a table; the method gets the raw line.
    anywhere: ClassVar[tuple[tuple[bytes, str], ...]] = ()
    # Its lines can follow the end of a run and still be about it; any other format's begin the next run then
    follows_end: ClassVar[bool] = False
    # A last line without its end may be cut in the middle of a number: only formats whose lines show that they are whole may read it
    reads_cut_line: ClassVar[bool] = False

    def __init__(self, run: "Draft") -> None:
        self.run = run

    def another(self, condition: object) -> bool:
        """Whether a line that meets the condition begins another run: never in a run folder, which is one run."""
        return bool(condition) and not self.run.whole_folder

    def finish(self) -> None:
        """Hand over what could only be known at the end of the run."""


class FileFormat:
    """A format that fills its file: not made of lines."""

    name: ClassVar[str]
    description: ClassVar[str]

    @staticmethod
    def sniff(head: bytes) -> bool:
        """Whether a file that begins with these bytes (64 KiB at most) is of this format."""
        raise NotImplementedError

    @staticmethod
    def read(path: Path, stream: Any, new_run: Callable[[], "Draft"]) -> Iterator["Draft"]:
        """Runs of the file. `stream` is its unpacked binary content. Raises ValueError with the reason when it is damaged."""
        raise NotImplementedError
