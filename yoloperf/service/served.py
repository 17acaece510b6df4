"""What the service asks of a model, whatever its kind, and how it comes from a file of weights."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yoloperf.service.limits import Limits, check_image
from yoloperf.service.model import ServedModel
from yoloperf.service.refusal import Refused
from yoloperf.workloads.kinds import DETECTION, kind_of, load
from yoloperf.workloads.workload import Label, Unusable, Workload, best
from yoloperf.yolo.weights import find_weights

DETECT, PREDICT = "/api/detect", "/api/predict"


class Computing(Protocol):
    """What computes the predictions, and in which precision."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...


class Served(Protocol):
    """A model with the four steps from a file to its result. Files are decoded, prepared and finished in any thread, `infer` is called
    by as many at a time as the model has streams.

    names: of the classes; digest: of architecture and weights; img_size: side of the network's input, None where it takes no images.
    """

    name: str
    names: list[str]
    digest: str

    @property
    def kind(self) -> str: ...

    @property
    def runtime(self) -> Computing: ...

    @property
    def img_size(self) -> int | None: ...

    @property
    def streams(self) -> int: ...

    def warm_up(self, batch: int) -> None:
        """Infer a batch of one and one of that size."""

    def decode(self, data: bytes, limits: Limits, name: str) -> Any:
        """What the file of that name holds. Raises Refused."""

    def prepare(self, decoded: Any) -> tuple[Any, Any]:
        """The network's input, and what `finish` must know of the file."""

    def infer(self, inputs: list[Any]) -> NDArray[np.float32]:
        """Inputs of a batch -> the network's outputs, [B, ...]."""

    def finish(self, raw: NDArray[np.float32], placed: Any, options: Any) -> Any:
        """One file's output -> what its request wants to know."""


class ServedWorkload:
    """A Workload as a Served; its requests' option is how many labels they want."""

    streams = 1

    def __init__(self, name: str, workload: Workload) -> None:
        self.name, self.workload = name, workload
        self.kind, self.names, self.digest = workload.kind, workload.names, workload.digest
        self.runtime, self.img_size, self.warm_up = workload.runtime, workload.img_size, workload.warm_up

    def decode(self, data: bytes, limits: Limits, name: str) -> Any:
        if self.img_size:
            check_image(data, limits, name)
        elif len(data) > limits.sound_bytes:
            raise Refused(413, "sound-too-large", f"a sound may have {limits.sound_bytes / 1e6:g} MB: send a shorter one", name)
        try:
            return self.workload.decode(data)
        except Unusable as error:
            what = "image" if self.img_size else "sound"
            code = f"{what}-too-large" if error.too_large else f"not-{'an' if self.img_size else 'a'}-{what}"
            raise Refused(413 if error.too_large else 422, code, str(error), name) from error

    def prepare(self, decoded: Any) -> tuple[NDArray[np.float32], None]:
        return self.workload.prepare(decoded), None

    def infer(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return self.workload.infer(inputs)

    def finish(self, raw: NDArray[np.float32], placed: None, options: int) -> list[Label]:
        return best(raw, self.names, options)


def load_model(
    name: str,
    weights: str,
    runtime: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    streams: int = 1,
) -> Served:
    """weights: a path or a known name, of any kind; runtime, precision and streams are those of a detector, other kinds run in PyTorch
    in fp32, one batch at a time.

    Raises UserError where they, the runtime, device or precision cannot be had.
    """
    path = find_weights(weights)
    if kind_of(path) == DETECTION:
        return ServedModel.load(name, str(path), runtime, device, threads, precision, streams)
    return ServedWorkload(name, load(path, device, threads))


def route_of(model: Served) -> str:
    """The route that answers with this model."""
    return DETECT if model.kind == DETECTION else PREDICT
