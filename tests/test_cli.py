import json
import shlex
import subprocess
import sys

import pytest

from yoloperf import __version__
from yoloperf.cli import VERBS, load, main, parser_for


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_and_an_example_that_its_parser_takes(name: str) -> None:
    verb = load(name)
    program, first, *flags = shlex.split(verb.example)
    assert (program, first) == ("yoloperf", name)
    parser_for(name, verb).parse_args(flags)
    assert verb.help and verb.help[0].islower() and not verb.help.endswith(".")


def test_usage_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in VERBS)


def test_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tabel"]) == 2
    assert "did you mean 'table'" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_user_error_is_one_line_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-m", "yoloperf", "table", "nowhere.csv"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("yoloperf: ") and done.stderr.count("\n") == 1 and not done.stdout


def test_json_is_the_only_thing_on_stdout(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "bare_metal_bs4_ep1_lr1_tiny.txt"
    log.write_text("no log that anyone knows\n")
    main(["parse", str(log), "-o", str(tmp_path / "runs.csv"), "--json"])
    assert isinstance(json.loads(capsys.readouterr().out), dict)
