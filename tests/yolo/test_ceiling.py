from collections.abc import Callable
from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.yolo import ceiling


def test_a_batch_larger_than_the_data_set_is_refused(make_dataset: Callable[..., Path]) -> None:
    """There would be no full batch to measure, however long one waits."""
    with pytest.raises(UserError, match="shapes has 8 training images, fewer than a batch of 9: choose a smaller --batch"):
        ceiling.measure("yolov3-tiny", str(make_dataset()), 9, 64, "fp32", "cpu", 1, 1, 1)
