"""`yoloperf sweep` with the stand-in for train.py, as a process that a test can kill."""

import sys
from pathlib import Path

from yoloperf.cli import parser_for
from yoloperf.core.errors import UserError
from yoloperf.harness import verbs

TRAINER = [sys.executable, str(Path(__file__).with_name("standin.py"))]

if __name__ == "__main__":
    try:
        code, _ = verbs.sweep_cells(parser_for("sweep", verbs.sweep).parse_args(sys.argv[1:]), TRAINER)
    except UserError as error:
        print(f"yoloperf: {error}", file=sys.stderr)
        code = 2
    raise SystemExit(code)
