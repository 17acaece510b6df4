"""What a check of `yoloperf doctor` returns."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table.

    state: ok; missing, which something can be done about; note, which is so. what: what was found. why: what it means.
    next_step: a command or an advice. fatal: no training is possible here until that is mended.
    """

    check: str
    state: Literal["ok", "missing", "note"]
    what: str
    why: str | None = None
    next_step: str | None = None
    fatal: bool = False
