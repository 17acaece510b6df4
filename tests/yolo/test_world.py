"""Several processes train as one: started by torchrun, on CPUs, over gloo."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from yoloperf.core.events import read
from yoloperf.core.rundir import RunDir
from yoloperf.yolo.train import main
from yoloperf.yolo.weights import load_weights

ROOT = Path(__file__).parents[2]
MakeDataset = Callable[..., Path]


def _flags(dataset: Path, save_dir: Path, *more: str) -> list[str]:
    fixed = ["--img", "64", "--threads", "1", "--batch", "3", "--epochs", "1", "--weights", "", "--cfg", "yolov3-tiny"]
    return [*fixed, "--precision", "fp32", "--device", "cpu", "--data", str(dataset), "--save-dir", str(save_dir), *more]


# train.py whose first process gets a signal within the second epoch
STOPPED = """
import os, signal
from yoloperf.yolo.train import main
from yoloperf.yolo.trainer import Trainer

train_step = Trainer.train_step

def step_and_signal(self, *batch):
    if self.world.main and self.step == 4:
        os.kill(os.getpid(), signal.SIGUSR1)
    return train_step(self, *batch)

Trainer.train_step = step_and_signal
raise SystemExit(main())
"""

# train.py whose second process gets a loss of NaN
DIVERGING = """
from yoloperf.yolo.train import main
from yoloperf.yolo.trainer import Trainer

train_step = Trainer.train_step
Trainer.train_step = lambda self, *batch: train_step(self, *batch) * (1.0 if self.world.main else float("nan"))
raise SystemExit(main())
"""


def _torchrun(*flags: str, script: Path = ROOT / "train.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)


def test_two_processes_train_as_one(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Batches of 3 split into 1 and 2 images, a last one of 2: losses and weights of one process, up to rounding."""
    data = make_dataset()
    recipe = tmp_path / "sgd.yaml"  # AdamW's first steps turn the rounding of a tiny gradient into a whole step
    recipe.write_text(re.sub("optimizer: .*", "optimizer: sgd", (ROOT / "cfg" / "hyp" / "default.yaml").read_text()))
    assert main(_flags(data, tmp_path / "one", "--hyp", str(recipe))) == 0
    one, _ = read(capsys.readouterr().out.splitlines())
    done = _torchrun(*_flags(data, tmp_path / "two", "--hyp", str(recipe)))
    assert done.returncode == 0, done.stderr
    two, rejected = read(done.stdout.splitlines())
    assert not rejected and [event["key"] for event in two] == ["run_start", "first_step", "epoch", "run_end"]
    assert (one[0]["processes"], two[0]["processes"]) == (1, 2)
    for name in ("box_loss", "obj_loss", "cls_loss", "lr"):
        assert two[2][name] == pytest.approx(one[2][name], rel=1e-3), name
    whole, parts = (load_weights(RunDir(tmp_path / name).last_weights).state for name in ("one", "two"))
    for name, tensor in whole.items():
        assert torch.allclose(tensor.float(), parts[name].float(), rtol=1e-2, atol=1e-3), name


def test_all_processes_stop_after_the_same_step_and_go_on_from_it(make_dataset: MakeDataset, tmp_path: Path) -> None:
    data = make_dataset()
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    whole = _torchrun(*_flags(data, tmp_path / "whole", "--epochs", "2"))
    stopped = _torchrun(*_flags(data, tmp_path / "cut", "--epochs", "2"), script=script)
    assert read(stopped.stdout.splitlines())[0][-1]["reason"] == "stopped by SIGUSR1 in epoch 2", stopped.stderr
    resumed = _torchrun(*_flags(data, tmp_path / "cut", "--epochs", "2"), "--resume")
    assert "continuing after epoch 1 and 2 steps" in resumed.stdout, resumed.stderr
    ends = [next(event for event in read(done.stdout.splitlines())[0] if event.get("epoch") == 2) for done in (whole, resumed)]
    for name in ("box_loss", "obj_loss", "cls_loss"):
        assert ends[1][name] == pytest.approx(ends[0][name], rel=1e-6), name


def test_what_diverges_in_one_process_ends_all(make_dataset: MakeDataset, tmp_path: Path) -> None:
    script = tmp_path / "diverging.py"
    script.write_text(DIVERGING)
    done = _torchrun(*_flags(make_dataset(), tmp_path / "run"), script=script)
    assert done.returncode != 0 and done.stderr.count("train.py: the loss is not finite in epoch 1") == 1
    end = read(done.stdout.splitlines())[0][-1]
    assert (end["status"], end["epochs_done"]) == ("failed", 0)


def test_batch_smaller_than_the_world_is_refused_once(make_dataset: MakeDataset, tmp_path: Path) -> None:
    done = _torchrun(*_flags(make_dataset(), tmp_path / "run", "--batch", "1"))
    assert done.returncode != 0
    assert done.stderr.count("a batch of 1 has no image for each of 2 devices") == 1


def test_missing_device_of_a_list_is_told(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.device_count() > 7:
        pytest.skip("a machine with 8 GPUs has them all")
    assert main(_flags(make_dataset(), tmp_path / "run", "--device", "0,7")) == 2
    assert "sees" in capsys.readouterr().err
    assert main(_flags(make_dataset(), tmp_path / "run", "--device", "0,0")) == 2
    assert "several: 0,1" in capsys.readouterr().err
