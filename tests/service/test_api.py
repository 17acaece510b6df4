import base64
import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest

from tests.service.conftest import picture
from tests.service.live import Live
from tests.service.test_batcher import StandInRuntime, served
from yoloperf.service.model import ServedModel
from yoloperf.yolo.inference import Detector
from yoloperf.yolo.picture import Detection

STAGES = ["queue_s", "decode_s", "preprocess_s", "inference_s", "postprocess_s"]


def boxes(result: dict) -> list[tuple]:
    return [(box["class"], box["name"], box["score"], *box["box"]) for box in result["boxes"]]


def expected(detections: list[Detection]) -> list[tuple]:
    return [tuple(vars(detection).values()) for detection in detections]


def code(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_boxes_are_those_of_detect(live: Live, make_model: Callable[..., ServedModel], tmp_path: Path) -> None:
    model = make_model()
    images = [picture(seed, width, height) for seed, (width, height) in enumerate([(64, 48), (200, 90), (33, 120)])]
    for number, data in enumerate(images):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    seen = Detector(model.runtime, model.names).detect(sorted(tmp_path.iterdir()), confidence=0.3, iou=0.5)
    answer = live.detect(*images, conf=0.3, iou=0.5).json()
    assert [boxes(result) for result in answer["results"]] == [expected(own.detections) for own in seen]
    assert sum(len(result["boxes"]) for result in answer["results"]) > 3
    assert [(result["image"], result["width"], result["height"]) for result in answer["results"]] == [
        ("0.jpg", 64, 48),
        ("1.jpg", 200, 90),
        ("2.jpg", 33, 120),
    ]


def test_official_weights_and_the_fastest_runtime_find_what_detect_finds(real_data: Path, official_weights: Path) -> None:
    images = sorted((real_data / "coco128" / "images" / "val2017").iterdir())[:6]
    model = ServedModel.load("coco", str(official_weights), threads=1)
    seen = list(Detector(model.runtime, model.names).detect(images))
    with Live([model]) as service:
        results = [service.detect(image.read_bytes()).json()["results"][0] for image in images]
    for result, own in zip(results, seen, strict=True):
        there = expected(own.detections)
        assert [box[:2] for box in boxes(result)] == [box[:2] for box in there]
        # one image at a time against a batch: other kernels, other rounding
        np.testing.assert_allclose([box[2:] for box in boxes(result)], [box[2:] for box in there], atol=1e-2)
    assert sum(len(own.detections) for own in seen) > 10


def test_answer_says_all_about_itself(live: Live) -> None:
    response = live.detect(picture(1), conf=0.3)
    answer = response.json()
    assert set(answer) == {"model", "model_digest", "runtime", "results", "timing", "sent_at", "received_at", "answered_at"}
    assert (answer["model"], answer["runtime"], answer["sent_at"]) == ("shapes", "torch", None)
    timing = answer["timing"]
    assert set(timing) == {*STAGES, "receive_s", "encode_s", "total_s", "batch_size"}
    parts = sum(timing[stage] for stage in (*STAGES, "receive_s", "encode_s"))
    assert 0.9 * timing["total_s"] < parts <= timing["total_s"] * 1.0001
    stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert float(stages["inference"]) == pytest.approx(1000 * timing["inference_s"], abs=1e-3)
    result = answer["results"][0]
    assert list(result["timing"]) == STAGES and result["output"] is None
    counted: dict[str, int] = {}
    for box in result["boxes"]:
        counted[box["name"]] = counted.get(box["name"], 0) + 1
        np.testing.assert_allclose(np.multiply(box["box_normalised"], (64, 48, 64, 48)), box["box"], atol=1e-4)
    assert counted == result["counts"]


def test_iou_1_suppresses_nothing_and_max_boxes_cuts(live: Live) -> None:
    def count(**fields: object) -> int:
        return len(live.detect(picture(1), conf=0.2, **fields).json()["results"][0]["boxes"])

    assert count(iou=1) > count(iou=0) > 2
    assert count(iou=1, max_boxes=2) == 2


def test_cut_boxes_are_told(live: Live) -> None:
    def result(**fields: object) -> dict:
        return live.detect(picture(1), conf=0.2, **fields).json()["results"][0]

    whole = result()
    there = len(whole["boxes"])
    exact, cut = result(max_boxes=there), result(max_boxes=there - 1)
    assert [each["truncated"] for each in (whole, exact, cut)] == [False, False, True]
    assert boxes(exact) == boxes(whole) and boxes(cut) == boxes(whole)[:-1]
    assert sum(cut["counts"].values()) == there - 1


def test_multi_label_lets_a_box_stand_for_every_class_above_conf(live: Live) -> None:
    def boxes(**fields: object) -> list[dict[str, object]]:
        return list(live.detect(picture(1), conf=0.01, iou=1, clip=False, **fields).json()["results"][0]["boxes"])

    single, several = boxes(), boxes(multi_label=True)
    assert len(several) > len(single) == len({str(box["box"]) for box in several})


def test_three_forms_give_the_same_boxes(live: Live, image_root: Path) -> None:
    data = (image_root / "images" / "x.jpg").read_bytes()
    text = base64.b64encode(data).decode()
    answers = [
        live.detect(data, conf=0.3, model="cells", sent_at="12.5"),
        live.client.post(
            "/api/detect", files={"whatever": ("images/x.jpg", data)}, data={"conf": "0.3", "model": "cells", "sent_at": 12.5}
        ),
        live.client.post("/api/detect", json={"image": text, "conf": 0.3, "model": "cells", "sent_at": 12.5}),
        live.client.post(
            "/api/detect", json={"images": [f"data:image/jpeg;base64,{text}"], "conf": 0.3, "model": "cells", "sent_at": 12.5}
        ),
        live.client.post("/api/detect", data={"input": "images/x.jpg", "conf": "0.3", "model": "cells", "sent_at": "12.5"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert all(answer.json()["model"] == "cells" and answer.json()["sent_at"] == 12.5 for answer in answers)
    found = [boxes(answer.json()["results"][0]) for answer in answers]
    assert found[0] and all(own == found[0] for own in found)
    assert [answer.json()["results"][0]["image"] for answer in answers] == ["0.jpg", "images/x.jpg", "0", "0", "images/x.jpg"]


def test_json_of_several_images(live: Live) -> None:
    texts = [base64.encodebytes(picture(seed)).decode() for seed in range(3)]  # with line breaks, as MIME has them
    answer = live.client.post("/api/detect", json={"images": texts}).json()
    assert [result["image"] for result in answer["results"]] == ["0", "1", "2"]


def test_json_as_other_languages_write_it(live: Live) -> None:
    """PHP escapes slashes, .NET plus signs too, and some programs begin every file with a byte order mark."""
    text = base64.b64encode(picture(1)).decode()
    assert "/" in text and "+" in text
    body = b"\xef\xbb\xbf" + json.dumps({"image": text}).replace("/", r"\/").replace("+", r"\u002B").encode()
    answer = live.client.post("/api/detect", content=body, headers={"Content-Type": "application/json"}).json()
    assert boxes(answer["results"][0]) == boxes(live.detect(picture(1)).json()["results"][0])


def test_path_form_saves_beside_the_image_what_the_old_client_asked_for(live: Live, image_root: Path) -> None:
    body = "input=images/x.jpg&output=1"  # as curl -d sends it
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = live.client.post("/api/detect", content=body, headers=kind).json()
    assert answer["results"][0]["output"] == "images/x_detected.jpg"
    assert cv2.imread(str(image_root / "images" / "x_detected.jpg")).shape == (48, 64, 3)
    saved = json.loads((image_root / "images" / "x_detected.json").read_text())
    assert saved == answer["results"][0]
    assert sorted(path.name for path in (image_root / "images").iterdir()) == ["x.jpg", "x_detected.jpg", "x_detected.json"]


def test_output_of_every_image_has_a_name_of_its_own_and_is_where_it_is_said_to_be(live: Live, image_root: Path, tmp_path: Path) -> None:
    folder = image_root / "outputs"
    (folder / "real").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(picture(1))
    (folder / "a.png").write_bytes(picture(2, suffix=".png"))
    (folder / "real" / "b.jpg").write_bytes(picture(3))
    (folder / "link.jpg").symlink_to(folder / "real" / "b.jpg")
    found = []
    for name in ("a.jpg", "a.png", "link.jpg"):
        answer = live.client.post("/api/detect", data={"input": f"outputs/{name}", "output": "1"}).json()
        found.append(answer["results"][0]["output"])
        saved = (image_root / found[-1]).with_suffix(".json")
        assert json.loads(saved.read_text()) == answer["results"][0]
    assert found == ["outputs/a_detected.jpg", "outputs/a.png_detected.jpg", "outputs/real/b_detected.jpg"]
    assert all(cv2.imread(str(image_root / output)) is not None for output in found)


def test_exif_turns_the_picture(live: Live) -> None:
    data = picture(1)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    result = live.detect(turned).json()["results"][0]
    assert (result["width"], result["height"]) == (48, 64)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_formats(live: Live, suffix: str) -> None:
    assert live.detect(picture(1, suffix=suffix)).json()["results"][0]["width"] == 64


def test_models_health_and_metrics(live: Live) -> None:
    models = live.client.get("/api/models").json()
    assert [(model["name"], model["default"], model["classes"]) for model in models["models"]] == [
        ("shapes", True, ["disc", "square"]),
        ("cells", False, ["red", "white", "platelet"]),
    ]
    assert models["training"] is False
    assert live.client.get("/healthz").json() == {"status": "ok"}
    assert live.client.get("/readyz").json() == {"status": "ready"}

    def value(name: str) -> float:
        lines = live.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    before = value("yoloperf_batch_images_count"), value('yoloperf_requests_total{method="POST",route="/api/detect",status="200"}')
    live.detect(picture(1), picture(2))
    assert value("yoloperf_batch_images_count") == before[0] + 2
    assert value('yoloperf_requests_total{method="POST",route="/api/detect",status="200"}') == before[1] + 1
    assert value("yoloperf_queue_images") == 0
    live.client.get("/secret-patient-name.jpg")
    assert "secret" not in live.client.get("/metrics").text


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        ({"json": {"image": "AAAA"}}, 422, "not-an-image"),
        ({"json": {"image": "AAA"}}, 422, "not-base64"),
        ({"json": {}}, 422, "invalid"),
        ({"json": []}, 422, "invalid"),
        ({"json": {"image": "AAAA", "images": ["AAAA"]}}, 422, "invalid"),
        ({"json": {"images": []}}, 422, "invalid"),
        ({"json": {"image": "AAAA", "conf": "0.5"}}, 422, "invalid"),
        ({"json": {"image": "AAAA", "conf": 1.5}}, 422, "invalid"),
        ({"json": {"image": "AAAA", "model": "shape"}}, 404, "unknown-model"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "malformed"),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "malformed"),
        ({"content": b'{"image": ' + b"1" * 10_000 + b"}", "headers": {"Content-Type": "application/json"}}, 400, "malformed"),
        ({"content": '{"image": "AAAA\U0001f600"}'.encode(), "headers": {"Content-Type": "application/json"}}, 422, "not-ascii"),
        ({"content": rb'{"image": "AAAA\u0100"}', "headers": {"Content-Type": "application/json"}}, 422, "not-ascii"),
        ({"json": {"image": "AAAA"}, "params": {"conf": 0.5}}, 422, "invalid"),
        ({"content": b"\xff\xd8", "headers": {"Content-Type": "image/jpeg"}}, 415, "unknown-form"),
        ({"content": b""}, 415, "unknown-form"),
        ({"content": b"x", "headers": {"Content-Type": "application/json", "Content-Encoding": "gzip"}}, 415, "encoded"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "malformed"),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "malformed"),
        ({"content": b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422, "no-image"),
        ({"files": {"image": ("x.jpg", b"")}}, 422, "not-an-image"),
        ({"files": {"image": ("x.jpg", b"x")}, "data": {"conf": "nan"}}, 422, "invalid"),
        ({"files": {"image": ("x.jpg", b"x")}, "data": {"max_boxes": "0"}}, 422, "invalid"),
        ({"data": {"output": "1"}}, 422, "invalid"),
        ({"data": {"input": "images/y.jpg"}}, 404, "no-file"),
        ({"content": b"%ff=%fe", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400, "malformed"),
    ],
)
def test_refusals_name_the_next_step(live: Live, request_: dict, status: int, slug: str) -> None:
    response = live.client.post("/api/detect", **request_)
    assert code(response) == (status, slug)
    message = response.json()["error"]["message"]
    assert "\n" not in message and len(message) > 20


def test_bad_one_of_several_is_named(live: Live) -> None:
    error = live.detect(picture(1), picture(2)[:100], picture(3)).json()["error"]
    assert (error["code"], error["image"]) == ("not-an-image", "1.jpg")


def test_unknown_routes_and_methods(live: Live) -> None:
    assert code(live.client.get("/nowhere")) == (404, "not-found")
    assert code(live.client.get("/api/detect")) == (405, "method-not-allowed")
    assert code(live.client.post("/api/training", json={})) == (404, "no-training")
    assert "--allow-training" in live.client.get("/api/runs").json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_head_is_a_get_without_its_body(live: Live, path: str) -> None:
    head, whole = live.client.head(path), live.client.get(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", whole.headers["content-length"])


def test_page_and_its_files_come_with_a_policy(live: Live) -> None:
    page = live.client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    style = live.client.get("/static/style.css")
    assert style.headers["content-type"].startswith("text/css") and style.headers["cache-control"] == "no-cache"
    same = live.client.get("/static/style.css", headers={"If-None-Match": style.headers["etag"]})
    assert (same.status_code, same.headers["cache-control"]) == (304, "no-cache")
    assert live.client.get("/static/..%2fapp.py").status_code == 404
    refused = live.client.get("/nowhere")
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_model_added_while_serving_replaces_the_one_of_its_name(make_model: Callable[..., ServedModel]) -> None:
    with Live([make_model()]) as service:
        before = service.detect(picture(1)).json()["model_digest"]
        service.app.state.registry.add(make_model("shapes", ("a", "b", "c")))
        service.app.state.registry.add(make_model("more", ("a",)))
        assert [model["name"] for model in service.client.get("/api/models").json()["models"]] == ["shapes", "more"]
        assert service.detect(picture(1)).json()["model_digest"] != before
        assert service.detect(picture(1), model="more").json()["model"] == "more"


def test_many_small_writes_are_one_request(live: Live) -> None:
    """A body that trickles in, byte by byte around the boundaries."""
    data = picture(1)
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + data + b"\r\n--b--\r\n"
    host, port = live.bound.getsockname()
    head = (
        f"POST /api/detect HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, port), 10) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream.sendall(head.encode())
        for position in range(0, len(body), 37):
            stream.sendall(body[position : position + 37])
        assert stream.recv(15) == b"HTTP/1.1 200 OK"


def test_images_of_a_client_that_left_are_not_computed(image_root: Path) -> None:
    runtime = StandInRuntime()
    with Live([served(runtime)], image_root=image_root, max_batch=1) as service:
        batcher = service.app.state.registry.get()
        runtime.batches.clear()
        runtime.entered.clear()
        runtime.gate.clear()
        part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture(1) + b"\r\n"
        body = 8 * part + b"--b--\r\n"
        head = (
            b"POST /api/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
        )
        with socket.create_connection(service.bound.getsockname(), 10) as stream:
            stream.sendall(head % len(body) + body)
            assert runtime.entered.wait(10)
            while len(batcher._ready) < 7:
                time.sleep(0.01)
        with ThreadPoolExecutor(1) as other:
            stays = other.submit(service.detect, picture(2))
            while batcher.waiting < 8:
                time.sleep(0.01)
            time.sleep(0.1)  # for the service to see that the first one is gone
            runtime.gate.set()
            assert stays.result().status_code == 200
        assert runtime.batches == [1, 1]  # the one that was under way, and the one of the client that stayed


def test_links_and_odd_files_below_the_root_are_not_followed(live: Live, image_root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(picture(1))
    (image_root / "link.jpg").symlink_to(outside)
    (image_root / "folder").symlink_to(tmp_path)
    (image_root / "loop").symlink_to(image_root / "loop")
    (image_root / "inside.jpg").symlink_to(image_root / "images" / "x.jpg")
    os.mkfifo(image_root / "pipe")
    names = ["link.jpg", "folder/outside.jpg", "loop", "pipe", "images", "..", "../" * 9 + "etc/passwd", "/etc/passwd", str(outside)]
    names += ["images/../../" + tmp_path.name + "/outside.jpg", "\0", "a\0.jpg", "x" * 5000, "~root/x", "file:///etc/passwd"]
    for name in names:
        response = live.client.post("/api/detect", data={"input": name, "output": "1"})
        assert code(response) == (404, "no-file"), name
    assert live.client.post("/api/detect", data={"input": "inside.jpg"}).status_code == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside.jpg"]
    for name in ("link.jpg", "folder", "loop", "inside.jpg", "pipe"):
        (image_root / name).unlink()
