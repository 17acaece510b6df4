"""`yoloperf offload`."""

import argparse
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.lock import held
from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.offload.cells import Job, jobs, load_parts, matching
from yoloperf.offload.results import Said, answers, everything, results, write_results
from yoloperf.offload.runner import run_cells
from yoloperf.offload.study import PARTS, Study, read_study


def _flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    # not required: --only takes the words behind it, and what is said then is ours
    add("file", type=Path, nargs="?", metavar="FILE", help="study file, see sweeps/README.md")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="folder of the study: measurements, tables, plots and report.html")
    add("--only", nargs="+", default=[], metavar="PART", help=f"measure these parts alone: {', '.join(PARTS)}")
    add("--redo", action="append", default=[], metavar="PATTERN", help="measure cells anew that are done, such as 'scaling/*'")
    add("--report-only", action="store_true", help="measure nothing; make tables, plots, findings and the page anew")
    add("--dry-run", action="store_true", help="name the cells that would be measured, and no more")


def _offload(args: argparse.Namespace) -> Result:
    """Exit code 1 when cells are failed or missing at the end."""
    if args.file is None:
        taken = f": --only takes {args.only[-1]!r} for a part, so put FILE first" if args.only else ", such as sweeps/offload.yaml"
        raise UserError(f"no study FILE was given{taken}")
    study = read_study(args.file)
    for name in args.only:
        choose(name, study.parts, f"part of {args.file}")
    parts = load_parts(study)
    every = jobs(study, parts, args.out)
    again = matching(every, args.redo)
    if args.report_only and (again or args.only):
        raise UserError("--report-only measures nothing: leave out --only and --redo")
    wanted = [job for job in every if not args.only or job.part.name in args.only]
    todo = [job for job in wanted if job.name in again or not job.is_done]
    if args.dry_run:
        for job in todo:
            print(job.name)
        print(f"{len(todo)} of {len(every)} cells would be measured")
        return 0, {"cells": len(every), "todo": [job.name for job in todo]}
    with held(args.out / "study.lock", f"the study in {args.out}"):
        text = args.file.read_text()
        write_atomic(args.out / "study.yaml", text)
        if not args.report_only:
            print(f"{study.name}: {len(every)} cells, {len(todo)} to measure; {args.out}", flush=True)
            run_cells(every, todo, study)
        said = everything(study, parts, every)
        written = write_results(study, said, args.out, text)
    return _end(study, every, said, written, args.out)


def _end(study: Study, every: list[Job], said: list[Said], written: list[Path], out: Path) -> Result:
    ends: dict[str, list[str]] = {"ok": [], "failed": [], "missing": []}
    wall_s = 0.0
    for job in every:
        content: dict[str, Any] = job.read() or {"status": "missing"}
        ends[content["status"]].append(job.name)
        wall_s += content.get("wall_s", 0.0)
    for answer in answers(said):
        print(answer.question, *(f"  {finding.text}" for finding in answer.findings), sep="\n")
    counts = ", ".join(f"{len(names)} {end}" for end, names in ends.items() if names)
    print(f"{counts}, measured in {show_seconds(wall_s)}; {written[0]}")
    code = 1 if ends["failed"] or ends["missing"] else 0
    return code, {"folder": str(out), **ends, "wall_s": wall_s, **results(study, said)}


offload = Verb(
    help="measure whether offloading detection to a service is worth it: places, picture sizes, batches, load, replicas",
    example="yoloperf offload sweeps/offload.yaml -o out/offload",
    configure=_flags,
    run=_offload,
)
