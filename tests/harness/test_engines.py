"""Other projects' trainers in a sweep. The real one is run where it is installed: YOLOPERF_ULTRALYTICS=path of its `yolo` command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import missing
from yoloperf.core.errors import UserError
from yoloperf.core.events import read
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets import smear
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.convert import convert
from yoloperf.harness.engines import trainer_of, ultralytics
from yoloperf.harness.sweepfile import from_content, with_engine
from yoloperf.parsing.parse import parse_paths

SPEC = {"cfg": "yolov3-tiny", "engine": "ultralytics"}
SWEEP = {"fixed": {"cfg": "yolov3-tiny", "data": "a.yaml"}, "axes": {"batch_size": [4, 8]}}


Write = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a `yolo` that runs the script given; its arguments and the number of cores that it hears of go to `told`."""
    command = tmp_path / "yolo"
    monkeypatch.setenv(ultralytics.COMMAND, str(command))
    (tmp_path / "a.yaml").write_text("names: [a]\n")

    def write(body: str) -> Path:
        told = "import os, sys, pathlib; pathlib.Path(sys.argv[0]).with_name('told').write_text(f'{sys.argv[1:]} {os.cpu_count()}')\n"
        command.write_text(f"#!{sys.executable}\n{told}{body}\n")
        command.chmod(0o755)
        return tmp_path

    return write


def _train(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [*trainer_of("ultralytics"), "--cfg", "yolov3-tiny", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_an_engine_is_another_cell_in_another_folder() -> None:
    sweep = from_content(SWEEP, "x.yaml", "x")
    own, other = sweep.cells(), with_engine(sweep, "ultralytics").cells()
    assert {cell.trial for cell in own}.isdisjoint(cell.trial for cell in other)
    assert {cell.spec.hash for cell in own}.isdisjoint(cell.spec.hash for cell in other)
    assert [cell.trial for cell in with_engine(sweep, "yoloperf").cells()] == [cell.trial for cell in own]
    both = from_content({**SWEEP, "axes": {"engine": ["yoloperf", "ultralytics"]}}, "x.yaml", "x")
    assert len(both.cells()) == 2
    with pytest.raises(UserError, match="names its engines itself"):
        with_engine(both, "ultralytics")
    with pytest.raises(UserError, match="did you mean 'ultralytics'"):
        with_engine(sweep, "ultralytic")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr_scale": 2.0}, "trains by its own recipe"),
        ({"precision": "bf16"}, "choose precision auto or fp32"),
        ({"threads": 9}, "8 CPU threads at most"),
        ({"weights": "yolov3-tiny.weights"}, "a .pt of its own"),
        ({"data": "smear.yaml"}, "yoloperf data convert"),
    ],
)
def test_what_it_cannot_be_told_is_one_line(fake: Write, changed: dict[str, object], message: str) -> None:
    folder = fake("")
    spec = TrialSpec(**{**SPEC, "data": str(folder / "a.yaml"), **changed})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        ultralytics.command(spec, RunDir(folder / "run"), resume=False)


def test_missing_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ultralytics.COMMAND, str(tmp_path / "yolo"))
    (tmp_path / "a.yaml").write_text("names: [a]\n")
    done = _train("--data", str(tmp_path / "a.yaml"), "--save-dir", str(tmp_path / "run"))
    assert done.returncode == 2 and "pip install ultralytics" in done.stderr


def test_batch_threads_and_folder_arrive(fake: Write) -> None:
    folder = fake("print('Ultralytics 8')")
    flags = ["--batch", "6", "--accumulate", "2", "--threads", "3", "--device", "cpu"]
    assert _train(*flags, "--data", str(folder / "a.yaml"), "--save-dir", str(folder / "logs" / "run")).returncode == 0
    told = (folder / "told").read_text()
    for part in ("'batch=6'", "'nbs=12'", "'model=yolov3-tiny.yaml'", f"'project={folder / 'logs'}'", "'name=run'", "'device=cpu'"):
        assert part in told
    assert told.endswith(" 4"), "one core more than the threads that it shall use"


@pytest.mark.parametrize(("given", "cores", "threads"), [(None, 1, 1), (None, 4, 3), (None, 64, 8), (2, 64, 2)])
def test_its_threads_are_known_though_it_chose_them(monkeypatch: pytest.MonkeyPatch, given: int | None, cores: int, threads: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert ultralytics.threads(TrialSpec(cfg="yolov3-tiny", threads=given)) == threads


def test_its_threads_are_said(fake: Write) -> None:
    folder = fake("")
    done = _train("--data", str(folder / "a.yaml"), "--save-dir", str(folder / "run"))
    assert read(done.stdout.splitlines())[0][0]["threads"] == min(8, max(1, (os.cpu_count() or 1) - 1))


def test_a_smaller_batch_is_out_of_memory(fake: Write) -> None:
    said = "CUDA out of memory with batch=64. Reducing to batch=32 and retrying (1/3)."
    folder = fake(f"import time; print({said!r}, flush=True); time.sleep(60)")
    done = _train("--batch", "64", "--data", str(folder / "a.yaml"), "--save-dir", str(folder / "run"))
    assert done.returncode == 1
    assert '"status": "oom", "reason": "batch size 64 at 416 px does not fit"' in done.stdout


def test_the_real_one_becomes_a_row(tmp_path: Path) -> None:
    if not shutil.which(os.environ.get(ultralytics.COMMAND) or "yolo"):
        missing("no ultralytics: `make peer` installs it into an environment of its own; set YOLOPERF_ULTRALYTICS=.peer/bin/yolo")
    smear.generate(tmp_path / "smear", {"train": 8, "val": 4, "test": 1}, size=(160, 120))
    voc = {"path": str(tmp_path / "smear"), "format": "voc", "names": ["WBC", "RBC", "Platelets"]}
    splits = {split: f"ImageSets/Main/{split}.txt" for split in ("train", "val")}
    (tmp_path / "voc.yaml").write_text(yaml.safe_dump({**voc, **splits}))
    convert(load_data_config(str(tmp_path / "voc.yaml")), tmp_path / "cells")
    fixed = {"data": str(tmp_path / "cells" / "voc.yaml"), "cfg": "yolov3-tiny", "img_size": 64, "batch_size": 4, "device": "cpu"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"fixed": {**fixed, "epochs": 1, "threads": 1, "workers": 1}}))
    sweep = [sys.executable, "-m", "yoloperf", "sweep", "s.yaml", "--platform", "here", "--engine", "ultralytics"]
    done = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    row = parse_paths([tmp_path / "logs"]).runs[0]
    assert (row.engine, row.status, row.batch_size, row.epochs_done, row.train_images) == ("ultralytics", "ok", 4, 1, 8)
    assert row.box_loss is not None and row.map50 is not None and row.obj_loss is None, "its head has no objectness"
