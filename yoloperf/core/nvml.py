"""NVML, NVIDIA's management library, through nvidia-ml-py: opened where it is there, and asked which device a run means."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Unavailable(Exception):
    """NVML cannot be used here; the message says why."""


@contextmanager
def opened() -> Iterator[Any]:
    """The binding, initialised for the length of the block. Raises Unavailable, also for an error of NVML that the block lets out."""
    try:
        import pynvml
    except ImportError:
        raise Unavailable("nvidia-ml-py is not installed") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML: {error}") from None
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML: {error}") from None
    finally:
        pynvml.nvmlShutdown()


def visible(value: str | None, order: str | None, kinds: Sequence[Hashable], uuids: Sequence[str]) -> list[int | str | None]:
    """The devices that CUDA would show, in its order: NVML's index, or the UUID of a MIG device.

    value, order: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER; kinds, uuids: what NVML's devices are, by index. CUDA numbers
    devices by speed and NVML by bus, so among unlike devices an index says nothing unless the order is that of the bus: None.
    """
    certain = len(set(kinds)) <= 1 or order == "PCI_BUS_ID"
    if value is None:
        return [index if certain else None for index in range(len(kinds))]
    found: list[int | str | None] = []
    for word in map(str.strip, value.split(",")):
        if word.startswith("MIG-"):
            found.append(word)
        elif word.isdigit() and int(word) < len(kinds):
            found.append(int(word) if certain else None)
        else:
            named = [index for index, uuid in enumerate(uuids) if word.startswith("GPU-") and uuid.startswith(word)]
            if len(named) != 1:
                break  # as CUDA does: what follows an entry that is no device, such as -1, is not visible
            found += named
    return found


def text(value: str | bytes) -> str:
    """A string of NVML: old bindings hand out bytes."""
    return value.decode() if isinstance(value, bytes) else value
