"""The one error that is shown to people without a traceback, and how a command ends."""

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Input that the user can mend. The message names the valid choice or the next step.

    A command prints it as one line and exits with code 2; every other exception is a bug and keeps its
    traceback.
    """


def exit_code(program: str, act: Callable[[], int]) -> int:
    """What `act` returns, 2 after a UserError, 130 after Ctrl-C, 0 when nobody reads its output any more (`| head`)."""
    try:
        code = act()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # what is still buffered would fail a second time when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def choose(word: str, choices: Iterable[str], what: str) -> str:
    """Return `word` if it is one of `choices`; otherwise raise UserError with the nearest ones."""
    known = sorted(choices)
    if word in known:
        return word
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown {what} {word!r}: {hint}choose from {', '.join(known)}")
