"""Studies of other work than detection: spoken words and photos, by the same parts."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.offload.pictures import measured
from tests.service.conftest import picture
from tests.service.live import Live
from tests.workloads.test_sound import tone
from yoloperf.core.errors import UserError
from yoloperf.offload import batches, load_part, places
from yoloperf.offload.part import Done
from yoloperf.offload.places_results import IN_PROCESS, REMOTE
from yoloperf.offload.samples import load_samples, requests_of
from yoloperf.offload.study import Place, Study, read_study
from yoloperf.service.served import load_model
from yoloperf.workloads.clips import UNKNOWN, WORDS
from yoloperf.workloads.keywords import Keywords
from yoloperf.workloads.network import KeywordNetwork
from yoloperf.workloads.sound import wav
from yoloperf.workloads.workload import predict

NAMES = [*WORDS, UNKNOWN, "silence"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each word and of one that is unknown, one for training and one for the test."""
    folder = tmp_path_factory.mktemp("clips")
    for number, word in enumerate((*WORDS, "bird")):
        (folder / word).mkdir()
        for speaker in ("a", "b"):
            (folder / word / f"{speaker}_nohash_0.wav").write_bytes(wav(tone(200 + 150 * number)))
    (folder / "_background_noise_").mkdir()
    (folder / "testing_list.txt").write_text("\n".join(f"{word}/b_nohash_0.wav" for word in (*WORDS, "bird")))
    (folder / "validation_list.txt").write_text("")
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = KeywordNetwork(len(NAMES))
    path = tmp_path_factory.mktemp("words") / "words.pt"
    Keywords(network, NAMES).save(path, {})
    return path


@pytest.fixture(scope="module")
def study(words: Path, data: Path) -> Iterator[Study]:
    with Live([load_model("words", str(words), threads=1)]) as live:
        remote = Place("remote", url=live.url)
        settings: dict[str, Any] = {
            "places": {"pictures": 11, "rounds": 2},
            "batches": {"images": [1, 4], "repeats": 5},
            "load": {"scenarios": ["single_stream"], "seconds": 0.5},
        }
        local = Place("local", threads=1, url=live.url)
        yield Study("s", f"words={words}", str(data), "test", 11, local=local, remote=remote, parts=settings, workload="keywords")


def done(part: Any, study: Study, folder: Path, *names: str) -> list[Done]:
    return [measured(part, cell, study, folder / cell.name) for cell in part.cells(study) if not names or cell.name in names]


def test_clips_of_a_split_with_their_words(study: Study) -> None:
    samples = load_samples(study)
    assert [(sample.name, sample.label) for sample in samples[:2]] == [("bird/b_nohash_0.wav", UNKNOWN), ("down/b_nohash_0.wav", "down")]
    assert {sample.label for sample in samples} == {*WORDS, UNKNOWN} and len(samples) == 11
    some = replace(study, images=3)
    assert len(load_samples(some)) == 3 and load_samples(some) == load_samples(some) != load_samples(replace(some, seed=1))
    assert {request.path for request in requests_of(study, samples)} == {"/api/predict"}
    with pytest.raises(UserError, match="no folder nowhere.*keywords synth"):
        load_samples(replace(study, data="nowhere"))


def test_places_have_one_accuracy_and_it_is_the_models(study: Study, words: Path, tmp_path: Path) -> None:
    here, there = done(places.PART, study, tmp_path, IN_PROCESS, REMOTE)
    samples = load_samples(study)
    labels = predict(load_model("x", str(words), threads=1).workload, [sample.content for sample in samples], 1)  # type: ignore[attr-defined]
    right = sum(own[0].name == sample.label for own, sample in zip(labels, samples, strict=True)) / len(samples)
    assert 0 < right < 1 and here.summary["accuracy"] == there.summary["accuracy"] == right
    assert len(there.requests) == 22 and all(row.error is None and row.decode_s and row.inference_s for row in there.requests)
    results = places.PART.results([here, there], study)
    assert any(f"true one for {100 * right:.1f} % of the files, wherever" in finding.text for finding in results.findings)
    apart = replace(there, summary={**there.summary, "accuracy": 1.0})
    said = [finding.text for finding in places.PART.results([here, apart], study).findings]
    assert any("another share of the files in another place" in text and "100.0 % remote" in text for text in said)


def test_batches_and_load_of_clips(study: Study, tmp_path: Path) -> None:
    several = done(batches.PART, study, tmp_path)
    assert [{row.items for row in one.requests} for one in several] == [{1}, {4}] and all(one.summary["size"] == "full" for one in several)
    assert batches.PART.results(several, study).tables
    (alone,) = done(load_part.PART, study, tmp_path)
    assert alone.summary["errors"] == 0 and alone.summary["requests"] > 5 and alone.requests[0].sample.endswith("_nohash_0.wav")  # type: ignore[union-attr]
    assert any("One request after the other takes" in finding.text for finding in load_part.PART.results([alone], study).findings)
    with pytest.raises(UserError, match="files for keywords are sent as they are"):
        batches.PART.cells(replace(study, parts={"batches": {"size": 96}}))


def test_weights_of_another_kind_are_named(study: Study, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is for detection, and the study is about keywords"):
        done(places.PART, replace(study, model=f"words={weights}"), tmp_path, IN_PROCESS)
    with pytest.raises(UserError, match="words does keywords, and classification is asked for"):
        done(batches.PART, replace(study, workload="classification", data=str(_photos(tmp_path / "p"))), tmp_path)


def _photos(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        (folder / name / "0.jpg").write_bytes(picture(0))
    return folder


def test_photos_lie_in_a_folder_for_each_class(study: Study, tmp_path: Path) -> None:
    of = replace(study, workload="classification", data=str(_photos(tmp_path)))
    assert [(sample.name, sample.label) for sample in load_samples(of)] == [("cat/0.jpg", "cat"), ("dog/0.jpg", "dog")]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"workload": "keyword"}, "did you mean 'keywords'"),
        ({"parts": {"resolution": {}}}, "part resolution .* needs a detector"),
        ({"local": {"runtime": "openvino"}}, "local of .* keywords runs in PyTorch in fp32"),
        ({"remote": {"precision": "bf16"}}, "remote of .* keywords runs in PyTorch in fp32"),
    ],
)
def test_what_other_kinds_cannot_do(changed: dict[str, Any], says: str, tmp_path: Path) -> None:
    content = {"workload": "keywords", "model": "words=keywords.pt", "data": "keywords", "parts": {"places": {}}, **changed}
    (tmp_path / "s.yaml").write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        read_study(tmp_path / "s.yaml")
