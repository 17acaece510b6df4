import json
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.conftest import MakeSet
from yoloperf.cli import main


def result(capsys: pytest.CaptureFixture[str]) -> Any:
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1, "with --json nothing but the result goes to stdout"
    return json.loads(lines[0])


def test_synth_then_check_then_convert(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "synth", "--images", "2", "1", "1", "--size", "160", "120", "--json"]) == 0
    assert result(capsys) == {"folder": "datasets/smear", "splits": {"train": 2, "val": 1, "test": 1}, "made": True}
    assert main(["data", "check", "smear", "--json"]) == 0
    report = result(capsys)
    assert (report["images"], report["counts"], report["findings"]) == (4, {}, [])
    assert main(["data", "--json", "convert", "smear", "--to", "out"]) == 0
    assert result(capsys)["splits"]["train"]["images"] == 2
    assert Path("out/smear.yaml").is_file()


def test_the_command_that_synth_prints_works_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["data", "synth", "--to", "smr", "--images", "1", "1", "1", "--size", "64", "48"]) == 0
        data = capsys.readouterr().out.rpartition("--data ")[2].strip()
        assert main(["data", "check", data]) == 0
        assert "smear: 3 images" in capsys.readouterr().out


def test_check_says_what_is_wrong_and_exits_with_1(make_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    file = make_set({"a": "9 0.5 0.5 0.1 0.1\n7 0.5 0.5 0.1 0.1\n", "b": "1 0.5 0.5 0.1 0.1\n"})
    assert main(["data", "check", str(file), "--show", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("malformed labels: ") and "a.txt: line 1: class 9 out of range" in lines[0]
    assert lines[1:] == ["... and 1 more: --show 2", "cells: 2 images, 1 boxes: 2 x malformed labels"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["check", "smear"], "yoloperf data synth"),
        (["check", "smaer"], "did you mean 'smear'"),
        (["fetch", "cocoo"], "did you mean 'coco'"),
        (["synth", "--images", "0", "1", "1"], "at least 1"),
        (["synth", "--seed", "-1"], "at least 0"),
        (["synth", "--size", "8", "8"], "take sides from 32"),
        (["synth", "--size", "66000", "4"], "take sides from 32"),
        (["synth", "--size", "640", "32"], "at most 4 times the shorter"),
        (["check", "smear", "--show", "-1"], "at least 0"),
        (["convert", "nowhere.yaml"], "choose from"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["fetch", "convert", "check", "synth"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["data", command, "--help"])
    assert stopped.value.code == 0
    assert f"example:\n  yoloperf data {command}" in capsys.readouterr().out
