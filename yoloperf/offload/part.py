"""A part of an offload study: the cells it measures, how one is measured, and what all of them say.

Measuring and saying are apart: `measure` leaves requests.csv and a summary in the cell's folder, `results` reads nothing else, so
that tables, pictures and findings can be made again from the files, on another machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from yoloperf.core.request import RequestRecord
from yoloperf.offload.study import Study


@dataclass(frozen=True)
class Cell:
    """name: the cell's folder, unique in its part: letters, digits, ".", "_", "-"; settings: all that decides the outcome, as JSON can
    hold it."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A cell that was measured. summary: what `measure` returned; requests: the rows of its requests.csv."""

    cell: Cell
    summary: dict[str, Any]
    requests: list[RequestRecord]


@dataclass(frozen=True)
class Table:
    """rows: cells by column title, already as people read them (numbers with unit and sensible digits); "" where absent."""

    name: str
    title: str
    rows: list[dict[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite 6 specification with its data inside: interactive on the page, PNG by vl-convert. Readable in black and white."""

    name: str
    title: str
    spec: dict[str, Any]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """A sentence with its numbers. verdict: report.evidence's SUPPORTED, CONTRADICTED, MIXED or NOT_TESTABLE, or None where it is
    a figure and no claim; evidence: names of the cells it stands on; answers: whether it answers the question that the part is for,
    and so stands on top of the study as well (where none does, the part's first)."""

    text: str
    verdict: str | None = None
    evidence: list[str] = field(default_factory=list)
    answers: bool = False


@dataclass(frozen=True)
class Results:
    tables: list[Table]
    charts: list[Chart]
    findings: list[Finding]


class Part(Protocol):
    """name: key in the study file; title: heading on the page."""

    name: str
    title: str

    def cells(self, study: Study) -> list[Cell]:
        """What is to be measured. Raises UserError for settings that make no sense, naming the key."""

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        """Measure one cell; write folder/requests.csv; return a summary that JSON can hold (finite numbers, None where absent).

        Raises UserError where it cannot be (a server that is down, no right to shape a link): the study notes the line and goes on.
        """

    def results(self, done: Sequence[Done], study: Study) -> Results:
        """From any subset of the cells; empty lists where nothing can be said. Raises UserError where what was measured cannot be used:
        that is the part's finding then."""
