"""What a study says, from its files alone: results.json, findings.md, tables, plots and the page. No clock, no machine: the same
files give the same bytes."""

import csv
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.offload.cells import Job, done
from yoloperf.offload.part import Done, Finding, Part, Results
from yoloperf.offload.study import Study
from yoloperf.report.evidence import NOT_TESTABLE
from yoloperf.report.shell import MARKS, VEGA_LITE

# part -> the question that it is for
QUESTIONS = {
    "places": "Is offloading worth it here, and what would make it so?",
    "resolution": "Which picture size?",
    "batches": "One picture or several in a request?",
    "load": "How much can one service take?",
    "scaling": "How many nodes?",
}
_SCALE = 2  # pixels of a plot's PNG for one of the page


@dataclass(frozen=True)
class Said:
    """A part with all that its cells say."""

    part: Part
    jobs: list[Job]
    results: Results


@dataclass(frozen=True)
class Answer:
    """A question that the study was made for, and what the part found on it."""

    part: str
    question: str
    findings: list[Finding]


def everything(study: Study, parts: Sequence[Part], every: Sequence[Job]) -> list[Said]:
    said = []
    for part in parts:
        own = [job for job in every if job.part is part]
        found, mixed = _results(part, done(every, part), study), _machines(own)
        if mixed:
            told = any(finding.answers for finding in found.findings)
            first = [replace(finding, answers=finding.answers or not told) for finding in found.findings[:1]]
            found = replace(found, findings=[*first, *found.findings[1:], mixed])
        said.append(Said(part, own, found))
    return said


def _results(part: Part, measured: Sequence[Done], study: Study) -> Results:
    try:
        return part.results(measured, study)
    except UserError as error:  # the other parts have their say
        return Results([], [], [Finding(f"Nothing can be said here: {error}", NOT_TESTABLE)])


def _machines(jobs: Sequence[Job]) -> Finding | None:
    """Where a part was measured on several, as a study is whose folder went to another machine and was resumed there."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        content = job.read() or {}
        facts = content.get("environment")
        if content.get("status") == "ok" and facts:
            found.setdefault(f"{facts.get('hostname')} ({facts.get('cpu_name')})", []).append(job)
    if len(found) < 2:
        return None
    each = " and ".join(f"{len(own)} on {machine}" for machine, own in found.items())
    fewest = [job.cell.name for job in min(found.values(), key=len)]
    text = f"The cells of this part were measured on {len(found)} machines, {each}: what compares them compares those, too"
    return Finding(f"{text}; --redo {jobs[0].part.name} measures all of them again.", None, fewest, answers=True)


def answers(said: Sequence[Said]) -> list[Answer]:
    """The study in short. A part that can say nothing yet has no answer."""
    found = []
    for item in said:
        every = item.results.findings
        if every:
            chosen = [finding for finding in every if finding.answers] or every[:1]
            found.append(Answer(item.part.name, QUESTIONS.get(item.part.name, item.part.title), chosen))
    return found


def write_results(study: Study, said: Sequence[Said], folder: Path, text: str) -> list[Path]:
    """Write all of it into the study's folder; `text`: the study file. Returns what people read, the page first."""
    from yoloperf.offload.page import page  # templates, which measuring does not need

    for name in ("tables", "plots"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for item in said:
        for table in item.results.tables:
            write_atomic(folder / "tables" / f"{item.part.name}-{table.name}.csv", _csv(table.rows))
        for chart in item.results.charts:
            write_atomic(folder / "plots" / f"{item.part.name}-{chart.name}.png", _png(chart.spec))
    write_atomic(folder / "results.json", json.dumps(results(study, said), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    write_atomic(folder / "findings.md", findings_md(study, said))
    write_atomic(folder / "report.html", page(study, said, text))
    return [folder / "report.html", folder / "findings.md", folder / "results.json"]


def results(study: Study, said: Sequence[Said]) -> dict[str, Any]:
    """All of it as JSON can hold it."""
    return {
        "study": asdict(study),
        "answers": [asdict(answer) for answer in answers(said)],
        "parts": {
            item.part.name: {
                "title": item.part.title,
                "cells": {job.cell.name: _cell(job) for job in item.jobs},
                "findings": [asdict(finding) for finding in item.results.findings],
                "tables": [asdict(table) for table in item.results.tables],
                "charts": [{"name": chart.name, "title": chart.title, "note": chart.note} for chart in item.results.charts],
            }
            for item in said
        },
    }


def _cell(job: Job) -> dict[str, Any]:
    content = job.read() or {"status": "missing"}
    return {"settings": job.cell.settings} | {name: content.get(name) for name in ("status", "reason", "wall_s", "started_at", "summary")}


def findings_md(study: Study, said: Sequence[Said]) -> str:
    lines = [f"# {study.name}", ""]
    short = [f"- **{answer.question}** {' '.join(map(_sentence, answer.findings))}" for answer in answers(said)]
    lines += short or ["Nothing was measured yet."]
    for item in said:
        lines += ["", f"## {item.part.title}", ""]
        lines += [f"- {_sentence(finding)}" for finding in item.results.findings] or ["Nothing can be said yet."]
        lost = [(job.name, content["reason"]) for job in item.jobs if (content := job.read()) and content["status"] == "failed"]
        lines += [f"- not measured: {name}: {reason}" for name, reason in lost]
    return "\n".join(lines) + "\n"


def _sentence(finding: Finding) -> str:
    text = finding.text if finding.text.endswith(".") else f"{finding.text}."
    return f"{MARKS[finding.verdict]} {finding.verdict}: {text}" if finding.verdict else text


def _csv(rows: Sequence[dict[str, str]]) -> str:
    titles = list(dict.fromkeys(title for row in rows for title in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, titles, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _png(spec: dict[str, Any]) -> bytes:
    import vl_convert  # loads a JavaScript engine

    return bytes(vl_convert.vegalite_to_png(json.dumps(spec, allow_nan=False), vl_version=VEGA_LITE, scale=_SCALE))
