"""What a room offers to the command line: one Verb a subcommand."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Result = tuple[int, dict[str, Any]]


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    configure adds the flags; run does the work, prints for people on stdout, and returns the exit code with
    the result that `--json` prints as the last line (the command line sends the human text to stderr then).
    """

    help: str
    example: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Result]
