"""The verb findings: sentences with their verdicts and what they rest on."""

import argparse
import textwrap
from typing import Any

from yoloperf.core.verb import Result, Verb
from yoloperf.report.evidence import Finding
from yoloperf.report.findings import findings as every_finding
from yoloperf.report.verbs import input_flags, selected

LISTED = 4  # cases against a claim that are shown; --json has all
WIDTH = 110


def _findings(args: argparse.Namespace) -> Result:
    found = every_finding(selected(args).runs)
    for finding in found:
        print(_text(finding))
    print("supported: in every case; contradicted: in no more than half; mixed: between, or measures disagree. Cases are single runs")
    print("(their median where there are repeats): this says what these records show, not what chance allows; see `yoloperf compare`.")
    return 0, {"findings": [finding_result(finding) for finding in found]}


def _text(finding: Finding) -> str:
    lines = [f"{finding.verdict.upper()}: {finding.claim}."]
    against = finding.against()
    parts = [finding.sentence()]
    if against:
        more = f", and {len(against) - LISTED} more" if len(against) > LISTED else ""
        parts.append("not so: " + "; ".join(against[:LISTED]) + more)
    for part in parts:
        lines += textwrap.wrap(part, WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def finding_result(finding: Finding) -> dict[str, Any]:
    facets = [
        {
            "measure": facet.measure,
            "verdict": facet.verdict,
            "held": facet.held,
            "total": len(facet.cases),
            "median_ratio": facet.median_ratio,
            "cases": [vars(case) for case in facet.cases],
        }
        for facet in finding.facets
    ]
    return {"name": finding.name, "claim": finding.claim, "verdict": finding.verdict, "note": finding.note, "facets": facets}


findings = Verb(
    help="say what the runs show: claims, each with its numbers, its runs and a verdict",
    example="yoloperf findings logs/published-2020",
    configure=input_flags,
    run=_findings,
)
