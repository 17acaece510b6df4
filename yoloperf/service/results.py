"""The results of sending a folder: one line an image, appended whole; what a line is there for is done."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic

FILE, SETTINGS = "detections.jsonl", "send.json"


class Results:
    """`detections.jsonl` in the output folder, and `send.json` beside it with what all its lines have in common.

    Only the holder of the folder's lock may open it. A line is appended by one write: where a kill or a full disk cuts that short,
    the next start drops the piece, and the image is sent again.
    """

    def __init__(self, output: Path, source: Path) -> None:
        """Raises UserError where a line before the last is none of ours. Lines of images that changed since are dropped, too."""
        self.file, self._settings = output / FILE, output / SETTINGS
        self.source = source
        self.done: set[str] = set()
        self.truncated = 0  # images with more boxes than were asked for
        content = self.file.read_bytes() if self.file.exists() else b""
        kept = b"".join(self._current(content.splitlines(keepends=True)))
        if kept != content:
            write_atomic(self.file, kept)
        self._descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def name(self, image: Path) -> str:
        """What a line calls an image: its path in the folder that is sent."""
        return image.relative_to(self.source).as_posix()

    def close(self) -> None:
        os.close(self._descriptor)

    def settle(self, settings: dict[str, Any]) -> None:
        """Write down what all lines have in common. Raises UserError where the lines that are there were made with something else."""
        before = json.loads(self._settings.read_text()) if self._settings.exists() else settings
        changed = [key for key in settings if key != "model" and before.get(key) != settings[key]]
        if self.done and changed:  # whatever a node calls the weights, their digest says which they are
            had = ", ".join(f"{key} {before.get(key)!r}" for key in changed)
            raise UserError(f"{self.file.parent} holds results with {had}: ask for the same, or choose another --output")
        write_atomic(self._settings, json.dumps(settings, indent=1) + "\n")

    def lines(self) -> Iterable[dict[str, Any]]:
        """What is recorded, image by image."""
        with self.file.open("rb") as file:
            yield from map(json.loads, file)

    def append(self, image: Path, status: os.stat_result, content: dict[str, Any]) -> None:
        """Record an image; status: of the file that was sent. Raises UserError where the disk is full."""
        name = self.name(image)
        assert name not in self.done, f"{name} is done already"
        line = (json.dumps({"image": name, **_identity(status), **content}, allow_nan=False) + "\n").encode()
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise UserError(f"cannot write {self.file}: {error.strerror}; make room and run the same command again") from error
        if written < len(line):
            raise UserError(f"cannot write {self.file}: the disk is full; make room and run the same command again")
        self._count(content, name)

    def _current(self, lines: list[bytes]) -> Iterable[bytes]:
        for number, line in enumerate(lines, 1):
            try:
                content = json.loads(line) if line.endswith(b"\n") else None
                name, identity = (content["image"], {key: content[key] for key in ("bytes", "mtime_ns")}) if content else ("", {})
            except (ValueError, KeyError, TypeError) as error:
                if number < len(lines):
                    raise UserError(f"line {number} of {self.file} is no result: remove the line, or choose another --output") from error
                continue
            image = self.source / name
            if content and name not in self.done and (not image.exists() or identity == _identity(image.stat())):
                self._count(content, name)
                yield line

    def _count(self, content: dict[str, Any], name: str) -> None:
        self.done.add(name)
        self.truncated += bool(content.get("truncated"))


def _identity(status: os.stat_result) -> dict[str, int]:
    """What tells that a file is the one that was sent."""
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
