"""Helpers of the parsing tests: read text or golden files, find the real samples."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from yoloperf.parsing.parse import ParseResult, parse_paths

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., ParseResult]:
    """Write a log and read it."""

    def read_text(content: str | bytes, name: str = "a.log") -> ParseResult:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return parse_paths([path])

    return read_text


@pytest.fixture(scope="session")
def samples() -> Path:
    """Logs that others made, as many as there are: YOLOPERF_SAMPLES, or samples/ beside YOLOPERF_DATA."""
    given, data = os.environ.get("YOLOPERF_SAMPLES"), os.environ.get("YOLOPERF_DATA")
    folder = Path(given) if given else Path(data).parent / "samples" if data else None
    if folder is None or not folder.is_dir():
        pytest.skip("no real logs: set YOLOPERF_SAMPLES to a folder of them")
    return folder
