"""One self-contained HTML page of a set of records: no network, readable without a script, plots with one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yoloperf.core.record import STATUSES, RunRecord
from yoloperf.core.units import show_seconds
from yoloperf.report.columns import IDENTITY, RUN_COLUMNS, distinct, failed, in_order, place
from yoloperf.report.evidence import Finding
from yoloperf.report.findings import findings
from yoloperf.report.links import link, log_of
from yoloperf.report.load import Records
from yoloperf.report.page_charts import charts
from yoloperf.report.page_cost import costs
from yoloperf.report.page_platforms import platform_cards
from yoloperf.report.page_predict import predicted
from yoloperf.report.page_tables import MAX_ROWS, anchor, comparisons, overview, runs_table
from yoloperf.report.shell import MARKS, render

LISTED = 12  # cases against a claim
RUNS = 8  # of a case that are linked
LOST = 40  # runs named that did not finish

SECTIONS = {
    "overview": "Overview",
    "findings": "Findings",
    "plots": "Plots",
    "compare": "Comparisons",
    "runs": "Runs",
    "platforms": "Platforms",
    "cost": "Cost and energy",
    "predictions": "Predictions",
}


@dataclass(frozen=True)
class Page:
    """The text of the page, the names of its plots, and for each that the records do not allow the reason."""

    html: str
    plots: list[str]
    missing: dict[str, str]


def page(records: Records, out: Path, sources: Sequence[Path] = (), heading: str | None = None) -> Page:
    """Everything about some records. `out` is where it will lie, for the links; `sources` names where the records come from."""
    runs = in_order(records.runs, [*IDENTITY, "batch_size", "epochs", "seed", "run_id"])
    records = replace(records, runs=runs)
    logs = {str(run.run_id): log_of(run, records.bases) for run in runs}
    links = {name: href for name, log in logs.items() if (href := link(log, out))}
    drawn, missing = charts(records)
    made, spent = predicted(runs), costs(runs, records.epochs)
    sections = {id: text for id, text in SECTIONS.items() if (id != "predictions" or made) and (id != "cost" or spent)}
    lost = [run for run in runs if failed(run)]
    html = render(
        "page.html",
        drawn,
        heading=heading or _heading(runs),
        subtitle=_subtitle(runs),
        sections=sections.items(),
        tiles=_tiles(runs),
        warnings=_warnings(records),
        overview=overview(runs),
        lost=[(str(run.run_id), *_end(run), links.get(str(run.run_id))) for run in lost[:LOST]],
        lost_more=max(0, len(lost) - LOST),
        findings=_judged(runs),
        listed=LISTED,
        missing=missing,
        compared=comparisons(runs, links),
        titles={name: item.metadata["title"] for name, item in RUN_COLUMNS.items()},
        runs=runs_table(runs, links),
        cards=platform_cards(runs),
        predicted=made,
        costs=spent,
        sources=", ".join(path.name or str(path) for path in sources),
    )
    return Page(html, [chart.name for chart in drawn], missing)


def _heading(runs: Sequence[RunRecord]) -> str:
    models, platforms = distinct(runs, "model"), distinct(runs, "platform")
    if len(models) * len(platforms) == 1:
        return place(runs)
    what = " and ".join(models) if 0 < len(models) < 4 else f"{len(models)} models" if models else "Runs"
    where = " and ".join(platforms) if 0 < len(platforms) < 4 else f"{len(platforms)} platforms" if platforms else ""
    return f"{what} on {where}" if where else what


def _subtitle(runs: Sequence[RunRecord]) -> str:
    parts = []
    for name, words in (("dataset", "data"), ("img_size", "image size"), ("engine", "engine")):
        values = distinct(runs, name)
        if values:
            more = f" and {len(values) - 3} more" if len(values) > 3 else ""
            parts.append(f"{words} {', '.join(map(str, values[:3]))}{more}")
    dates = sorted({run.started_at[:10] for run in runs if run.started_at})
    if dates:
        parts.append(dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}")
    return " · ".join(parts)


def _tiles(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    walls = [run.wall_s for run in runs if run.wall_s is not None]
    lost = sum(map(failed, runs))
    tiles = [("runs", str(len(runs))), ("finished", str(sum(run.status == "ok" for run in runs)))]
    if lost:
        tiles.append(("not finished", str(lost)))
    tiles += [("platforms", str(len(distinct(runs, "platform")) or "not recorded")), ("models", str(len(distinct(runs, "model"))))]
    best = max((run.map50 for run in runs if run.map50 is not None and not failed(run)), default=None)
    if best is not None:
        tiles.append(("best mAP@0.5", f"{best:.3f}"))
    if walls:
        tiles.append(("time of all runs" if len(walls) == len(runs) else f"time of {len(walls)} runs", show_seconds(sum(walls))))
    return tiles


def _warnings(records: Records) -> list[str]:
    said = []
    if records.unread:
        said.append(f"{records.unread} files or lines of the logs could not be read; `yoloperf parse` names them.")
    versions = distinct(records.runs, "schema_version")
    if len(versions) > 1:
        said.append(f"Rows of schema versions {', '.join(map(str, versions))} are mixed: what an older version did not record is empty.")
    return said


def _end(run: RunRecord) -> tuple[str, str]:
    text = ": ".join(part for part in (run.status, run.reason) if part)
    return text, f"status {run.status if run.status in STATUSES else 'unsaid'}"


@dataclass(frozen=True)
class Judged:
    """A finding with its mark, and the cases that do not bear it out, each with the address and name of its runs' rows."""

    finding: Finding
    mark: str
    against: list[tuple[str, list[tuple[str, str]]]]


def _judged(runs: Sequence[RunRecord]) -> list[Judged]:
    rows = {str(run.run_id): f"#{anchor(k)}" for k, run in enumerate(runs)} if len(runs) <= MAX_ROWS else {}
    found = []
    for finding in findings(runs):
        against = []
        for facet in finding.facets:
            where = f" ({facet.measure})" if len(finding.facets) > 1 else ""
            for case in facet.cases:
                if not case.holds:
                    against.append((case.where + where, [(rows[name], name) for name in case.runs[:RUNS] if name in rows]))
        found.append(Judged(finding, MARKS[finding.verdict], against))
    return found
