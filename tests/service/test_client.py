import asyncio
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.service.hostile import png
from tests.service.standin import Refusal, StandIn
from yoloperf.core.errors import UserError
from yoloperf.service.client import DetectionClient
from yoloperf.service.protocol import ServiceError, node_url

BUSY = (429, {"Retry-After": "1"}, {"error": {"code": "busy", "message": "64 images are waiting already: try again in 1 s"}})
ANSWER = {"model": "bccd", "model_digest": "0123456789ab", "runtime": "none", "timing": {}}
NO_IMAGE = (422, {}, {"error": {"code": "not-an-image", "message": "this is no readable image", "image": "x.jpg"}})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "x.jpg"
    cv2.imwrite(str(path), np.full((40, 60, 3), 90, np.uint8))
    return path


def closed_port() -> str:
    with StandIn() as node:
        return node.address


def test_one_picture_comes_back_with_typed_boxes_and_is_drawn_on(picture: Path, tmp_path: Path) -> None:
    with StandIn() as node, DetectionClient(node.address, confidence=0.1) as client:
        found = client.detect(picture)
        assert [model["name"] for model in client.models()] == ["coco", "bccd"]
    assert (found.image, found.width, found.height, found.counts) == ("x.jpg", 60, 40, {"cell": 1})
    (detection,) = found.detections
    assert (detection.label, detection.name, detection.score, detection.x2, detection.y2) == (0, "cell", 0.9, 60, 40)
    drawn = found.picture(picture)
    assert drawn.shape == (40, 60, 3) and np.ptp(drawn) > 50 and np.ptp(cv2.imread(str(picture))) < 10
    found.save_picture(picture, tmp_path / "out.jpg")
    assert cv2.imread(str(tmp_path / "out.jpg")).shape == (40, 60, 3)
    with pytest.raises(UserError, match="60 x 40 pixels, this one has 10 x 10"):
        found.picture(np.zeros((10, 10, 3), np.uint8))
    for unusable in (b"", png(60_000, 60_000)):
        with pytest.raises(UserError, match="the picture is no readable image"):
            found.picture(unusable)


def test_batch_takes_paths_bytes_and_pixels_and_keeps_their_order(picture: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    with StandIn() as node, DetectionClient(node.address) as client:
        answer = client.detect_batch([pixels, picture.read_bytes(), str(picture)])
        assert len(node.seen) == 1
    assert [(found.width, found.height) for found in answer.results] == [(30, 20), (60, 40), (60, 40)]
    assert answer.model == "bccd" and answer.elapsed_s > 0


def test_async_spreads_over_nodes(picture: Path) -> None:
    async def ask(nodes: list[str]) -> list[int]:
        async with DetectionClient(nodes) as client:
            return [found.width for found in await asyncio.gather(*(client.detect_async(picture) for _ in range(12)))]

    with StandIn(delay_s=0.1) as one, StandIn(delay_s=0.1) as two:
        assert asyncio.run(ask([one.address, two.address])) == [60] * 12
        assert len(one.seen) == len(two.seen) == 6
        assert one.most_at_once > 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_dead_node_is_replaced_by_another(picture: Path, asynchronous: bool) -> None:
    with StandIn() as node, DetectionClient([closed_port(), node.address]) as client:
        for _ in range(4):
            found = asyncio.run(_one(client, picture)) if asynchronous else client.detect(picture)
            assert found.width == 60
        assert len(node.seen) == 4


async def _one(client: DetectionClient, picture: Path) -> object:
    async with DetectionClient(list(client.nodes)) as own:
        return await own.detect_async(picture)


def test_no_third_attempt(picture: Path) -> None:
    with StandIn() as node, DetectionClient([closed_port(), closed_port(), node.address]) as client:
        with pytest.raises(ServiceError, match="does not answer .*is the service running there") as caught:
            client.detect(picture)
        assert caught.value.code == "unreachable" and caught.value.status is None and not node.seen
        assert client.detect(picture).width == 60, "those that failed are asked last"


def test_busy_node_is_asked_again_after_what_it_says(picture: Path) -> None:
    with StandIn() as node, DetectionClient(node.address) as client:
        node.refuse = lambda names: BUSY if len(node.seen) < 2 else None
        start = time.monotonic()
        assert client.detect(picture).width == 60
        assert 1 <= time.monotonic() - start < 3
        node.refuse = lambda names: BUSY
        with pytest.raises(ServiceError, match="64 images are waiting") as caught:
            client.detect(picture)
        assert caught.value.status == 429 and len(node.seen) == 4


def test_what_the_service_refuses_is_not_asked_again(picture: Path) -> None:
    with StandIn() as one, StandIn() as two, DetectionClient([one.address, two.address]) as client:
        one.refuse = two.refuse = lambda names: NO_IMAGE
        with pytest.raises(ServiceError, match="no readable image") as caught:
            client.detect(picture)
        assert (caught.value.code, caught.value.image, len(one.seen) + len(two.seen)) == ("not-an-image", "x.jpg", 1)


def test_hanging_node_times_out_and_another_answers(picture: Path) -> None:
    with StandIn(delay_s=2) as slow, StandIn() as node, DetectionClient([slow.address, node.address], timeout_s=0.3) as client:
        assert client.detect(picture).width == 60


def test_some_other_server_is_said_to_be_none_of_ours(picture: Path) -> None:
    with StandIn() as node, DetectionClient(node.address) as client:
        node.refuse = lambda names: (200, {}, {"hello": "world"})
        with pytest.raises(ServiceError, match="is no yoloperf service"):
            client.detect(picture)
        node.refuse = lambda names: (404, {}, {})
        with pytest.raises(ServiceError, match="HTTP 404 Not Found"):
            client.detect(picture)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"Content-Encoding": "gzip"}, {"models": []}), "is no yoloperf service"),
        ((200, {}, {"results": [], **ANSWER}), "answered 0 results to 1 images"),
    ],
)
def test_answer_that_is_none_is_an_error_of_the_service(picture: Path, answer: Refusal, message: str, asynchronous: bool) -> None:
    with StandIn() as node, DetectionClient(node.address) as client:
        node.refuse = lambda names: answer
        with pytest.raises(ServiceError, match=message):
            asyncio.run(_one(client, picture)) if asynchronous else client.detect(picture)


@pytest.mark.parametrize("answer", [(200, {"Content-Encoding": "gzip"}, {}), (200, {}, {"hello": "world"}), (200, {}, {"models": 1})])
def test_models_of_some_other_server(answer: Refusal) -> None:
    with StandIn() as node, DetectionClient(node.address) as client:
        node.refuse_all = answer
        with pytest.raises(ServiceError, match="is no yoloperf service"):
            client.models()


def test_unreadable_file_and_no_file(tmp_path: Path) -> None:
    with DetectionClient("127.0.0.1:1") as client:
        with pytest.raises(UserError, match="cannot read .*nowhere.jpg"):
            client.detect(tmp_path / "nowhere.jpg")
        with pytest.raises(UserError, match="no pictures"):
            client.detect_batch([])


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("https://detect.example/blood/", "https://detect.example/blood"),
        ("localhost", None),
        ("ftp://x:1", None),
        ("host:port", None),
        ("", None),
        ("http://", None),
        ("http://[::1", None),
        ("http://x/?q=1", None),
    ],
)
def test_addresses(text: str, url: str | None) -> None:
    if url:
        assert node_url(text) == url
    else:
        with pytest.raises(UserError, match="is no address of a node"):
            node_url(text)


def test_client_needs_no_torch() -> None:
    code = "import sys, yoloperf.service.client, yoloperf.service.send; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
