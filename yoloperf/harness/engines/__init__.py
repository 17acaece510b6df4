"""Trainers: commands that take the flags of train.py and print its events. Another project's trainer gets an adapter that does."""

import sys

from yoloperf.core.environment import SOURCE_ROOT
from yoloperf.core.spec import ENGINES


def trainer_of(engine: str) -> list[str]:
    """The command of an engine: train.py beside the package, or the module where the package was installed without it."""
    assert engine in ENGINES
    if engine != "yoloperf":
        return [sys.executable, "-m", f"yoloperf.harness.engines.{engine}"]
    script = SOURCE_ROOT / "train.py"
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "yoloperf.yolo.train"]
