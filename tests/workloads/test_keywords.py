import argparse
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import missing
from tests.workloads.test_sound import tone
from yoloperf.core.errors import UserError
from yoloperf.datasets.sources import Piece
from yoloperf.workloads import fetch as fetching
from yoloperf.workloads import synth
from yoloperf.workloads.clips import NOISE, Clips, read_clips
from yoloperf.workloads.keywords import Keywords
from yoloperf.workloads.kinds import KINDS, kind_of, load
from yoloperf.workloads.learn import Recipe, evaluate, train
from yoloperf.workloads.network import KeywordNetwork
from yoloperf.workloads.sound import CLIP, wav
from yoloperf.workloads.synth import INSTALL, VARIANTS
from yoloperf.workloads.verbs import keywords
from yoloperf.workloads.workload import predict, score


def sounding(hertz: float, dice: np.random.Generator) -> bytes:
    start = int(dice.integers(CLIP // 2))
    samples = dice.normal(0, 0.01, CLIP).astype(np.float32)
    samples[start : start + CLIP // 2] += tone(hertz * dice.uniform(0.9, 1.1), seconds=0.5)
    return wav(samples)


def tones(folder: Path, words: dict[str, float], train_clips: int = 24) -> Path:
    """A data set in Speech Commands' layout whose words are tones."""
    dice = np.random.default_rng(0)
    listed: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for word, hertz in words.items():
        (folder / word).mkdir(parents=True)
        for number in range(train_clips + 16):
            name = f"{word}/s{number}_nohash_0.wav"
            (folder / name).write_bytes(sounding(hertz, dice))
            if number >= train_clips:
                listed["testing_list.txt" if number % 2 else "validation_list.txt"].append(name)
    (folder / NOISE).mkdir()
    (folder / NOISE / "hum.wav").write_bytes(wav(dice.normal(0, 0.05, 4 * CLIP).astype(np.float32)))
    for name, files in listed.items():
        (folder / name).write_text("\n".join(files))
    return folder


WORDS = {"low": 200.0, "middle": 900.0, "high": 3000.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("tones"), {**WORDS, "other": 6000.0})


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Keywords, Clips]:
    torch.set_num_threads(1)
    splits = [read_clips(folder, split, list(WORDS)) for split in ("train", "val", "test")]
    model, history = train(splits[0], splits[1], Recipe(epochs=15, batch_size=16), torch.device("cpu"))
    assert history[-1]["loss"] < history[0]["loss"]
    return model, splits[2]


def test_splits_share_no_speaker_and_have_every_class(folder: Path) -> None:
    splits = {split: read_clips(folder, split, list(WORDS)) for split in ("train", "val", "test")}
    speakers = {split: {*own.speakers} - {""} for split, own in splits.items()}
    assert not speakers["train"] & speakers["test"] and not speakers["train"] & speakers["val"]
    assert np.bincount(splits["train"].labels).tolist() == [24, 24, 24, 24, 24]
    assert np.bincount(splits["test"].labels).tolist() == [8, 8, 8, 8, 8]
    assert splits["train"].names == [*WORDS, "unknown", "silence"]
    again = read_clips(folder, "train", list(WORDS))
    assert (again.samples == splits["train"].samples).all()


def test_training_learns(trained: tuple[Keywords, Clips]) -> None:
    model, test = trained
    found = evaluate(model, test)
    assert found.accuracy > 0.7 and found.items == 40  # by chance: 0.2
    assert np.trace(found.confusion) == round(found.accuracy * 40)


def test_weights_survive_the_file(trained: tuple[Keywords, Clips], tmp_path: Path) -> None:
    model, test = trained
    path = tmp_path / "words.pt"
    model.save(path, {"epochs": 6})
    assert kind_of(path) == "keywords"
    again = load(path, "cpu", 1)
    assert evaluate(again, test) == evaluate(model, test)
    files = [sounding(hertz, np.random.default_rng(1)) for hertz in WORDS.values()]
    assert [labels[0].name for labels in predict(again, files)] == list(WORDS)
    assert again.digest == model.digest
    content = torch.load(path, weights_only=True)
    content["state"]["head.bias"] += 1
    torch.save(content, path)
    with pytest.raises(UserError, match="is damaged"):
        load(path, "cpu", 1)
    torch.save({**content, "version": 99}, path)
    with pytest.raises(UserError, match="version 99"):
        load(path, "cpu", 1)


@pytest.mark.parametrize("content", [b"", b"not torch", None])
def test_unknown_weights_name_the_kinds(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "what.pt"
    if content is None:
        torch.save({"some": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        kind_of(path)
    assert all(kind in str(error.value) for kind in KINDS)


def test_wrong_folders_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keywords synth"):
        read_clips(tmp_path / "none", "train")
    with pytest.raises(UserError, match="no clips of yes"):
        read_clips(folder, "train", ["yes"])
    with pytest.raises(UserError, match="split"):
        read_clips(folder, "tests", list(WORDS))
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "low" / "s0_nohash_0.wav").write_bytes(b"no sound")
    with pytest.raises(UserError, match="s0_nohash_0.wav"):
        read_clips(copy, "train", list(WORDS))
    (copy / "testing_list.txt").unlink()
    with pytest.raises(UserError, match="testing_list.txt"):
        read_clips(copy, "train", list(WORDS))


def test_score_counts() -> None:
    found = score([[0, 1], [1, 0], [1, 2]], [0, 1, 2], ["a", "b", "c"])
    assert found.accuracy == pytest.approx(2 / 3) and found.top5 == 1
    assert found.per_class == {"a": 1, "b": 1, "c": 0}
    assert found.confusion == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert score([[0]], [0], ["a", "b"]).per_class["b"] is None
    with pytest.raises(UserError):
        score([], [], ["a"])


def test_embedded_data_set_repeats_and_keeps_its_voices_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("espeak-ng") is None:
        missing(INSTALL)
    monkeypatch.setattr(synth, "OTHERS", ("cat",))
    first, second = tmp_path / "first", tmp_path / "second"
    assert synth.synthesise(first, 1, accents=("en-us",)) == 11 * 13
    voices = {split: {name.partition("+")[2] for name in read_clips(first, split).speakers} - {""} for split in VARIANTS}
    assert voices == {split: set(own) for split, own in VARIANTS.items()}
    loudest = np.abs(read_clips(first, "train").samples.astype(int)).max(1)
    assert (loudest[:-8] > 3000).all()
    monkeypatch.setattr(synth, "VARIANTS", {"train": ("f1",), "val": (), "test": ()})
    assert synth.synthesise(second, 1, accents=("en-us",)) == 11
    files = [path.relative_to(second) for path in second.rglob("*.wav")]
    assert len(files) == 14 and all((first / file).read_bytes() == (second / file).read_bytes() for file in files)


def test_missing_espeak_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install -y espeak-ng"):
        synth.synthesise(tmp_path / "words")
    assert not (tmp_path / "words").exists()


def _archive(path: Path, folder: Path | None, evil: str = "") -> Piece:
    with tarfile.open(path, "w:gz") as archive:
        if folder:
            archive.add(folder, ".")
        if evil:
            archive.addfile(tarfile.TarInfo(evil), io.BytesIO())
    content = path.read_bytes()
    return Piece(f"http://example.invalid/{path.name}", "x", len(content), hashlib.sha256(content).hexdigest(), {"": ""})


def test_fetched_archive_reads_as_the_embedded_one(folder: Path, tmp_path: Path, httpserver_folder: str) -> None:
    piece = _archive(tmp_path / "served" / "clips.tar.gz", folder)
    target = tmp_path / "data" / "speech"
    assert fetching.fetch(target, httpserver_folder, piece)
    assert not fetching.fetch(target, httpserver_folder, piece)
    assert (read_clips(target, "test", list(WORDS)).samples == read_clips(folder, "test", list(WORDS)).samples).all()
    assert [path.name for path in target.parent.iterdir()] == ["speech"]


def test_bad_archives_leave_nothing(tmp_path: Path, httpserver_folder: str) -> None:
    target = tmp_path / "data" / "speech"
    piece = _archive(tmp_path / "served" / "clips.tar.gz", None, "../outside.wav")
    with pytest.raises(UserError, match="not safe"):
        fetching.fetch(target, httpserver_folder, piece)
    with pytest.raises(UserError, match="bytes instead of|SHA-256"):
        fetching.fetch(target, httpserver_folder, Piece(piece.url, "x", piece.size_bytes, "0" * 64, {"": ""}))
    assert not target.exists() and not (tmp_path / "outside.wav").exists()


def test_verb(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("yoloperf.workloads.clips.read_clips.__defaults__", (list(WORDS), 0))
    parser = argparse.ArgumentParser()
    keywords.configure(parser)

    def run(*words: str) -> dict:
        code, result = keywords.run(parser.parse_args(words))
        assert code == 0
        json.dumps(result, allow_nan=False)
        return result

    weights = tmp_path / "w.pt"
    same = ["--data", str(folder), "--device", "cpu", "--threads", "1"]
    made = run("train", *same, "-o", str(weights), "--epochs", "2", "--batch", "32")
    assert len(made["epochs"]) == 2 and made["shared_speakers"] == 0 and made["val_accuracy"] == made["epochs"][-1]["val_accuracy"]
    scored = run("evaluate", *same, "--weights", str(weights))
    assert (scored["accuracy"], scored["digest"]) == (made["accuracy"], made["digest"])
    assert "recall" in capsys.readouterr().out
    with pytest.raises(UserError, match="--epochs must be at least 1"):
        keywords.run(parser.parse_args(["train", *same, "--epochs", "0"]))


def test_network_is_small() -> None:
    assert sum(weight.numel() for weight in KeywordNetwork(12).parameters()) < 40_000
