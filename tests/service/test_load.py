"""More than the service can do, and the end of it while requests are under way."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.service.conftest import picture
from tests.service.live import Live, Spawned
from tests.service.test_batcher import StandInRuntime, served
from yoloperf.service.limits import Limits

IMAGE_S = 0.025  # so that the capacity is 40 images/s
QUEUE, BATCH = 4, 2


def storm(url: str, rate: float, seconds: float, threads: int = 24) -> list[tuple[int, float]]:
    """Requests at a fixed rate, whatever becomes of them; status and seconds of each."""
    done: list[tuple[int, float]] = []
    files = {"image": ("x.jpg", picture(1))}
    start = time.monotonic()

    def client(number: int) -> None:
        with httpx2.Client(base_url=url, timeout=20) as session:
            due = start + number / rate
            while due < start + seconds:
                time.sleep(max(0.0, due - time.monotonic()))
                sent = time.monotonic()
                response = session.post("/api/detect", files=files)
                done.append((response.status_code, time.monotonic() - sent))
                if response.status_code != 200:
                    assert int(response.headers["retry-after"]) >= 1
                due += threads / rate

    clients = [threading.Thread(target=client, args=(number,)) for number in range(threads)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return done


def test_overload_is_refused_and_leaves_no_trace() -> None:
    model = served(StandInRuntime(image_s=IMAGE_S))
    process = psutil.Process()
    with Live([model], queue=QUEUE, max_batch=BATCH) as service:
        storm(service.url, 20, 0.5)
        before = process.memory_info().rss
        done = storm(service.url, 3 / IMAGE_S, 3)
        statuses = Counter(status for status, _ in done)
        assert set(statuses) == {200, 429}
        assert statuses[200] > 0.2 * 3 / IMAGE_S and statuses[429] > 10  # on a machine that does other things, too
        assert max(seconds for status, seconds in done if status == 200) < 3
        assert process.memory_info().rss - before < 32 * 2**20
        ended = time.monotonic()
        assert service.detect(picture(1)).status_code == 200
        assert time.monotonic() - ended < 2
        assert service.app.state.registry.get().waiting == 0


def test_answer_that_takes_too_long_is_given_up() -> None:
    runtime = StandInRuntime()
    model = served(runtime)
    with Live([model], limits=Limits(answer_s=0.5)) as service:
        runtime.gate.clear()
        response = service.detect(picture(1))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "timeout")
        assert response.headers["retry-after"]
        runtime.gate.set()
        assert service.detect(picture(1)).status_code == 200


def test_defect_is_a_500_in_the_same_shape_and_the_service_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    runtime = StandInRuntime()
    with Live([served(runtime)]) as service:
        runtime.error = RuntimeError("out of memory")
        response = service.detect(picture(1))
        assert (response.status_code, response.json()["error"]["code"]) == (500, "bug")
        assert "out of memory" not in response.text
        deadline = time.monotonic() + 5
        while "out of memory" not in caplog.text:  # the log is written behind the answer
            assert time.monotonic() < deadline
        runtime.error = None
        assert service.detect(picture(1)).status_code == 200


def test_drain_answers_what_it_has_accepted_and_ends_with_0(weights: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    flags = ("--model", f"shapes={weights}", "--model", str(weights), "--runtime", "torch", "--drain-s", "1", "--token-file", str(token))
    with pytest.raises(AssertionError, match="two models have one name"):
        Spawned(*flags)
    flags = ("--model", f"one={weights}", *flags[2:])
    with Spawned(*flags) as service:
        service.client.headers["Authorization"] = "Bearer 0123456789abcdef"
        assert [line.split(":")[0] for line in service.started] == ["model one", "model shapes", "serving on http"]
        assert "torch" in service.started[0] and "asked for" in service.started[0]
        statuses: list[int] = []
        closed = threading.Event()

        def ask() -> None:
            with httpx2.Client(base_url=service.url, headers=dict(service.client.headers), timeout=20) as session:
                while True:
                    try:
                        files = [("image", (f"{number}.jpg", picture(number))) for number in range(8)]
                        statuses.append(session.post("/api/detect", files=files).status_code)
                    except (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError) as error:
                        # between two requests a server may close; within one it may not
                        assert isinstance(error, httpx2.ConnectError) or session_was_idle(error), repr(error)
                        closed.set()
                        return

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        while len(statuses) < 5:
            time.sleep(0.01)
        service.process.terminate()
        time.sleep(0.2)
        assert service.client.get("/readyz").status_code == 503
        assert service.client.get("/healthz").status_code == 200
        before = len(statuses)
        assert service.process.wait(20) == 0
        for client in clients:
            client.join(20)
        assert closed.is_set() and len(statuses) > before and set(statuses) == {200}
        assert not any("jpg" in line for line in service.log)


def session_was_idle(error: Exception) -> bool:
    return "disconnected without sending" in str(error) or isinstance(error, httpx2.ReadError)
