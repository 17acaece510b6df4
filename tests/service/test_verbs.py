import gc
import socket
import sys
from collections.abc import Iterator

import pytest

from yoloperf.cli import main


@pytest.fixture
def collector() -> Iterator[None]:
    """As it was, afterwards."""
    interval = sys.getswitchinterval()
    yield
    gc.unfreeze()
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("flag", "values", "least"),
    [
        ("--max-image-mb", ("nan", "inf", "1e308", "0"), 1),
        ("--max-pixels", ("nan", "inf", "1e30"), 1),
        ("--max-request-mb", ("nan", "inf"), 1),
        ("--streams", ("0",), 1),
        ("--max-wait-ms", ("nan", "inf", "-1"), 0),
        ("--drain-s", ("nan", "inf", "-1"), 0),
    ],
)
def test_limits_that_are_none(flag: str, values: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]) -> None:
    for value in values:
        assert main(["serve", "--model", "nowhere.pt", flag, value]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{flag} must be from {least} to 1000000000, not" in line


@pytest.mark.usefixtures("collector")
def test_what_was_loaded_is_no_matter_for_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr("yoloperf.service.served.load_model", lambda *how: None)
    monkeypatch.setattr("yoloperf.service.app.create_app", lambda settings, models: None)

    def serve(app: object, settings: object, bound: socket.socket, say: object) -> None:
        counts.append(gc.get_freeze_count())
        bound.close()

    monkeypatch.setattr("yoloperf.service.server.serve", serve)
    assert main(["serve", "--model", "best.pt", "--port", "0"]) == 0
    assert counts[0] > 10_000
