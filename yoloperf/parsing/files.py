"""One file into drafts: what it is shows in its content."""

from collections.abc import Callable, Iterator
from pathlib import Path

from yoloperf.parsing.content import DAMAGED, chunks, is_binary, open_content, peek
from yoloperf.parsing.draft import Draft, Rejected
from yoloperf.parsing.formats import file_formats
from yoloperf.parsing.lines import LogReader
from yoloperf.parsing.sources import shown

Unknown = Callable[[str, int, bytes], None]


def read_file(path: Path, new_draft: Callable[[], Draft], unknown: Unknown | None = None) -> Iterator[Draft | Rejected]:
    """Drafts of the runs in a file, each as soon as its last line is read, or why the file cannot be read."""
    name = shown(path)
    if path.exists() and not path.is_file():
        yield Rejected(name, None, "not a file")
        return
    try:
        with open_content(path) as stream:
            head = peek(stream)
            if not head:
                yield Rejected(name, None, "the file is empty")
                return
            kind = next((kind for kind in file_formats() if kind.sniff(head)), None)
            if kind:
                yield from kind.read(path, stream, new_draft)
            elif is_binary(head):
                yield Rejected(name, None, "a binary file of no known format")
            else:
                listen = (lambda number, line: unknown(name, number, line)) if unknown else None
                yield from LogReader(new_draft, listen).read(chunks(stream))
    except DAMAGED as error:
        yield Rejected(name, None, getattr(error, "strerror", None) or str(error))
    except ValueError as error:
        yield Rejected(name, None, str(error))
