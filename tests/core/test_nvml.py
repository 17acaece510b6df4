import pytest

from yoloperf.core.nvml import visible

LIKE, UNLIKE = ["T4", "T4", "T4"], ["T4", "P40", "T4"]
UUIDS = ["GPU-aa1", "GPU-ab2", "GPU-ac3"]


@pytest.mark.parametrize(
    ("value", "order", "kinds", "expected"),
    [
        (None, None, LIKE, [0, 1, 2]),
        ("2,0", None, LIKE, [2, 0]),
        ("2,-1,0", None, LIKE, [2]),  # nothing counts behind an entry that is no device
        ("", None, LIKE, []),
        ("7", None, LIKE, []),
        ("GPU-ab", None, UNLIKE, [1]),
        ("GPU-a", None, LIKE, []),  # means three
        (None, None, UNLIKE, [None, None, None]),
        ("1", "FASTEST_FIRST", UNLIKE, [None]),
        ("1", "PCI_BUS_ID", UNLIKE, [1]),
        ("MIG-77, GPU-ac3", None, UNLIKE, ["MIG-77", 2]),
    ],
)
def test_devices_in_the_order_of_cuda(value: str | None, order: str | None, kinds: list[str], expected: list[int | str | None]) -> None:
    assert visible(value, order, kinds, UUIDS) == expected
