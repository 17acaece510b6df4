from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import mobilenet_v2

from yoloperf.core.errors import UserError
from yoloperf.workloads.kinds import kind_of, load
from yoloperf.workloads.photos import Photos
from yoloperf.workloads.workload import Unusable, predict


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = mobilenet_v2(num_classes=5)
    path = tmp_path_factory.mktemp("photos") / "mobilenet_v2.pth"
    torch.save(network.state_dict(), path)
    return path


def png(height: int, width: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def test_labels_are_those_of_torchvision(weights: Path) -> None:
    model = load(weights, "cpu", 1)
    assert isinstance(model, Photos) and kind_of(weights) == "classification"
    picture = png(300, 400)
    network = mobilenet_v2(num_classes=5).eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    with torch.inference_mode():
        expected = network(torch.from_numpy(model.prepare(model.decode(picture)))[None]).softmax(1)[0]
    labels = predict(model, [picture, png(64, 64)], top=3)
    assert [len(own) for own in labels] == [3, 3]
    for label in labels[0]:
        assert label.score == pytest.approx(float(expected[label.label]), abs=1e-5)
    assert [label.score for label in labels[0]] == sorted((label.score for label in labels[0]), reverse=True)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (3000, 2), (224, 224), (257, 256)])
def test_any_shape_is_prepared(weights: Path, height: int, width: int) -> None:
    model = load(weights, "cpu", 1)
    prepared = model.prepare(model.decode(png(height, width)))
    assert prepared.shape == (3, 224, 224) and np.isfinite(prepared).all()


def test_the_middle_is_seen_with_imagenets_statistics(weights: Path) -> None:
    picture = np.zeros((256, 1000, 3), np.uint8)
    picture[:, 388:612] = 255
    prepared = load(weights, "cpu", 1).prepare(picture)
    np.testing.assert_allclose(prepared.mean((1, 2)), (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], rtol=1e-5)


def test_class_names_lie_beside(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(weights.read_bytes())
    assert load(path, "cpu", 1).names[4] == "class 4"
    path.with_suffix(".txt").write_text("ant\nbee\ncat\ndog\neel\n")
    assert load(path, "cpu", 1).names == ["ant", "bee", "cat", "dog", "eel"]
    path.with_suffix(".txt").write_text("ant\n")
    with pytest.raises(UserError, match="1 class names and the weights have 5"):
        load(path, "cpu", 1)


def test_what_does_not_fit_is_refused(weights: Path, tmp_path: Path) -> None:
    content = torch.load(weights, weights_only=True)
    content.pop("features.1.conv.1.weight")
    torch.save(content, tmp_path / "part.pth")
    with pytest.raises(UserError, match="does not fit"):
        load(tmp_path / "part.pth", "cpu", 1)
    with pytest.raises(Unusable):
        load(weights, "cpu", 1).decode(b"no picture")
