"""How long a cell that was not run would take: a small model fitted to the cells that were, and its error on cells it has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import median

import numpy as np

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord
from yoloperf.report.columns import distinct, failed, label, place, telling, title
from yoloperf.report.evidence import LEAST, Measure, times
from yoloperf.report.fairness import condition, differing_on_a_platform

# one fit each: no coefficient carries over from one of these to another
_FIT = ("platform", "model", "engine", "dataset", "train_images", "img_size", "precision_mode", "accumulate")
# nor these, where runs of a platform are known to differ in them
_MACHINE = ("gpu_name", "cpu_name", "processes", "threads", "workers")


@dataclass(frozen=True)
class Cell:
    """What a prediction depends on. `images` are those of one epoch."""

    batch_size: int
    epochs: int
    images: int

    def terms(self) -> tuple[float, float, float]:
        """Runs, images and steps of the whole training: what the three coefficients of a Fit are multiplied with."""
        return 1.0, float(self.epochs * self.images), float(self.epochs * math.ceil(self.images / self.batch_size))


@dataclass(frozen=True)
class Fit:
    """Time = start_s + image_s * images trained on + step_s * steps, fitted to `count` runs.

    A term is None where the runs cannot tell it from the others: start_s needs two numbers of epochs, step_s two batch sizes.
    """

    heading: str
    measure: str
    count: int
    start_s: float | None
    image_s: float
    step_s: float | None
    batch_sizes: tuple[int, ...]
    epochs: tuple[int, ...]
    images: int

    def predict(self, cell: Cell) -> float:
        """Seconds of the whole run."""
        return sum(term * (factor or 0.0) for term, factor in zip(cell.terms(), (self.start_s, self.image_s, self.step_s), strict=True))

    def beyond(self, cell: Cell) -> str:
        """In what a cell lies outside the runs that were fitted; empty where it lies among them."""
        parts = []
        if not self.batch_sizes[0] <= cell.batch_size <= self.batch_sizes[-1]:
            parts.append("batch size")
        if not self.epochs[0] <= cell.epochs <= self.epochs[-1]:
            parts.append("epochs")
        if cell.images != self.images:
            parts.append("images")
        return ", ".join(parts)


@dataclass(frozen=True)
class Prediction:
    """A cell with the time predicted, that measured where there is one, and why to doubt it."""

    fit: Fit
    cell: Cell
    seconds: float
    measured: float | None = None

    @property
    def error(self) -> float | None:
        """(predicted - measured) / measured."""
        return None if self.measured is None else self.seconds / self.measured - 1


@dataclass(frozen=True)
class Group:
    """Runs that one fit may hold, with a heading that no other group of the same records has."""

    heading: str
    runs: list[RunRecord]


def groups(runs: Sequence[RunRecord]) -> list[Group]:
    """Those that have a batch size, epochs and a number of images. Raises UserError where no run has."""
    found: dict[tuple[object, ...], list[RunRecord]] = {}
    known = [run for run in runs if run.batch_size and None not in (run.epochs, run.train_images)]
    columns = (*_FIT, *differing_on_a_platform(known, _MACHINE))
    for run in known:
        found.setdefault(tuple(condition(run, name) for name in columns), []).append(run)
    if not found:
        raise UserError("nothing to predict from: no run has batch_size, epochs and train_images")
    names = telling(known, columns)
    return [Group(", ".join([place(part), *_rest(part[0], names)]), part) for part in found.values()]


def _rest(run: RunRecord, names: Sequence[str]) -> list[str]:
    """What a heading says beside platform, model and GPU; a bare number is said with its title."""
    known = [name for name in names if name not in ("platform", "model", "gpu_name") and getattr(run, name) is not None]
    bare = ("train_images", "processes", "threads", "workers")
    return [f"{title(name)} {getattr(run, name)}" if name in bare else label(run, [name]) for name in known]


def fit(group: Group, measure: Measure) -> Fit | None:
    """Least squares of the relative error with coefficients of at least 0 (Lawson and Hanson, "Solving Least Squares Problems", 1974).

    None where fewer than LEAST runs are finished.
    """
    from scipy.optimize import nnls  # half a second to import

    known = [(cell_of(run), seconds) for run in group.runs if not failed(run) and (seconds := measure.of(run))]
    sizes, lengths = ({getattr(cell, name) for cell, _ in known} for name in ("batch_size", "epochs"))
    terms = [len(lengths) > 1, True, len(sizes) > 1]
    if len(known) < LEAST:
        return None
    rows = np.array([cell.terms() for cell, _ in known]) / np.array([seconds for _, seconds in known])[:, None]
    found, _ = nnls(rows[:, terms], np.ones(len(known)))
    values = iter(found.tolist())
    start, image, step = (next(values) if term else None for term in terms)
    return Fit(
        heading=group.heading,
        measure=measure.title,
        count=len(known),
        start_s=start,
        image_s=image or 0.0,
        step_s=step,
        batch_sizes=tuple(sorted(sizes)),
        epochs=tuple(sorted(lengths)),
        images=known[0][0].images,
    )


def cell_of(run: RunRecord) -> Cell:
    assert run.batch_size is not None and run.epochs is not None and run.train_images is not None
    return Cell(run.batch_size, run.epochs, run.train_images)


def held_out(runs: Sequence[RunRecord], column: str = "epochs") -> list[Prediction]:
    """Fit without the finished runs that have the largest value of a column, then predict them."""
    measure = times(runs)[0]
    found = []
    for group in groups(runs):
        finished = [(run, seconds) for run in group.runs if not failed(run) and (seconds := measure.of(run))]
        largest = max((getattr(run, column) for run, _ in finished), default=None)
        model = fit(replace(group, runs=[run for run, _ in finished if getattr(run, column) != largest]), measure)
        for run, seconds in finished:
            if model and getattr(run, column) == largest:
                found.append(Prediction(model, cell_of(run), model.predict(cell_of(run)), seconds))
    return found


def median_error(predictions: Sequence[Prediction]) -> float | None:
    """Median of the relative errors without their signs."""
    errors = [abs(item.error) for item in predictions if item.error is not None]
    return median(errors) if errors else None


def gaps(runs: Sequence[RunRecord]) -> list[Prediction]:
    """Predictions for the cells of the grid, batch sizes x epochs, of which no run is finished."""
    measure = times(runs)[0]
    found = []
    for group in groups(runs):
        model = fit(group, measure)
        done = {cell_of(run) for run in group.runs if not failed(run) and measure.of(run)}
        for size, length in product(distinct(group.runs, "batch_size"), distinct(group.runs, "epochs")):
            cell = Cell(size, length, cell_of(group.runs[0]).images)
            if model and cell not in done:
                found.append(Prediction(model, cell, model.predict(cell)))
    return found


def elsewhere(runs: Sequence[RunRecord], batch_size: int, epochs: int, images: int | None) -> list[Prediction]:
    """The same cell on every platform and model; `images` None stands for as many as the runs had."""
    found = []
    for model in fits(runs):
        cell = Cell(batch_size, epochs, images or model.images)
        found.append(Prediction(model, cell, model.predict(cell)))
    return found


def fits(runs: Sequence[RunRecord]) -> list[Fit]:
    """A fit for every platform and model that has runs enough."""
    measure = times(runs)[0]
    return [model for group in groups(runs) if (model := fit(group, measure))]
