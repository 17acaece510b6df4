"""Trainers side by side: once for real, and the arithmetic of it on outcomes made up."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from yoloperf.bench import ablation, contest, verbs
from yoloperf.bench.contest import Contender, Outcome, middle, ratios, subset
from yoloperf.cli import main
from yoloperf.core import events
from yoloperf.core.errors import UserError
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets import smear

ROOT = Path(__file__).parents[2]
SPEC = TrialSpec(cfg="yolov3-tiny", threads=2)
OUTCOME = Outcome("ok", None, 10.0, 5.0, 100, 200, 0.5, 2, "fp32", 1e9, 10.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    smear.generate(tmp_path / "cells", {"train": 12, "val": 4, "test": 1}, size=(160, 120))
    path = tmp_path / "cells.yaml"
    lists = "train: ImageSets/Main/train.txt\nval: ImageSets/Main/val.txt\n"
    path.write_text(f"path: {tmp_path / 'cells'}\nformat: voc\n{lists}names: [WBC, RBC, Platelets]\n")
    return path


def test_ours_beside_a_peer_and_the_ceiling(data: Path, tmp_path: Path) -> None:
    """The peer is train.py by its own command line in the 2020 form, read from its log like any other trainer."""
    peer = f"twin={sys.executable} {ROOT / 'train.py'} --img {{img}} --batch {{batch}} --epochs {{epochs}} --data {{data}} --cfg {{model}}"
    peer += " --threads {threads} --save-dir {save_dir}"
    command = ["bench", "train", "--data", str(data), "--img", "64", "--batch", "4", "--epochs", "1", "--threads", "1", "--images", "8"]
    command += [
        "--without-ultralytics",
        "--peer",
        f"{peer} --save-dir {{save_dir}} --threads {{threads}}",
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    done = subprocess.run([sys.executable, "-m", "yoloperf", *command], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result["images_per_s"]) == {"yoloperf", "twin"} and all(result["images_per_s"].values())
    assert 0 < result["ceiling_fraction"] < 1 and result["ratio_equal_threads"] is None
    assert result["batches"][0]["ratios"]["twin"] and result["max_rss_bytes"]["yoloperf"] > 2**28
    images = sorted((tmp_path / "out" / "data" / "images" / "train").iterdir())
    assert len(images) == 8 == len(list((tmp_path / "out" / "data" / "labels" / "train").iterdir()))


def test_failed_contender_is_named_and_has_no_ratio() -> None:
    rates = {"a": (10.0, 30.0), "b": (5.0, None)}
    results = {name: [replace(OUTCOME, images_per_s=rate) for rate in both] for name, both in rates.items()}
    assert ratios(results, "a", "b") == [2.0]
    assert middle(results["a"], "images_per_s") == 20.0 and middle(results["b"], "images_per_s") is None
    assert ratios(results, "a", "absent") == []


def test_everyone_takes_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order: list[tuple[str, int]] = []
    monkeypatch.setattr(contest, "run", lambda contender, spec, folder: (order.append((contender.name, spec.seed)), OUTCOME)[1])
    specs = [replace(SPEC, seed=seed) for seed in range(2)]
    contest.contest([Contender("a", {}), Contender("b", {})], specs, tmp_path, lambda *said: None)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_peer_command_that_cannot_be_filled_in_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"may use \{data\}, \{model\}, .*\{threads\}"):
        contest.run(Contender("x", {}, "train {batchsize}"), SPEC, tmp_path)


def test_peers_have_logs_and_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        contest.run(Contender(name, {}, f"echo {name} {{save_dir}}"), SPEC, tmp_path / "round-1")
    said = [next(path for path in tmp_path.glob(f"round-1/{name}/*.txt")).read_text().splitlines()[0] for name in ("a", "b")]
    assert said == [f"{name} {tmp_path}/round-1/{name}/peer" for name in ("a", "b")]


def test_a_peer_is_told_how_many_threads(tmp_path: Path) -> None:
    contest.run(Contender("a", {}, "sh -c 'echo {threads} $OMP_NUM_THREADS'"), SPEC, tmp_path)
    assert (tmp_path / "a" / "peer.txt").read_text().startswith("2 2\n")


@pytest.mark.parametrize("names", [("a", "a"), ("yoloperf",), (verbs.EQUAL,)])
def test_two_trainers_of_one_name_are_refused(names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", *(word for name in names for word in ("--peer", f"{name}=train"))]) == 2
    assert f"there is a trainer called {names[0]} already" in capsys.readouterr().err


def test_a_folder_with_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells are done and would be told again, whatever the flags are now."""
    (tmp_path / "out" / "batch-8").mkdir(parents=True)
    assert main(["bench", "train", "--without-ultralytics", "-o", str(tmp_path / "out")]) == 2
    assert "out is not empty" in capsys.readouterr().err


def test_threads_are_what_everyone_can_take(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verbs, "available_cores", lambda: 16)
    assert (verbs._threads(None, 8), verbs._threads(3, 8)) == (8, 3)
    assert (verbs._threads(None, None), verbs._threads(12, None)) == (16, 12)
    assert main(["bench", "train", "--threads", "9"]) == 2
    assert "--threads 9: ultralytics takes 8 at most" in capsys.readouterr().err


def test_too_small_a_data_set_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 12 train images, fewer than 40"):
        subset(str(data), tmp_path / "out", 40)


def test_a_batch_that_no_image_fills_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "train", "--data", str(data), "--images", "4", "--batch", "4", "8", "--without-ultralytics"]
    assert main(command) == 2
    assert "--batch 8 is more than the 4 training images" in capsys.readouterr().err


def test_worth_of_an_item_is_the_loss_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mosaic off costs 0.1 mAP at every seed, fp32 halves the speed; the recipe written for an item lacks just that item."""

    def run(contender: Contender, spec: TrialSpec, folder: Path) -> Outcome:
        seed = spec.seed / 100
        if contender.name == "mosaic":
            assert "mosaic: 0.0" in Path(contender.changed["hyp"]).read_text()
            return replace(OUTCOME, map50=0.4 + seed)
        return replace(OUTCOME, map50=0.5 + seed, images_per_s_of_all=5.0 if contender.changed.get("precision") == "fp32" else 10.0)

    monkeypatch.setattr(contest, "run", run)
    found = {worth.item: worth for worth in ablation.ablate(SPEC, 3, tmp_path, lambda *said: None)}
    assert found["mosaic"].map50_gain == pytest.approx(0.1) and found["mosaic"].map50_spread == pytest.approx(0)
    assert found["fastest arithmetic (fp32)"].speed_gain == 2.0 and found["mirroring"].map50_gain == pytest.approx(0)


def test_rates_of_the_last_epoch_and_of_all(tmp_path: Path) -> None:
    """100 images in 40 s with mosaic and in 10 s without are 10 images/s in the last epoch and 4 in both."""
    log = tmp_path / "console.log"
    with log.open("w") as stream:
        events.emit("run_start", stream, spec={"cfg": "yolov3-tiny"}, engine="yoloperf", train_images=100)
        for epoch, seconds in ((1, 40.0), (2, 10.0)):
            events.emit("epoch", stream, epoch=epoch, train_s=seconds)
        events.emit("run_end", stream, status="ok", epochs_done=2)
    outcome = contest._outcome(log)
    assert (outcome.status, outcome.images_per_s, outcome.images_per_s_of_all) == ("ok", 10.0, 4.0)


def test_an_ablation_whose_trainings_failed_says_so(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablation, "_RECIPE", {})
    monkeypatch.setattr(ablation, "_SPEC", {"images decoded once": {"cache": "none"}})
    code = main(["bench", "train", "--ablate", "--data", str(data), "--weights", str(tmp_path / "none.pt"), "--epochs", "1", "--json"])
    failed = json.loads(capsys.readouterr().out)["failed"]
    assert code == 1 and [text.split(":")[0] for text in failed] == ["everything, seed 0", "images decoded once, seed 0"]


def test_ablation_begins_with_the_weights_that_were_given(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path) -> None:
    begun: list[str] = []
    monkeypatch.setattr(contest, "run", lambda contender, spec, folder: (begun.append(spec.weights), OUTCOME)[1])
    command = ["bench", "train", "--ablate", "--data", str(data), "-o", str(tmp_path / "out"), "--weights", "yolov3-tiny.weights"]
    assert main(command) == 0
    assert len(begun) > 9 and set(begun) == {"yolov3-tiny.weights"}


@pytest.mark.parametrize("more", [["--batch", "4", "8"], ["--peer", "a=b"]])
def test_ablation_of_what_it_would_leave_out_is_refused(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "train", "--ablate", *more]) == 2
    assert "--ablate is about one batch size and no peer" in capsys.readouterr().err


def test_of_two_rounds_neither_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The ratio over an even number of rounds lies between the middle two."""
    rates = iter((10.0, 10.0, 30.0, 10.0))
    monkeypatch.setattr(contest, "run", lambda contender, spec, folder: replace(OUTCOME, images_per_s=next(rates)))
    monkeypatch.setattr(verbs, "_ceiling", lambda spec: None)
    row = verbs._measure(SPEC, [Contender(verbs.OURS, {}), Contender(verbs.EQUAL, {})], 2, tmp_path)
    assert row["ratios"][verbs.EQUAL] == [1.0, 3.0] and row["ratio_equal_threads"] == 2.0


def test_what_else_differs_is_said() -> None:
    row = {"flops_per_image": {"yoloperf": 2e11, "a": 3e11, "b": None}, "arithmetic": {"yoloperf": "bf16", "a": "fp32", "b": None}}
    assert verbs._differences(row, 2) == [
        "yoloperf: bf16, 200.0 GFLOP a training image",
        "a: fp32, 300.0 GFLOP a training image (1.50 x ours)",
        "b: arithmetic unknown, operations unknown",
        "mosaic in the timed epoch: yoloperf no",
    ]


def test_who_had_mosaic_in_the_timed_epoch_is_said() -> None:
    """A single epoch of ours is one with mosaic, the last of several is not; ultralytics' last one never is."""
    row = {"flops_per_image": {verbs.OURS: 2e11, verbs.EQUAL: 3e11}, "arithmetic": {verbs.OURS: "bf16", verbs.EQUAL: "fp32"}}
    for epochs, ours in ((1, "yes"), (2, "no"), (20, "no")):
        wanted = f"mosaic in the timed epoch: yoloperf {ours}, ultralytics no (it closes mosaic for its last 10 epochs)"
        assert wanted in verbs._differences(row, epochs)
