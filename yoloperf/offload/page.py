"""report.html of a study: what it found first, then every part with tables and plots, the machine, and how each cell ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yoloperf.core.record import shown
from yoloperf.core.units import show_seconds
from yoloperf.offload.cells import Job
from yoloperf.offload.part import Finding, Table
from yoloperf.offload.results import Said, answers
from yoloperf.offload.study import Place, Study
from yoloperf.report import render as text_tables
from yoloperf.report.columns import RUN_COLUMNS, title
from yoloperf.report.page_tables import Cell, PageTable, magnitude, plain
from yoloperf.report.shell import MARKS, render
from yoloperf.report.vega import Chart

_MACHINE = ("cpu_name", "cpu_count", "mem_bytes", "gpu_name", "driver", "torch", "python", "git_commit")
EVIDENCE = 8  # cells of a finding that are linked


@dataclass(frozen=True)
class Claim:
    """A finding as the page shows it: mark, class of its look, and (name, address) of the cells it stands on."""

    finding: Finding
    mark: str
    look: str
    cells: list[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part. charts: with their numbers among all of the page."""

    name: str
    title: str
    claims: list[Claim]
    charts: list[tuple[int, Chart]]
    tables: list[PageTable]
    cells: PageTable
    failed: list[tuple[str, str]]
    missing: int


@dataclass(frozen=True)
class Card:
    """A machine, or a place of the study, by its facts."""

    name: str
    what: str
    facts: list[tuple[str, str]]


def page(study: Study, said: Sequence[Said], text: str) -> str:
    """text: the study file."""
    drawn: list[Chart] = []
    sections = []
    for item in said:
        first = len(drawn)
        drawn += [Chart(chart.name, chart.title, [("", chart.spec)], chart.note) for chart in item.results.charts]
        sections.append(_section(item, list(enumerate(drawn))[first:]))
    short = [(answer, [_claim(finding, []) for finding in answer.findings]) for answer in answers(said)]
    return render(
        "offload.html",
        drawn,
        "yoloperf.offload",
        heading=f"Is it worth offloading? {study.name}",
        subtitle=f"{study.model.partition('=')[0]} · data {Path(study.data).stem}, {study.images} images of {study.split}",
        sections=[
            ("findings", "Findings"),
            *((item.name, item.title.partition(":")[0]) for item in sections),
            ("machine", "Machine and places"),
            ("study", "Study file"),
        ],
        sources=f"the study {study.name}",
        tiles=_tiles(said),
        short=short,
        parts=sections,
        more=EVIDENCE,
        cards=[*_machines(said), *_places(study)],
        study_text=text,
    )


def _section(said: Said, charts: list[tuple[int, Chart]]) -> Section:
    states = [job.read() or {} for job in said.jobs]
    return Section(
        said.part.name,
        said.part.title,
        [_claim(finding, said.jobs) for finding in said.results.findings],
        charts,
        [_table(table) for table in said.results.tables],
        _cells(said.jobs),
        [(job.cell.name, state["reason"]) for job, state in zip(said.jobs, states, strict=True) if state.get("status") == "failed"],
        sum(not state for state in states),
    )


def _claim(finding: Finding, jobs: Sequence[Job]) -> Claim:
    known = {job.cell.name: f"#{_anchor(job)}" for job in jobs}
    cells = [(name, known[name]) for name in finding.evidence if name in known]
    if finding.verdict is None:
        return Claim(finding, "", "figure", cells)
    return Claim(finding, MARKS[finding.verdict], finding.verdict.replace(" ", "-"), cells)


def _table(table: Table) -> PageTable:
    titles = list(dict.fromkeys(name for row in table.rows for name in row))
    cells = [[row.get(name, "") for name in titles] for row in table.rows]
    numeric = [any(column) and all(magnitude(cell) is not None for cell in column if cell) for column in zip(*cells, strict=True)]
    made = plain(text_tables.Table(titles, numeric, [text_tables.Row(row) for row in cells], table.title))
    note = " ".join(part for part in (table.note, made.note) if part)
    return PageTable(made.headings, made.rows, made.caption, note)


def _cells(jobs: Sequence[Job]) -> PageTable:
    rows = []
    for job in jobs:
        content: dict[str, Any] = job.read() or {}
        status, wall_s = content.get("status", "missing"), content.get("wall_s")
        there = job.requests.exists()
        address = quote(f"{job.part.name}/{job.cell.name}/requests.csv")
        rows.append(
            [
                Cell(job.cell.name, key=_anchor(job)),
                Cell(status, mark=f"status {status if status in ('ok', 'failed') else 'unsaid'}"),
                Cell(content.get("reason") or ""),
                Cell() if wall_s is None else Cell(show_seconds(wall_s), wall_s),
                Cell("requests.csv", None, [address]) if there else Cell(),
            ]
        )
    words = [("cell", False), ("status", False), ("reason", False), ("time", True), ("requests", False)]
    return PageTable([(word, "", numeric, True) for word, numeric in words], rows)


def _anchor(job: Job) -> str:
    return f"cell-{job.part.name}-{job.cell.name}"


def _tiles(said: Sequence[Said]) -> list[tuple[str, str]]:
    states = [job.read() or {} for item in said for job in item.jobs]
    ends = [state.get("status", "missing") for state in states]
    tiles = [("cells", str(len(ends))), ("measured", str(ends.count("ok")))]
    tiles += [(word, str(count)) for end, word in (("failed", "failed"), ("missing", "not yet measured")) if (count := ends.count(end))]
    return [*tiles, ("time of measuring", show_seconds(sum(state.get("wall_s", 0.0) for state in states)))]


def _machines(said: Sequence[Said]) -> list[Card]:
    """The machines that cells were measured from."""
    found: dict[str, list[dict[str, Any]]] = {}
    for item in said:
        for job in item.jobs:
            environment = (job.read() or {}).get("environment")
            if environment:
                found.setdefault(str(environment.get("hostname") or "not recorded"), []).append(environment)
    cards = []
    for name, environments in found.items():
        facts = []
        for column in _MACHINE:
            values = {shown(RUN_COLUMNS[column], environment.get(column)): None for environment in environments}
            text = ", ".join(value for value in values if value)
            if text:
                facts.append((title(column), text))
        cards.append(Card(name, f"measured {len(environments)} cell{'s' * (len(environments) > 1)}", facts))
    return cards


def _places(study: Study) -> list[Card]:
    cards = []
    for place, role in ((study.local, "the local place"), (study.remote, "the remote place")):
        cards.append(Card(place.name, role, _facts(place)))
    links = [
        (link.name, f"up {_rate(link.up_bps)}, down {_rate(link.down_bps)}, round trip {show_seconds(link.rtt_s)} more")
        for link in study.links
    ]
    return [*cards, *([Card("links", "between them", links)] if links else [])]


def _facts(place: Place) -> list[tuple[str, str]]:
    facts = [("runtime", place.runtime), ("precision", place.precision or "auto"), ("threads", str(place.threads or "every core"))]
    facts += [("address", place.url)] if place.url else []
    facts += [("power", f"{place.power_w:g} W")] if place.power_w is not None else []
    return facts + ([("price", f"{place.currency} {place.price_per_hour:g} an hour")] if place.price_per_hour is not None else [])


def _rate(bps: float | None) -> str:
    return "not limited" if bps is None else f"{bps / 1e6:g} Mbit/s"
