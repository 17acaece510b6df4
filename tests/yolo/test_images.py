import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.yolo.images import PAD, letterbox

sides = st.integers(20, 300)


@given(sides, sides, st.sampled_from((64, 96, 416)))
def test_undone_letterbox_gives_the_image_back(width: int, height: int, size: int) -> None:
    """The corners of what is not padding are those of the image, to the pixel that scaling may round away."""
    square, placed = letterbox(np.zeros((height, width, 3), np.uint8), size)
    rows, columns = (np.flatnonzero((square != PAD).any((axis, 2))) for axis in (1, 0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, 0.5, 7]], np.float32)
    back = placed.undo(found, width, height)[0]
    assert back.tolist() == pytest.approx([0, 0, width, height, 0.5, 7], abs=max(width, height) / size + 1e-3)


def test_undone_boxes_are_clipped_to_the_image() -> None:
    _, placed = letterbox(np.zeros((50, 100, 3), np.uint8), 64)
    assert placed.undo(np.array([[-8, 0, 72, 32]], np.float32), 100, 50).tolist() == [[0, 0, 100, 25]]
