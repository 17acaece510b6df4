"""docs/log-format.md lists what is read."""

import re
from pathlib import Path

from yoloperf.core.record import STATUSES
from yoloperf.parsing.operators import OPERATORS
from yoloperf.parsing.verbs import formats

TEXT = (Path(__file__).parents[2] / "docs" / "log-format.md").read_text()


def test_every_format_is_documented() -> None:
    table = TEXT.partition("## Formats")[2].partition("## How")[0]
    assert {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`([\w-]+)`", row)} == set(formats())


def test_every_status_is_documented() -> None:
    table = TEXT.partition("## Status")[2].partition("## Profiles")[0]
    assert {name for row in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)} == set(STATUSES)


def test_every_operator_is_documented() -> None:
    words = " ".join(TEXT.split())
    for operator in OPERATORS:
        assert operator.removeprefix("convolution ") in words
