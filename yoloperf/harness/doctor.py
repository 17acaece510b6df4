"""`yoloperf doctor`: what works on this machine, what does not, and the line that mends it."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from yoloperf.core.errors import choose
from yoloperf.core.roofline import MODELS
from yoloperf.core.spec import STRIDE
from yoloperf.core.verb import Result, Verb
from yoloperf.harness import doctor_machine as machine
from yoloperf.harness import doctor_storage as storage
from yoloperf.harness.doctor_storage import Plan
from yoloperf.harness.finding import Finding
from yoloperf.harness.profilers import make_profiler


def examine(plan: Plan) -> Iterator[Finding]:
    """Every check, in the order of the table."""
    yield from machine.check_place()
    yield from machine.check_packages()
    yield from machine.check_gpu()
    yield from machine.check_profilers()
    yield machine.check_accounting()
    yield from machine.check_energy()
    yield from storage.check_data(plan)
    yield storage.check_disk(plan)
    yield storage.check_logs(plan)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="YAML", help="data set to make room for, as for train.py: bccd.yaml (default: none)")
    parser.add_argument("--img", type=_size, default=416, metavar="PIXELS", help="side of the network's input (default: 416)")
    parser.add_argument("--model", default="yolov3", help=f"{', '.join(MODELS)} (default: yolov3)")
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="folder of all runs (default: logs)")


def _size(text: str) -> int:
    if not text.isdecimal() or not int(text) or int(text) % STRIDE:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {STRIDE}")
    return int(text)


def _run(args: argparse.Namespace) -> Result:
    plan = Plan(args.data, args.img, choose(args.model, MODELS, "model"), args.logs)
    findings = list(examine(plan))
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        print(f"{finding.state:8} {finding.check:{width}}  {finding.what}")
        for word, text in (("why", finding.why), ("next", finding.next_step)):
            if text:
                print(f"{'':8} {'':{width}}  {word}: {text}")
    profiler, why = make_profiler("auto", 1)
    fatal = [finding.check for finding in findings if finding.fatal]
    print(f"training does not work here yet: {', '.join(fatal)}" if fatal else f"training works here; profiler {profiler.name}")
    return int(bool(fatal)), {
        "works": not fatal,
        "profiler": profiler.name,
        "profiler_why": why,
        "findings": [asdict(finding) for finding in findings],
    }


doctor = Verb(
    help="tell what works on this machine, why the rest does not, and how to install it",
    example="yoloperf doctor --data bccd.yaml --img 416",
    configure=_configure,
    run=_run,
)
