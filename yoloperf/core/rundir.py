"""RunDir: the only place that knows the names of the files of a run, and the only way to write them whole."""

import contextlib
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from yoloperf.core.errors import UserError

SUPERSEDED = "superseded"  # runs whose spec was changed since are moved below a folder of this name


@contextlib.contextmanager
def atomic_stream(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content replaces `path` as a whole when the block ends well: temporary file beside it, fsync, rename.

    Raises UserError on a full or read-only disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder or make room") from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` as a whole. Raises UserError on a full or read-only disk."""
    with atomic_stream(path) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


class RunDir:
    """The folder of one run: `logs/<platform>/<sweep>/<trial>/`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def run_json(self) -> Path:
        """Spec, environment, command, status, exit code, times."""
        return self.path / "run.json"

    @property
    def console(self) -> Path:
        """Everything that the wrapped command printed, GNU time's block last."""
        return self.path / "console.log"

    @property
    def profile(self) -> Path:
        """torch.profiler's kernel summary, written by the trainer; other profilers use their own suffix."""
        return self.path / "profile.json"

    @property
    def device_csv(self) -> Path:
        """Samples of the device while the run lasted."""
        return self.path / "device.csv"

    @property
    def lock(self) -> Path:
        """Held (flock) by whoever executes the run, so that no two processes do."""
        return self.path / "run.lock"

    @property
    def last_weights(self) -> Path:
        """Checkpoint after the last finished epoch: what --resume continues from."""
        return self.path / "weights" / "last.pt"

    @property
    def best_weights(self) -> Path:
        """Checkpoint of the epoch with the best validation mAP."""
        return self.path / "weights" / "best.pt"

    def read(self) -> dict[str, Any] | None:
        """Content of run.json, or None where there is none or it cannot be read."""
        try:
            content = json.loads(self.run_json.read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, content: dict[str, Any]) -> None:
        write_atomic(self.run_json, json.dumps(content, indent=1, allow_nan=False) + "\n")


def free_folder(parent: Path, name: str) -> Path:
    """Make the first of NAME, NAME2, NAME3, ... below `parent` that is not there yet; after a digit NAME-2, NAME-3, ...

    Raises UserError where it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = parent / (name if number == 1 else f"{name}{_dash(name)}{number}")
            with contextlib.suppress(FileExistsError):  # taken, perhaps by a process that looked at the same time
                folder.mkdir()
                return folder
    except OSError as error:
        raise UserError(f"cannot make a folder in {parent}: {error.strerror}; choose another folder") from error
    raise AssertionError("numbers have no end")


def _dash(name: str) -> str:
    return "-" if name[-1:].isdigit() else ""


def newest_folder(parent: Path, name: str) -> Path:
    """Of the folders that `free_folder` made, the one whose last checkpoint was written last. Raises UserError where none has one."""
    numbered = re.compile(rf"{re.escape(name)}({_dash(name)}([2-9]|[1-9]\d+))?")
    runs = [RunDir(path) for path in parent.glob("*") if numbered.fullmatch(path.name)]
    found = [run for run in runs if run.last_weights.is_file()]
    if not found:
        missing = RunDir(parent / name).last_weights
        raise UserError(f"nothing to resume: there is no {missing}; leave out --resume, or name the run folder with --save-dir")
    return max(found, key=lambda run: run.last_weights.stat().st_mtime_ns).path
