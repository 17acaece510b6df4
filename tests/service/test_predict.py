"""Models of several kinds behind one service."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from tests.service.conftest import picture
from tests.service.live import Live, Spawned
from tests.workloads.test_sound import HOSTILE, tone
from yoloperf.service.model import ServedModel
from yoloperf.service.served import load_model
from yoloperf.workloads.keywords import Keywords
from yoloperf.workloads.network import KeywordNetwork
from yoloperf.workloads.sound import wav
from yoloperf.workloads.workload import predict

NAMES = ["yes", "no", "unknown", "silence"]
SOUND = wav(tone(440))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = KeywordNetwork(len(NAMES))
    path = tmp_path_factory.mktemp("words") / "words.pt"
    Keywords(network, NAMES).save(path, {})
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torchvision.models import mobilenet_v2

    path = tmp_path_factory.mktemp("photos") / "photos.pth"
    torch.save(mobilenet_v2(num_classes=7).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def service(make_model: Callable[..., ServedModel], words: Path, photos: Path) -> Iterator[Live]:
    models = [load_model("words", str(words), threads=1), make_model(), load_model("photos", str(photos), threads=1)]
    with Live(models) as live:
        yield live


def ask(service: Live, *files: bytes, **fields: Any) -> httpx2.Response:
    return service.client.post("/api/predict", files=[("file", (f"{n}.wav", data)) for n, data in enumerate(files)], data=fields)


def test_labels_of_sounds_and_photos(service: Live, words: Path) -> None:
    sounds = [wav(tone(hertz)) for hertz in (200, 2000)]
    response = ask(service, *sounds, top=2, sent_at=7.5)
    answer = response.json()
    assert set(answer) == {"model", "model_digest", "runtime", "results", "timing", "sent_at", "received_at", "answered_at"}
    assert (answer["model"], answer["sent_at"]) == ("words", 7.5)
    expected = predict(load_model("x", str(words), threads=1).workload, sounds, 2)
    for number, (result, own) in enumerate(zip(answer["results"], expected, strict=True)):
        assert result["name"] == f"{number}.wav"
        assert [(label["class"], label["name"]) for label in result["labels"]] == [(label.label, label.name) for label in own]
        assert [label["score"] for label in result["labels"]] == pytest.approx([label.score for label in own], abs=1e-5)
    timing = answer["timing"]
    assert set(timing) == set(service.detect(picture(1)).json()["timing"])
    assert "inference;dur=" in response.headers["server-timing"]
    labels = ask(service, picture(1, 300, 200), model="photos").json()["results"][0]["labels"]
    assert len(labels) == 5 and labels[0]["score"] >= labels[-1]["score"] > 0


def test_models_say_their_kind_and_each_route_has_a_default(service: Live) -> None:
    models = service.client.get("/api/models").json()["models"]
    assert [(model["name"], model["kind"], model["default"], model["img_size"]) for model in models] == [
        ("words", "keywords", True, None),
        ("shapes", "detection", True, 64),
        ("photos", "classification", False, 224),
    ]
    assert service.detect(picture(1)).json()["model"] == "shapes"


def test_a_model_of_another_kind_names_its_route(service: Live, make_model: Callable[..., ServedModel]) -> None:
    wrong = ask(service, SOUND, model="shapes")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "another-kind")
    assert "/api/detect" in wrong.json()["error"]["message"]
    wrong = service.detect(picture(1), model="words")
    assert wrong.status_code == 422 and "/api/predict" in wrong.json()["error"]["message"]
    assert ask(service, SOUND, model="word").status_code == 404
    with Live([make_model()]) as detector:
        assert ask(detector, SOUND).status_code == 422


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_sound_is_refused(service: Live, data: bytes) -> None:
    response = ask(service, data)
    assert response.status_code == 422 and response.json()["error"]["image"] == "0.wav"
    assert ask(service, SOUND).status_code == 200


def test_sounds_have_limits(service: Live) -> None:
    assert ask(service, wav(tone(440, seconds=11))).json()["error"]["code"] == "sound-too-large"
    assert ask(service, bytes(2_000_001)).status_code == 413
    assert ask(service, SOUND, top=0).status_code == 422
    assert ask(service).status_code in (415, 422)
    assert service.client.post("/api/predict", json={"image": ""}).status_code == 415
    assert ask(service, wav(tone(440, seconds=2)), model="words").status_code == 200
    assert ask(service, SOUND, model="photos").status_code == 422


def test_metrics_count_every_kind(service: Live) -> None:
    assert ask(service, SOUND).status_code == 200
    text = service.client.get("/metrics").text
    assert 'yoloperf_stage_seconds_count{model="words",stage="inference"}' in text
    assert 'route="/api/predict"' in text


def test_serve_finds_the_kind(words: Path, weights: Path) -> None:
    flags = ("--runtime", "torch", "--precision", "bf16", "--threads", "1")
    with Spawned("--model", f"words={words}", "--model", str(weights), *flags) as spawned:
        told = "model words: keywords, 4 classes, torch fp32 (--runtime, --precision and --streams are for detectors), "
        assert any(line.startswith(told) for line in spawned.started)
        answer = spawned.client.post("/api/predict", files={"file": ("a.wav", SOUND)})
        assert answer.status_code == 200 and answer.json()["results"][0]["labels"][0]["name"] in NAMES
