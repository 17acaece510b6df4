"""The `yoloperf` command: picks a verb, imports its room only then, prints errors once."""

import argparse
import contextlib
import importlib
import json
import sys

from yoloperf import __version__
from yoloperf.core.errors import choose, exit_code
from yoloperf.core.verb import Result, Verb

# verb -> module that holds a Verb of that name ("check-table" is check_table there)
VERBS = {
    "sweep": "yoloperf.harness.verbs",
    "status": "yoloperf.harness.verbs",
    "explain": "yoloperf.harness.verbs",
    "doctor": "yoloperf.harness.doctor",
    "task": "yoloperf.harness.slurm_verbs",
    "parse": "yoloperf.parsing.verbs",
    "check-table": "yoloperf.parsing.verbs",
    "merge": "yoloperf.report.merge",
    "table": "yoloperf.report.verbs",
    "plot": "yoloperf.report.verbs",
    "compare": "yoloperf.report.compare_verb",
    "findings": "yoloperf.report.findings_verb",
    "predict": "yoloperf.report.predict_verb",
    "cost": "yoloperf.report.cost_verb",
    "report": "yoloperf.report.page_verb",
    "bundle": "yoloperf.report.bundle_verb",
    "verify": "yoloperf.report.bundle_verb",
    "evaluate": "yoloperf.yolo.verbs",
    "export": "yoloperf.yolo.export",
    "bench": "yoloperf.bench.verbs",
    "serve": "yoloperf.service.verbs",
    "data": "yoloperf.datasets.verbs",
    "send": "yoloperf.service.send",
    "load": "yoloperf.offload.load_verb",
    "keywords": "yoloperf.workloads.verbs",
    "offload": "yoloperf.offload.verbs",
}


def load(name: str) -> Verb:
    verb = getattr(importlib.import_module(VERBS[name]), name.replace("-", "_"))
    assert isinstance(verb, Verb)
    return verb


def parser_for(name: str, verb: Verb) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"yoloperf {name}",
        description=verb.help,
        epilog=f"example:\n  {verb.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object on stdout and nothing else")
    verb.configure(parser)
    return parser


def usage() -> str:
    lines = [f"yoloperf {__version__}: train YOLOv3 on any GPU platform, profile every run, compare what came out", ""]
    lines += ["usage: yoloperf VERB [options]        yoloperf VERB --help", ""]
    lines += [f"  {name:12} {load(name).help}" for name in VERBS]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    return exit_code("yoloperf", lambda: _main(argv))


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(__version__)
        return 0
    name = choose(argv[0], VERBS, "verb")
    verb = load(name)
    args = parser_for(name, verb).parse_args(argv[1:])
    code, result = _run(verb, args)
    if args.json:
        print(json.dumps(result, allow_nan=False))
    return code


def _run(verb: Verb, args: argparse.Namespace) -> Result:
    if not args.json:
        return verb.run(args)
    with contextlib.redirect_stdout(sys.stderr):
        return verb.run(args)
