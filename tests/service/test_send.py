import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.service.standin import Refusal, StandIn
from yoloperf.cli import main
from yoloperf.core.lock import held

STANDIN = Path(__file__).with_name("standin.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    for number in range(24):
        shape = (20 + number, 40, 3)
        cv2.imwrite(str(images / ("below" if number % 3 else "") / f"{number}.jpg"), np.full(shape, 10 * number, np.uint8))
    return images


Send = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def send(folder: Path, capsys: pytest.CaptureFixture[str]) -> Send:
    """Run `yoloperf send` on the folder; returns its exit code and its JSON."""

    def run(*nodes: str, flags: str = "") -> tuple[int, dict[str, Any]]:
        code = main(["send", str(folder), "--output", str(folder.parent / "out"), "--json", *flags.split(), "--nodes", *nodes])
        return code, json.loads(capsys.readouterr().out or "{}")

    return run


def lines(folder: Path) -> dict[str, dict[str, Any]]:
    """Image -> its line; none is there twice."""
    found = [json.loads(line) for line in (folder.parent / "out" / "detections.jsonl").read_text().splitlines()]
    assert Counter(line["image"] for line in found).most_common(1)[0][1] == 1
    return {line["image"]: line for line in found}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}


def test_every_image_once_over_all_nodes(folder: Path, send: Send) -> None:
    with StandIn(delay_s=0.05) as one, StandIn(delay_s=0.05) as two:
        code, result = send(one.address, two.address, flags="--batch 2 --in-flight 3 --pictures")
        assert code == 0 and (result["images"], result["sent"], result["done_before"]) == (24, 24, 0)
        assert len(one.seen) > 3 and len(two.seen) > 3 and sum(map(len, one.seen + two.seen)) == 24
        assert 1 < one.most_at_once <= 3
    found = lines(folder)
    assert found.keys() == names(folder)
    for name, line in found.items():
        height = cv2.imread(str(folder / name)).shape[0]
        assert line["height"] == line["boxes"][0]["y2"] == height and line["request_s"] > 0.05 and line["request_images"] == 2
        assert cv2.imread(str(folder.parent / "out" / "pictures" / f"{name}.jpg")).shape[0] == height
    assert [node["images"] for node in result["nodes"]] == [sum(map(len, node.seen)) for node in (one, two)]
    assert all(node["request_p50_s"] > 0.05 and node["up"] for node in result["nodes"])
    with StandIn() as idle:
        code, result = send(idle.address)
        assert (code, result["sent"], result["done_before"], idle.seen) == (0, 0, 24, []), "what is done is not sent again"


def test_unreadable_images_are_reported_and_not_sent(folder: Path, send: Send) -> None:
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.png").touch()
    whole = (folder / "0.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with StandIn() as node:
        code, result = send(node.address)
        sent = {name for request in node.seen for name in request}
    assert code == 1 and {Path(item["image"]).name for item in result["unreadable"]} == {"text.jpg", "empty.png", "cut.jpg"}
    assert not sent & {"text.jpg", "empty.png", "cut.jpg"} and result["sent"] == len(lines(folder)) == 24


def test_image_that_the_service_refuses_keeps_no_other(folder: Path, send: Send) -> None:
    refusal = (422, {}, {"error": {"code": "not-an-image", "message": "this is no readable image", "image": "3.jpg"}})
    with StandIn() as node:
        node.refuse = lambda seen: refusal if "3.jpg" in seen else None
        code, result = send(node.address, flags="--batch 8")
    assert code == 1 and [Path(item["image"]).name for item in result["refused"]] == ["3.jpg"]
    assert "no readable image" in result["refused"][0]["reason"] and lines(folder).keys() == names(folder) - {"3.jpg"}


def test_cut_line_and_changed_image_are_sent_again(folder: Path, send: Send) -> None:
    with StandIn() as node:
        send(node.address)
    file = folder.parent / "out" / "detections.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-30])
    cv2.imwrite(str(folder / "0.jpg"), np.zeros((77, 40, 3), np.uint8))
    with StandIn() as node:
        code, result = send(node.address)
        assert sum(map(len, node.seen)) == result["sent"] == 2 and code == 0
    assert lines(folder).keys() == names(folder) and lines(folder)["0.jpg"]["height"] == 77


def test_image_that_vanishes_or_changes_while_it_is_answered(folder: Path, send: Send) -> None:
    gone, new = folder / "0.jpg", folder / "3.jpg"

    def change(seen: list[str]) -> None:
        if gone.name in seen:
            gone.unlink()
        if new.name in seen and not sent:
            cv2.imwrite(str(new), np.zeros((77, 40, 3), np.uint8))

    sent: list[str] = []
    with StandIn() as node:
        node.refuse = change
        code, result = send(node.address, flags="--pictures --batch 2")
        assert (code, result["sent"], result["refused"]) == (0, 24, []) and lines(folder)["3.jpg"]["height"] == 23
        sent = [name for request in node.seen for name in request]
        code, result = send(node.address)
        assert (code, result["sent"]) == (0, 1) and lines(folder)["3.jpg"]["height"] == 77
    assert len(sent) == len(lines(folder)) == 24 and (folder.parent / "out" / "pictures" / "0.jpg.jpg").exists()


def test_pictures_of_what_was_sent_without_them(folder: Path, send: Send) -> None:
    """Each has its own, whatever the names."""
    for number, name in enumerate(("a.png", "a.png.jpg", "a.jpg")):
        cv2.imwrite(str(folder / name), np.zeros((50 + number, 40, 3), np.uint8))
    pictures = folder.parent / "out" / "pictures"
    with StandIn() as node:
        send(node.address)
        (folder / "0.jpg").unlink()
        code, result = send(node.address, flags="--pictures")
    assert (code, result["sent"]) == (0, 0) and not (pictures / "0.jpg.jpg").exists()
    assert {name: line["height"] for name, line in lines(folder).items() if name != "0.jpg"} == {
        path.relative_to(pictures).as_posix().removesuffix(".jpg"): cv2.imread(str(path)).shape[0] for path in pictures.rglob("*.jpg")
    }
    assert cv2.imread(str(pictures / "3.jpg.jpg")).max() > 150, "the boxes are on it"


def test_counts_that_were_cut_are_said(folder: Path, send: Send, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as node:
        node.truncated = True
        assert send(node.address)[1]["truncated"] == 24 and lines(folder)["0.jpg"]["truncated"]
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", node.address]) == 0
    assert "24 images have more than 300 boxes: send them with a larger --max-boxes" in capsys.readouterr().out


def test_weights_are_known_by_their_digest_not_their_name(folder: Path, send: Send) -> None:
    with StandIn() as node:
        send(node.address)
    (folder / "0.jpg").rename(folder / "new.jpg")
    with StandIn(model="renamed") as node:
        assert send(node.address)[0] == 0
    assert "new.jpg" in lines(folder)


def test_results_of_other_settings_are_not_mixed(folder: Path, send: Send, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as node:
        send(node.address)
        (folder / "0.jpg").unlink()
        (folder / "new.jpg").write_bytes((folder / "3.jpg").read_bytes())
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--conf", "0.5", "--nodes", node.address]) == 2
        assert "holds results with conf 0.25: ask for the same, or choose another --output" in capsys.readouterr().err
    with StandIn(digest="other") as node:
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", node.address]) == 2
        assert "model_digest '0123456789ab'" in capsys.readouterr().err


def test_foreign_file_is_not_taken_for_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "out").mkdir()
    (folder.parent / "out" / "detections.jsonl").write_text("[1]\n{}\n")
    assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", "127.0.0.1:1"]) == 2
    assert "line 1 of" in capsys.readouterr().err


def test_nodes_must_serve_the_same_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as one, StandIn(digest="ba9876543210") as two:
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", one.address, two.address]) == 2
        assert "serve different weights" in capsys.readouterr().err and not one.seen + two.seen
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--model", "dogs", "--nodes", one.address]) == 2
        assert "has no model 'dogs', only coco, bccd" in capsys.readouterr().err


def test_new_weights_in_the_middle_set_a_node_aside(folder: Path, send: Send) -> None:
    with StandIn(delay_s=0.02) as one, StandIn(delay_s=0.02) as two:

        def change(_: list[str]) -> None:
            if len(two.seen) == 3:
                two.digest = "ba9876543210"

        two.refuse = change
        code, result = send(one.address, two.address, flags="--batch 1 --in-flight 1")
    assert code == 0 and lines(folder).keys() == names(folder)
    assert result["nodes"][1]["images"] <= 3 and "other weights" in result["nodes"][1]["fault"]


NO_MODEL = (404, {}, {"error": {"code": "unknown-model", "message": "unknown model bccd"}})
WRONG = {
    "another server": (200, {}, {"hello": "world"}),
    "another protocol": (200, {"Content-Encoding": "gzip"}, {}),
    "too few results": (200, {}, {"results": [], "model": "bccd", "model_digest": "0123456789ab", "runtime": "none", "timing": {}}),
    "moved": (301, {"Location": "/elsewhere"}, {}),
    "another token": (401, {}, {}),
    "forbidden": (403, {}, {}),
    "without the model": NO_MODEL,
    "no such method": (501, {}, {}),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("looks_right", [False, True])
def test_wrong_node_does_not_swallow_the_images(folder: Path, send: Send, wrong: Refusal, looks_right: bool) -> None:
    """However slow the other one is."""
    with StandIn(delay_s=0.02) as one, StandIn() as two:

        def change(_: list[str]) -> Refusal | None:
            if len(two.seen) <= 2:
                return None
            two.refuse_all = None if looks_right else wrong
            return wrong

        two.refuse = change
        code, result = send(one.address, two.address, flags="--batch 1 --in-flight 1")
    assert code == 0 and result["refused"] == [] and lines(folder).keys() == names(folder)
    assert [node["images"] for node in result["nodes"]] == [22, 2]
    assert not result["nodes"][1]["up"] and result["nodes"][1]["fault"] and result["nodes"][1]["retried"] == len(two.seen) - 2


def test_wrong_node_alone_is_given_up(folder: Path, send: Send) -> None:
    with StandIn() as node:
        node.refuse = lambda _: NO_MODEL if len(node.seen) > 8 else None
        code, result = send(node.address, flags="--batch 1 --in-flight 1 --patience 0.5")
    assert code == 1 and result["refused"] == [] and len(result["left"]) == 16 and len(lines(folder)) == 8
    assert "unknown model" in result["nodes"][0]["fault"] and not result["nodes"][0]["up"]


def test_image_that_a_proxy_forbids_keeps_no_other(folder: Path, send: Send) -> None:
    with StandIn() as node:
        node.refuse = lambda seen: (403, {}, {}) if "3.jpg" in seen else None
        code, result = send(node.address, flags="--batch 1 --in-flight 1 --patience 0.5")
    assert code == 1 and [Path(image).name for image in result["left"]] == ["3.jpg"] and len(lines(folder)) == 23


@pytest.mark.parametrize("body", [{"models": [{"x": 1}]}, {"models": [1]}, {"models": 1}, []])
def test_node_that_is_some_other_server(folder: Path, body: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as node:
        node.refuse_all = (200, {}, body)
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", node.address]) == 2
    assert "is no yoloperf service: give the address of one" in capsys.readouterr().err


def test_busy_node_is_left_alone_for_as_long_as_it_says(folder: Path, send: Send) -> None:
    busy = (429, {"Retry-After": "1"}, {"error": {"code": "busy", "message": "try again in 1 s"}})
    with StandIn() as node:
        node.refuse = lambda seen: busy if len(node.seen) <= 4 else None
        start = time.monotonic()
        code, result = send(node.address, flags="--in-flight 4")
    assert code == 0 and result["nodes"][0]["retried"] == 4 and time.monotonic() - start > 1 and lines(folder).keys() == names(folder)


def test_busy_for_too_long_is_not_called_down(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    busy = (429, {"Retry-After": "0"}, {"error": {"code": "busy", "message": "64 images are waiting already"}})
    with StandIn() as node:
        node.refuse = lambda _: busy
        start = time.monotonic()
        output = str(folder.parent / "out")
        assert main(["send", str(folder), "--output", output, "--patience", "1.5", "--nodes", node.address]) == 1
    assert 1.5 < time.monotonic() - start < 10
    said = capsys.readouterr().out
    assert "24 images are left, the nodes took no requests: run the same command again" in said and "64 images are waiting" in said


def test_poisonous_image_ends_as_refused(folder: Path, send: Send) -> None:
    """An image that makes every node fail is given up after some attempts; the others of its batch are not."""
    with StandIn() as one, StandIn() as two:
        broken = (500, {}, {})
        one.refuse = two.refuse = lambda seen: broken if "9.jpg" in seen else None
        code, result = send(one.address, two.address, flags="--batch 4")
    assert code == 1 and [Path(item["image"]).name for item in result["refused"]] == ["9.jpg"]
    assert "HTTP 500" in result["refused"][0]["reason"] and len(lines(folder)) == 23


def test_gives_up_when_no_node_is_up_and_goes_on_later(folder: Path, send: Send) -> None:
    with StandIn() as node:
        node.dies_after = 2
        code, result = send(node.address, flags="--patience 0.5 --batch 4 --in-flight 1")
    assert code == 1 and len(result["left"]) == 16 and "does not answer" in result["nodes"][0]["fault"]
    assert len(lines(folder)) + len(result["left"]) == 24
    with StandIn() as node:
        code, result = send(node.address)
    assert code == 0 and lines(folder).keys() == names(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--nodes", "x:1"], "no folder nowhere"),
        (["FOLDER", "--nodes", "x"], "'x' is no address of a node"),
        (["FOLDER", "--nodes", "127.0.0.1:1"], "no node is ready: http://127.0.0.1:1 does not answer"),
        (["FOLDER", "--nodes", "127.0.0.1:1", "--token-file", "nowhere"], "cannot read the token in nowhere"),
    ],
)
def test_bad_input(arguments: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(folder) if word == "FOLDER" else word for word in arguments]
    assert main(["send", *words, "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("yoloperf:") == 1 and "Traceback" not in error


def test_two_at_a_time_are_one_too_many(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StandIn() as node, held(folder.parent / "out" / "send.lock", "that"):
        assert main(["send", str(folder), "--output", str(folder.parent / "out"), "--nodes", node.address]) == 2
    assert f"is being run by process {os.getpid()}" in capsys.readouterr().err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_node(port: int, delay_s: float) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, str(STANDIN), str(port), str(delay_s)])
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.1).close()
            return process
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)


def start_send(folder: Path, ports: list[int], flags: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "yoloperf",
        "send",
        str(folder),
        "--output",
        str(folder.parent / "out"),
        "--json",
        *flags.split(),
        "--nodes",
    ]
    return subprocess.Popen([*command, *(f"127.0.0.1:{port}" for port in ports)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_lines(folder: Path, count: int) -> None:
    file = folder.parent / "out" / "detections.jsonl"
    deadline = time.monotonic() + 30
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_killed_node_loses_nothing_and_is_used_again(folder: Path) -> None:
    ports = [free_port(), free_port()]
    nodes = [start_node(port, 0.2) for port in ports]
    try:
        sending = start_send(folder, ports, "--batch 1 --in-flight 1")
        wait_for_lines(folder, 4)
        os.kill(nodes[1].pid, signal.SIGKILL)
        nodes[1].wait()
        before = len(lines(folder))
        nodes[1] = start_node(ports[1], 0.2)
        output, _ = sending.communicate(timeout=60)
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    result = json.loads(output)
    assert sending.returncode == 0 and lines(folder).keys() == names(folder) and before < 24
    assert result["nodes"][1]["retried"] == 1 and result["nodes"][1]["up"]
    after = [line["node"] for line in list(lines(folder).values())[before:]]
    assert after.count(f"http://127.0.0.1:{ports[1]}") >= 2, "it is used again"


def test_killed_sending_goes_on_where_it_was(folder: Path) -> None:
    port = free_port()
    node = start_node(port, 0.05)
    try:
        for count in (3, 9, 15):
            sending = start_send(folder, [port], "--batch 2 --in-flight 2")
            wait_for_lines(folder, count)
            sending.send_signal(signal.SIGKILL)
            sending.communicate()
        sending = start_send(folder, [port], "--batch 2 --in-flight 2")
        output, _ = sending.communicate(timeout=60)
    finally:
        node.kill()
        node.wait()
    result = json.loads(output)
    assert sending.returncode == 0 and result["done_before"] >= 15 and result["done_before"] + result["sent"] == 24
    assert lines(folder).keys() == names(folder)
