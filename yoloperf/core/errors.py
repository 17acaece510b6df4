"""The one error that is shown to people without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Input that the user can mend. The message names the valid choice or the next step.

    The command line prints it as one line and exits with code 2; every other exception is a bug and
    keeps its traceback.
    """


def choose(word: str, choices: Iterable[str], what: str) -> str:
    """Return `word` if it is one of `choices`; otherwise raise UserError with the nearest ones."""
    known = sorted(choices)
    if word in known:
        return word
    near = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UserError(f"unknown {what} {word!r}: {hint}choose from {', '.join(known)}")
