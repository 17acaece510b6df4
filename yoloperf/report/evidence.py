"""What a claim about runs rests on: measures, the cells in which they were compared, and the verdict that follows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import failed, fullest, label, varying
from yoloperf.report.fairness import IMPLIED, condition, differing_on_a_platform

SUPPORTED, CONTRADICTED, MIXED, NOT_TESTABLE = "supported", "contradicted", "mixed", "not testable"
LEAST = 3  # fewer cases are an anecdote
ALIKE = ("engine", "dataset", "img_size", "accumulate", "lr_scale")  # no claim is about these, so they must be equal
# nor about these, which every platform chooses or records in its own way: equal on one platform
_ALIKE_ON_A_PLATFORM = ("precision_mode", "dataset_hash", "weights", "hyp")
# nor about these, as far as they are known
_MACHINE = ("gpu_name", "cpu_name", "threads", "workers", "processes")


@dataclass(frozen=True)
class Measure:
    """A number that a run gives, from its columns or derived from them."""

    title: str
    of: Callable[[RunRecord], float | None]


def times(runs: Sequence[RunRecord]) -> list[Measure]:
    """How long a run took: the wall time, or, where more runs have that, what GNU time's two other figures say about it.

    CPU share is (user + system) / wall, so user time / CPU share is a lower bound of the wall time.
    """
    if fullest(runs, ("wall_s", "user_s")) == ["wall_s"]:
        return [Measure("wall time", lambda run: run.wall_s)]
    return [
        Measure("user time", lambda run: run.user_s),
        Measure("user time / CPU share (the least that the wall time can be)", _least_wall),
    ]


def _least_wall(run: RunRecord) -> float | None:
    return run.user_s / run.cpu_percent * 100 if run.user_s is not None and run.cpu_percent else None


def quality(runs: Sequence[RunRecord]) -> Measure:
    """How good the detector is: mAP@0.5, or, where more runs have that, F1, the harmonic mean of precision and recall."""
    if fullest(runs, ("map50", "recall")) == ["map50"]:
        return Measure("mAP@0.5", lambda run: run.map50)
    return Measure("F1 of precision and recall", _f1)


def _f1(run: RunRecord) -> float | None:
    if run.precision is None or run.recall is None:
        return None
    both = run.precision + run.recall
    return 2 * run.precision * run.recall / both if both else 0.0


@dataclass(frozen=True)
class Case:
    """One comparison: where it was made, of which runs, and whether it bears the claim out."""

    where: str
    holds: bool
    runs: tuple[str, ...]
    ratio: float | None = None


@dataclass(frozen=True)
class Facet:
    """All cases of a claim by one measure."""

    measure: str
    cases: list[Case]

    @property
    def held(self) -> int:
        return sum(case.holds for case in self.cases)

    @property
    def verdict(self) -> str:
        """Supported by every case, contradicted where no more than half bear it out, mixed between."""
        if len(self.cases) < LEAST:
            return NOT_TESTABLE
        if self.held == len(self.cases):
            return SUPPORTED
        return CONTRADICTED if 2 * self.held <= len(self.cases) else MIXED

    @property
    def median_ratio(self) -> float | None:
        ratios = [case.ratio for case in self.cases if case.ratio is not None]
        return median(ratios) if ratios else None

    def sentence(self) -> str:
        if not self.cases:
            return f"{self.measure}: nothing to compare"
        text = f"{self.measure}: in {self.held} of {len(self.cases)}"
        text = text if self.median_ratio is None else f"{text}, median ratio {self.median_ratio:.2f}"
        return text if len(self.cases) >= LEAST else f"{text} (too few to tell)"


@dataclass(frozen=True)
class Finding:
    """A claim, the verdict of the records on it, and what that rests on. `note` says what a reader must know, or what is missing."""

    name: str
    claim: str
    facets: list[Facet] = field(default_factory=list)
    note: str = ""

    @property
    def verdict(self) -> str:
        """That of its facets where they agree, mixed where they do not; one that cannot be tested has no say."""
        verdicts = {facet.verdict for facet in self.facets} - {NOT_TESTABLE}
        if not verdicts:
            return NOT_TESTABLE
        return verdicts.pop() if len(verdicts) == 1 else MIXED

    def sentence(self) -> str:
        parts = [facet.sentence() for facet in self.facets]
        return "; ".join(part for part in (*parts, self.note) if part)

    def against(self) -> list[str]:
        """The cases that do not bear it out, where they are the fewer."""
        return [case.where for facet in self.facets if 2 * facet.held > len(facet.cases) for case in facet.cases if not case.holds]


def middle(runs: Iterable[RunRecord], measure: Measure) -> float | None:
    """Median of a measure over repeats, failed runs left out."""
    values = [value for run in runs if not failed(run) and (value := measure.of(run)) is not None]
    return median(values) if values else None


def cells(runs: Sequence[RunRecord], fixed: Sequence[str], by: str) -> Iterator[tuple[str, dict[Any, list[RunRecord]]]]:
    """Runs that are alike in `fixed` and in whatever no claim is about, by the values of `by`; each such group with its name.

    A platform that has several devices is as many platforms.
    """
    found: dict[tuple[Any, ...], dict[Any, list[RunRecord]]] = {}
    alike, machine = list(ALIKE), []
    if by != "platform":
        alike += [name for name in _ALIKE_ON_A_PLATFORM if name not in IMPLIED.get(by, ())]
        machine = [name for name in differing_on_a_platform(runs, _MACHINE) if name != by]
    level = _places(runs) if by == "platform" else lambda run: getattr(run, by)
    for run in runs:
        if level(run) is not None:
            key = (*(getattr(run, name) for name in (*fixed, *alike)), *(condition(run, name) for name in machine))
            found.setdefault(key, {}).setdefault(level(run), []).append(run)
    more = (*varying(runs, alike), *machine)
    for parts in found.values():
        yield label(next(iter(parts.values()))[0], (*fixed, *more)), parts


def _places(runs: Sequence[RunRecord]) -> Callable[[RunRecord], str | None]:
    """The name of a run's platform, with that of the device where the platform has several."""
    devices: dict[str | None, set[str]] = defaultdict(set)
    for run in runs:
        if (name := run.gpu_name or run.cpu_name) and not failed(run):
            devices[run.platform].add(name)

    def place(run: RunRecord) -> str | None:
        device = run.gpu_name or run.cpu_name
        return f"{run.platform} ({device})" if run.platform and device and len(devices[run.platform]) > 1 else run.platform

    return place


def case(where: str, first: Sequence[RunRecord], second: Sequence[RunRecord], measure: Measure, smaller: bool) -> Iterator[Case]:
    """The case that `first` has the smaller (or the larger) value of the two; nothing where one of them has none."""
    one, two = middle(first, measure), middle(second, measure)
    if one is not None and two is not None:
        yield Case(where, one < two if smaller else one > two, names(first, second), one / two if two else None)


def names(*groups: Sequence[RunRecord]) -> tuple[str, ...]:
    return tuple(str(run.run_id) for runs in groups for run in runs)
