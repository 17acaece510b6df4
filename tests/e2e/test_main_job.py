"""The README's main job with the real trainer: data set, sweep, a SIGKILL in the middle, parse, table, plot."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from yoloperf.core.rundir import RunDir
from yoloperf.datasets import smear

SWEEP = """
name: small
fixed: {data: smear.yaml, cfg: yolov3-tiny, weights: "", img_size: 64, precision: fp32, threads: 1}
axes: {batch_size: [4, 8], epochs: [1, 3]}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    smear.generate(folder / "datasets" / "smear", {"train": 12, "val": 4, "test": 1}, size=(160, 120))
    (folder / "small.yaml").write_text(SWEEP)
    return folder


def _yoloperf(place: Path, *arguments: str, code: int = 0) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "YOLOPERF_DATA"}
    command = [sys.executable, "-m", "yoloperf", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout


def _sweep_killed_in_training(place: Path, logs: str) -> None:
    """Start the sweep and SIGKILL it once the second cell's training has finished an epoch."""
    environment = {name: value for name, value in os.environ.items() if name != "YOLOPERF_DATA"}
    command = [sys.executable, "-m", "yoloperf", "sweep", "small.yaml", "--platform", "here", "--logs", logs]
    process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    console = RunDir(place / logs / "here" / "small" / "yolov3-tiny_smear_bs4_ep3_lr1_s0").console
    while process.poll() is None:
        if console.is_file() and '"key": "epoch"' in console.read_text():
            process.send_signal(signal.SIGKILL)
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    assert process.wait() == -signal.SIGKILL


def test_from_sweep_to_plot(place: Path) -> None:
    _yoloperf(place, "sweep", "small.yaml", "--platform", "here", "--logs", "logs")
    again = json.loads(_yoloperf(place, "sweep", "small.yaml", "--platform", "here", "--logs", "logs", "--json").splitlines()[-1])
    assert [cell["state"] for cell in again["cells"]] == ["ok"] * 4
    _yoloperf(place, "parse", "logs", "-o", "out/runs.csv")
    table = json.loads(_yoloperf(place, "table", "out/runs.csv", "--format", "csv", "--json").splitlines()[-1])
    assert table
    text = _yoloperf(place, "table", "out/runs.csv")
    rows = [line.split() for line in text.splitlines() if re.match(r"\s+\d", line)]
    assert [row[:2] for row in rows] == [["4", "1"], ["4", "3"], ["8", "1"], ["8", "3"]], text
    for word in ("user", "CPU", "max RSS", "operator", "precision", "recall", "objectness", "classification"):
        assert word in text
    _yoloperf(place, "plot", "out/runs.csv", "-o", "out/plots")
    pictures = sorted((place / "out" / "plots").glob("*.png"))
    assert len(pictures) >= 3 and all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_killed_sweep_ends_as_an_uninterrupted_one(place: Path) -> None:
    """After test_from_sweep_to_plot: same cells, each finished once, with bit-equal weights."""
    _sweep_killed_in_training(place, "cut")
    _yoloperf(place, "sweep", "small.yaml", "--platform", "here", "--logs", "cut")
    for whole in sorted((place / "logs").glob("*/*/*/run.json")):
        cut = RunDir(place / "cut" / whole.parent.relative_to(place / "logs"))
        content = cut.read()
        assert content is not None and content["status"] == "ok"
        assert len(content["attempts"]) == (2 if "bs4_ep3" in cut.path.name else 1)
        states = [torch.load(run.last_weights, weights_only=True)["state"] for run in (RunDir(whole.parent), cut)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), cut.path.name
