"""What the service and the offload study need of a plug-in: any kind of work that turns a file into labels.

A kind is a module with a class that has `load`, and its line in `kinds.py`. Nothing else knows of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError


class Unusable(UserError):
    """A file that cannot be worked on. too_large: because of its size, not because of what it is."""

    def __init__(self, message: str, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


class Label(NamedTuple):
    """label: number of the class; score: its probability."""

    label: int
    name: str
    score: float


@dataclass(frozen=True)
class Computes:
    """What computes a network, and in which precision."""

    name: str = "torch"
    precision: str = "fp32"


class Workload(Protocol):
    """A trained classifier. Files are decoded and prepared by many threads at a time, `infer` is called by one.

    names: of the classes; digest: of architecture and weights; img_size: side of the network's input, None where it takes no images.
    """

    kind: ClassVar[str]
    img_size: ClassVar[int | None]
    names: list[str]
    digest: str
    runtime: Computes

    def warm_up(self, batch: int) -> None:
        """Infer a batch of one and one of that size."""

    def prepare(self, decoded: Any) -> NDArray[np.float32]:
        """The network's input from what the file held: pixels, or samples of sound."""

    def decode(self, data: bytes) -> Any:
        """What the file holds. Raises Unusable."""

    def infer(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Inputs of a batch -> probabilities [B, C]."""


def best(probabilities: NDArray[np.float32], names: Sequence[str], top: int) -> list[Label]:
    """The most probable classes of one item, probabilities [C], best first."""
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    return [Label(place, names[place], float(probabilities[place])) for place in order]


def predict(model: Workload, batch: Sequence[bytes], top: int = 5) -> list[list[Label]]:
    """Labels of several files' contents. Raises Unusable."""
    if not batch:
        return []
    probabilities = model.infer([model.prepare(model.decode(data)) for data in batch])
    return [best(own, model.names, top) for own in probabilities]


@dataclass(frozen=True)
class Score:
    """How good labels are. accuracy: share whose best label is the true one; top5: that have it among the five best;
    per_class: class -> the same share of its own items (None where it has none); confusion [true][labelled]: items."""

    items: int
    accuracy: float
    top5: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]


def score(labels: Sequence[Sequence[int]], truth: Sequence[int], names: Sequence[str]) -> Score:
    """labels: of each item its classes, best first; truth: its true class. Raises UserError where there is nothing to score."""
    if not labels or len(labels) != len(truth):
        raise UserError(f"{len(labels)} answers and {len(truth)} true labels: there must be as many of both, and at least one")
    confusion = np.zeros((len(names), len(names)), int)
    for own, true in zip(labels, truth, strict=True):
        confusion[true, own[0]] += 1
    totals = confusion.sum(1).tolist()
    right = confusion.diagonal().tolist()
    return Score(
        items=len(truth),
        accuracy=sum(right) / len(truth),
        top5=sum(true in own[:5] for own, true in zip(labels, truth, strict=True)) / len(truth),
        per_class={name: hits / total if total else None for name, hits, total in zip(names, right, totals, strict=True)},
        confusion=confusion.tolist(),
    )
