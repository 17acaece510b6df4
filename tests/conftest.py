import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup

CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def missing(reason: str) -> None:
    """Skip because a component is missing; under YOLOPERF_STRICT=1, where everything must be there, fail."""
    if os.environ.get("YOLOPERF_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """A detector of this process has them flushed, which hypothesis minds in every later test."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets (bccd/, coco128/)."""
    folder = os.environ.get("YOLOPERF_DATA")
    if not folder:
        missing("no real data: set YOLOPERF_DATA to a folder with bccd/ and coco128/ (`yoloperf data fetch bccd` makes the first)")
    return Path(folder).resolve()


@pytest.fixture
def official_weights() -> Path:
    """The published yolov3-tiny.weights."""
    from yoloperf.core.errors import UserError
    from yoloperf.yolo.weights import find_weights  # here: rooms without torch are tested without it

    try:
        return find_weights("yolov3-tiny.weights")
    except UserError:
        missing("no yolov3-tiny.weights: `yoloperf data fetch yolov3-tiny.weights`, or put them into weights/ beside YOLOPERF_DATA")
        raise


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium without a window, with a camera that shows a test picture."""
    if not CHROMIUM.exists():
        missing("no browser for the tests of pages: apt-get install -y chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS, *_CAMERA])
        yield made
        made.close()
