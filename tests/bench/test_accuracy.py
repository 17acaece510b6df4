"""bench/accuracy.py: how it calls what it compares."""

import argparse
import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


def test_ours_is_scored_in_fp32_whatever_it_was_trained_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("accuracy", ROOT / "bench" / "accuracy.py")
    assert found and found.loader
    accuracy = importlib.util.module_from_spec(found)
    found.loader.exec_module(accuracy)
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **how: (commands.append(command), SimpleNamespace(stdout='{"map50": 0.5}'))[1])
    args = argparse.Namespace(weights="yolov3-tiny.weights", batch=8, epochs=1, img=416, threads=None)
    assert accuracy.ours("bf16")(args, Path("a.yaml"), tmp_path, 0) == {"map50": 0.5}
    given = [command[command.index("--precision") + 1] for command in commands]
    assert given == ["bf16", "fp32"] and "evaluate" in commands[1]
