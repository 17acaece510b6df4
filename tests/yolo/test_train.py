"""train.py as a process of its own: that is how the harness, GNU time and profilers meet it."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from yoloperf.core.events import read
from yoloperf.core.rundir import RunDir
from yoloperf.yolo import train, trainer
from yoloperf.yolo.cfg import load_cfg
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.train import main
from yoloperf.yolo.trainer import Trainer
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint

ROOT = Path(__file__).parents[2]
MakeDataset = Callable[..., Path]


def _flags(dataset: Path, save_dir: Path, **changed: object) -> list[str]:
    flags = {
        "img": 64,
        "threads": 1,  # small steps on a busy machine: two threads would wait for each other
        "batch": 3,
        "epochs": 2,
        "data": dataset,
        "weights": "",
        "cfg": "yolov3-tiny",
        "device": "cpu",
        "save-dir": save_dir,
    }
    return [part for name, value in (flags | changed).items() for part in (f"--{name}", str(value))]


def _train(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "train.py"), *flags], capture_output=True, text=True, timeout=120)


def test_run_leaves_events_weights_and_profile(make_dataset: MakeDataset, tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    done = _train(*_flags(make_dataset(), rundir.path), "--profile-steps", "2", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    events, rejected = read(done.stdout.splitlines())
    assert not rejected
    assert [event["key"] for event in events] == ["run_start", "first_step", "epoch", "epoch", "run_end"]
    start, first, epoch, _, end = events
    assert (start["spec"]["batch_size"], start["train_images"], start["val_images"]) == (3, 8, 4)
    assert start["precision_mode"] == "fp32" and start["gpu_name"] is None
    assert first["startup_s"] > 0
    assert epoch["box_loss"] > 0 and 0 <= epoch["map50"] <= 1 and epoch["gpu_mem_peak_bytes"] is None
    assert (end["status"], end["epochs_done"], end["no_cuda_graph"]) == ("ok", 2, "no GPU")
    profile = json.loads(rundir.profile.read_text())
    totals = [row["total_s"] for row in profile["kernels"]]
    assert profile["domain"] == "cpu" and totals == sorted(totals, reverse=True)
    assert any("convolution" in row["name"] for row in profile["kernels"][:5])
    best = load_weights(rundir.best_weights)
    assert best.names == ["disc", "square"] and not best.training
    assert "network" not in load_weights(rundir.last_weights).training, "a finished run needs no optimiser state"


def test_killed_run_resumes_to_the_same_weights(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """SIGKILL after the first epoch; the resumed run ends, in fp32 on one thread, in exactly the uninterrupted weights."""
    data = make_dataset()
    exact = ("--precision", "fp32")
    assert _train(*_flags(data, tmp_path / "whole", epochs=3), *exact).returncode == 0
    command = [sys.executable, str(ROOT / "train.py"), *_flags(data, tmp_path / "cut", epochs=3), *exact]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if '"key": "epoch"' in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    resumed = _train(*_flags(data, tmp_path / "cut", epochs=3), *exact, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing after epoch" in resumed.stdout
    whole, cut = (load_weights(RunDir(tmp_path / name).last_weights).state for name in ("whole", "cut"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, cut[name]), name


@pytest.mark.parametrize(("number", "during"), [(signal.SIGUSR1, "step"), (signal.SIGINT, "step"), (signal.SIGTERM, "validation")])
def test_asked_to_stop_it_keeps_every_step(
    make_dataset: MakeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    during: str,
) -> None:
    """A signal in the second epoch: the resumed run takes no step twice and ends as the uninterrupted one, its losses included."""
    data = make_dataset()
    flags = {"epochs": 3, "precision": "fp32"}
    steps: list[int] = []
    asked: list[str] = []
    train_step, evaluate = Trainer.train_step, trainer.evaluate

    def ask(now: str, after: int) -> None:
        if now == during and len(steps) == after and not asked:
            asked.append(now)
            os.kill(os.getpid(), number)

    def step_and_signal(self: Trainer, *batch: object) -> object:
        steps.append(self.step)
        ask("step", 5)
        return train_step(self, *batch)  # type: ignore[arg-type]

    def signal_and_evaluate(*given: object) -> object:
        ask("validation", 6)
        return evaluate(*given)  # type: ignore[arg-type]

    assert main(_flags(data, tmp_path / "whole", **flags)) == 0
    whole, _ = read(capsys.readouterr().out.splitlines())
    monkeypatch.setattr(Trainer, "train_step", step_and_signal)
    monkeypatch.setattr(trainer, "evaluate", signal_and_evaluate)
    before = signal.getsignal(number)
    assert main(_flags(data, tmp_path / "cut", **flags)) == 128 + number
    assert signal.getsignal(number) == before
    assert load_weights(RunDir(tmp_path / "cut").last_weights).training["epochs_done"] == 1
    capsys.readouterr()
    assert main([*_flags(data, tmp_path / "cut", **flags), "--resume"]) == 0
    assert steps == list(range(9))
    resumed, _ = read(capsys.readouterr().out.splitlines())
    names = ("epoch", "box_loss", "obj_loss", "cls_loss", "map50")
    results = [[[event[name] for name in names] for event in events if event["key"] == "epoch"] for events in (whole, resumed)]
    assert results[0][1:] == results[1]
    weights = [load_weights(RunDir(tmp_path / name).last_weights).state for name in ("whole", "cut")]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_stop_is_an_event(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train_step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", lambda *given: (os.kill(os.getpid(), signal.SIGTERM), train_step(*given))[1])
    assert main(_flags(make_dataset(), tmp_path / "run")) == 128 + signal.SIGTERM
    events, _ = read(capsys.readouterr().out.splitlines())
    assert (events[-1]["key"], events[-1]["status"], events[-1]["epochs_done"]) == ("run_end", "preempted", 0)
    assert events[-1]["reason"] == "stopped by SIGTERM in epoch 1"


def test_an_epoch_is_told_though_the_signal_came_while_its_checkpoint_was_written(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = Trainer._save_last
    monkeypatch.setattr(Trainer, "_save_last", lambda self: (os.kill(os.getpid(), signal.SIGUSR1), save(self))[1])
    assert main(_flags(make_dataset(), tmp_path / "run")) == 128 + signal.SIGUSR1
    events, _ = read(capsys.readouterr().out.splitlines())
    assert [event["key"] for event in events] == ["run_start", "first_step", "epoch", "run_end"]
    assert (events[-1]["status"], events[-1]["epochs_done"]) == ("preempted", 1)


def test_a_disk_that_is_full_leaves_the_checkpoint_before(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = make_dataset(), RunDir(tmp_path / "run")
    save = Trainer._save_last

    def save_once(self: Trainer) -> None:
        save(self)
        monkeypatch.setattr("yoloperf.core.rundir.os.fsync", full)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save_last", save_once)
        assert main(_flags(data, run.path)) == 2
    said = capsys.readouterr()
    events, _ = read(said.out.splitlines())
    end = events[-1]
    assert [event["key"] for event in events] == ["run_start", "first_step", "epoch", "run_end"]
    assert (end["status"], end["epochs_done"]) == ("failed", 1) and "No space left on device" in end["reason"]
    assert "No space left on device" in said.err
    monkeypatch.undo()
    assert load_weights(run.last_weights).training["epochs_done"] == 1
    assert main([*_flags(data, run.path), "--resume"]) == 0


def _lose_it(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals | None = None) -> None:
    """From the step on the network's weights are NaN; then the signal comes."""
    train_step = Trainer.train_step

    def poisoned(self: Trainer, *batch: object) -> object:
        if self.step == step:
            next(self.network.parameters()).data.fill_(float("nan"))
            if number:
                os.kill(os.getpid(), number)
        return train_step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_step", poisoned)


@pytest.mark.parametrize("number", [None, signal.SIGINT])
def test_a_training_that_diverged_failed_and_keeps_its_checkpoints(
    make_dataset: MakeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals | None,
) -> None:
    """NaN from the second epoch on, whether it comes to the epoch's end or a signal cuts it short."""
    run = RunDir(tmp_path / "run")
    _lose_it(monkeypatch, 4, number)
    assert main(_flags(make_dataset(), run.path)) == 2
    said = capsys.readouterr()
    assert "the loss is not finite in epoch 2 (NaN or infinity): train anew with an --lr-scale below 1" in said.err
    end = read(said.out.splitlines())[0][-1]
    assert (end["key"], end["status"], end["epochs_done"]) == ("run_end", "failed", 1)
    assert load_weights(run.last_weights).training["epochs_done"] == 1
    for path in (run.last_weights, run.best_weights):
        assert all(tensor.isfinite().all() for tensor in load_weights(path).state.values())


def test_a_learning_rate_that_is_far_too_high_leaves_no_weights(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_flags(make_dataset(), tmp_path / "run", lr=1e38)) == 2
    assert "not finite in epoch 1 (NaN or infinity): train anew with an --lr-scale below 1e+38" in capsys.readouterr().err
    assert not list((tmp_path / "run" / "weights").iterdir())


def test_cudnn_is_called_as_its_releases_are() -> None:
    assert [train._cudnn(number) for number in (91002, 8907, None)] == ["9.10.2", "8.9.7", None]


def test_marked_range_leaves_the_kernels_to_the_profiler_around_it(make_dataset: MakeDataset, tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    assert main([*_flags(make_dataset(), rundir.path, epochs=1), "--profile-steps", "2", "--profile-range"]) == 0
    profile = json.loads(rundir.profile.read_text())
    assert (profile["profiler"], profile["kernels"]) == ("range", []) and "no GPU" in profile["reason"]


def test_resume_refuses_other_settings(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset()
    assert main(_flags(data, tmp_path / "run", epochs=1)) == 0
    assert main([*_flags(data, tmp_path / "run", epochs=1, batch=4), "--resume"]) == 2
    assert "batch_size 3 -> 4" in capsys.readouterr().err


def test_resume_without_a_folder_goes_on_in_the_newest(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command with --resume after Ctrl-C: neither a new folder nor one whose name only begins alike."""
    monkeypatch.chdir(tmp_path)
    flags = _flags(make_dataset(), tmp_path)[:-2]
    assert main([*flags, "--resume"]) == 2
    assert "nothing to resume: there is no runs/train/exp/weights/last.pt" in capsys.readouterr().err
    for name in ("exp", "exp", "exp-other"):
        assert main([*flags, "--epochs", "1", "--name", name]) == 0
    train_step = Trainer.train_step
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_step", lambda *given: (os.kill(os.getpid(), signal.SIGINT), train_step(*given))[1])
        assert main(flags) == 128 + signal.SIGINT
    assert "--resume goes on from runs/train/exp3/weights/last.pt" in capsys.readouterr().out
    assert main([*flags, "--resume"]) == 0
    assert "continuing after epoch 0 and 1 steps" in capsys.readouterr().out
    assert sorted(path.name for path in Path("runs/train").iterdir()) == ["exp", "exp-other", "exp2", "exp3"]
    assert load_weights(RunDir("runs/train/exp3").last_weights).training["epochs_done"] == 2


def test_a_finished_run_is_not_replaced(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = _flags(make_dataset(), tmp_path / "run", epochs=1)
    assert main(flags) == 0
    before = RunDir(tmp_path / "run").last_weights.read_bytes()
    assert main(flags) == 2
    assert "holds a run already: --resume goes on with it, or choose another --save-dir" in capsys.readouterr().err
    assert RunDir(tmp_path / "run").last_weights.read_bytes() == before


def test_weights_of_another_network_give_what_fits(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--cfg is what is trained, whichever network the .pt is of."""
    cfg = load_cfg("yolov3-tiny")
    state = Darknet(cfg).state_dict()
    save_checkpoint(tmp_path / "w.pt", Checkpoint(cfg, state))
    (tmp_path / "narrow.cfg").write_text(cfg.replace("filters=1024", "filters=256"))
    assert main(_flags(make_dataset(), tmp_path / "run", epochs=1, weights=tmp_path / "w.pt", cfg=tmp_path / "narrow.cfg")) == 0
    assert re.search(r"weights: transferred \d\d/70 items from w\.pt, which is another network than .*narrow\.cfg", capsys.readouterr().out)
    assert load_weights(RunDir(tmp_path / "run").last_weights).state["layers.12.conv.weight"].shape == (256, 512, 3, 3)


def test_goes_on_when_nobody_reads_on(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """`train.py | head -1`: what is said later is lost, what is learned is not."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *_flags(make_dataset(), tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)
    process.stderr.close()
    assert load_weights(RunDir(tmp_path / "run").last_weights).training["epochs_done"] == 2


def test_ctrl_c_at_the_start_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-v", str(ROOT / "train.py")], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "import 'torch." in line and process.poll() is None:
            process.send_signal(signal.SIGINT)
    process.stderr.close()
    assert process.wait() == -signal.SIGINT and not any("Traceback" in line for line in said)


def test_images_that_cannot_be_decoded_leave_no_folder(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_dataset()
    picture = tmp_path / "shapes" / "images" / "train" / "3.png"
    picture.write_bytes(picture.read_bytes()[:60])
    assert main(_flags(data, tmp_path / "run")) == 2
    assert "3.png is no readable image" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(("free", "told"), [(0.4, "left 0.4 cores to 1 threads"), (0.6, ""), (-0.1, "left 0.0 cores")])
def test_a_busy_machine_is_said_once(
    free: float, told: str, make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train.Neighbours, "free_cores", lambda _: free)
    assert main(_flags(make_dataset(), tmp_path / "run")) == 0
    out = capsys.readouterr().out
    assert out.count("--threads") == bool(told) and told in out


def test_batch_is_the_batch_that_is_stepped(make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No nominal batch size: 8 images at 3 a batch are 3 optimiser steps, 2 when two batches are accumulated."""
    taken: list[int] = []
    step = trainer.AveragedWeights.update
    monkeypatch.setattr(trainer.AveragedWeights, "update", lambda self: (taken.append(1), step(self))[1])
    data = make_dataset()
    assert main(_flags(data, tmp_path / "a", epochs=1)) == 0
    assert len(taken) == 3
    taken.clear()
    assert main(_flags(data, tmp_path / "b", epochs=1, accumulate=2)) == 0
    assert len(taken) == 2


def test_learns_to_find_shapes(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From scratch on 48 pictures: mAP@0.5 leaves zero. A wrong assignment, decoding or augmentation would keep it there."""
    data = make_dataset(train=48, val=6)
    assert main(_flags(data, tmp_path / "run", img=96, batch=4, epochs=20)) == 0
    events, _ = read(capsys.readouterr().out.splitlines())
    scores = [event["map50"] for event in events if event["key"] == "epoch"]
    assert max(scores) > 0.3, scores


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"img": 100}, "not a multiple of 32: choose 96 or 128"),
        ({"cfg": "yolov3-tyni"}, "did you mean 'yolov3-tiny'"),
        ({"data": "bcdd.yaml"}, "did you mean 'bccd'"),
        ({"weights": "yolov9.pt"}, "no weights yolov9.pt; at hand:"),
        ({"hyp": "fast"}, "unknown recipe 'fast'"),
        ({"device": "gpu"}, "choose auto, cpu, or the index"),
        ({"precision": "fp16"}, "fp16 is unusably slow on a CPU"),
        ({"save-dir": "/proc/nowhere"}, "cannot write /proc/nowhere"),
    ],
)
def test_bad_input_is_one_line(
    changed: dict[str, object], message: str, make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_flags(make_dataset(), tmp_path / "run", **changed)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_said(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_flags(make_dataset(), tmp_path / "run", device=0)) == 2
    assert "sees no CUDA device here; use --device cpu or auto" in capsys.readouterr().err


def test_unlabelled_data_is_refused(make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset()
    for label in (tmp_path / "shapes" / "labels").rglob("*.txt"):
        label.unlink()
    assert main(_flags(data, tmp_path / "run")) == 2
    assert "label" in capsys.readouterr().err


def test_line_of_the_2020_study(official_weights: Path, real_data: Path, tmp_path: Path) -> None:
    """Its command starts as it stands, apart from the size of the model, under GNU time; stopped after the first step."""
    command = f"{sys.executable} {ROOT}/train.py --img 416 --batch 4 --epochs 1 --data bccd.yaml --weights yolov3-tiny.pt"
    log = tmp_path / "bare_metal_bs4_ep1_lr1_tiny.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(command.split(), stdout=stream, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
        deadline = time.monotonic() + 60
        while "first_step" not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = log.read_text()
    assert "transferred 66/70 items from yolov3-tiny.weights" in text
    assert "205 training and 87 validation images" in text
