import os
from pathlib import Path

import pytest


def missing(reason: str) -> None:
    """Skip because a component is missing; under YOLOPERF_STRICT=1, where everything must be there, fail."""
    if os.environ.get("YOLOPERF_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def real_data() -> Path:
    """Folder of the real data sets (bccd/, coco128/)."""
    folder = os.environ.get("YOLOPERF_DATA")
    if not folder:
        missing("no real data: set YOLOPERF_DATA to a folder with bccd/ and coco128/ (`yoloperf data fetch bccd` makes the first)")
    return Path(folder).resolve()
