"""What the 2020 study concluded from its 64 runs, put to any records that can answer it."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import distinct, label, title
from yoloperf.report.evidence import Case, Facet, Finding, Measure, case, cells, middle, names, quality, times

SAME_QUALITY = 0.05  # our reading of "nearly the same": within five points
STEADY = 3  # fewer values have no spread worth the name


def study_findings(runs: Sequence[RunRecord]) -> list[Finding]:
    """The study's inferences, each with the verdict of these records."""
    return [
        tiny_is_faster(runs),
        objectness_at_32(runs),
        bare_metal_is_steadier(runs),
        cloud_is_faster(runs),
        cloud_uses_more_cpu(runs),
        tiny_is_as_good(runs),
    ]


def tiny_is_faster(runs: Sequence[RunRecord]) -> Finding:
    """Tiny against full, at the same platform, batch size and epochs."""
    facets = []
    for measure in times(runs):
        cases: list[Case] = []
        for where, models in cells(runs, ("platform", "batch_size", "epochs"), "model"):
            tiny, full = _tiny_and_full(models)
            cases += case(where, tiny, full, measure, smaller=True)
        facets.append(Facet(measure.title, cases))
    return Finding("tiny-faster", "Tiny-YOLOv3 trains faster than YOLOv3, whatever the platform", facets)


def objectness_at_32(runs: Sequence[RunRecord]) -> Finding:
    """Whether batch size 32 has the largest objectness at every number of epochs."""
    measure = Measure(title("obj_loss"), lambda run: run.obj_loss)
    cases = []
    for where, sizes in cells(runs, ("platform", "model", "epochs"), "batch_size"):
        values = {size: value for size, part in sizes.items() if (value := middle(part, measure)) is not None}
        if 32 in values and len(values) > 1:
            rest = max(value for size, value in values.items() if size != 32)
            cases.append(Case(where, values[32] > rest, names(*sizes.values()), values[32] / rest if rest else None))
    claim = "Both models reach the higher objectness at batch size 32, whatever the epochs"
    return Finding("objectness-32", claim, [Facet(measure.title, cases)], "objectness is a loss: the higher one is the worse one")


def bare_metal_is_steadier(runs: Sequence[RunRecord]) -> Finding:
    """Spread over the epochs, (greatest - least) / median, at the same model and batch size."""
    facets = []
    for column in ("cpu_percent", "biggest_kernel_avg_s", "max_rss_bytes"):
        cases = []
        for where, metal, cloud in _metal_and_cloud(runs, ("model", "batch_size")):
            one, two = _spreads(metal, cloud, Measure(column, lambda run, column=column: getattr(run, column)))  # type: ignore[misc]
            if one is not None and two is not None:
                cases.append(Case(where, one < two, names(metal, cloud)))
        facets.append(Facet(f"spread of {title(column)} over the epochs", cases))
    claim = "Bare metal is steadier than the cloud for a given batch size"
    return Finding("metal-steadier", claim, facets, _no_platforms(runs))


def cloud_is_faster(runs: Sequence[RunRecord]) -> Finding:
    """Cloud against bare metal, at the same model, batch size and epochs."""
    note = _no_platforms(runs)
    arithmetic = distinct([run for run in runs if run.platform and _side(run.platform) is not None], "precision_mode")
    if not note and len(arithmetic) > 1:
        note = f"not all in the same arithmetic: {', '.join(arithmetic)}"
    kernels = {run.biggest_kernel_name for run in runs if run.biggest_kernel_name}
    if not note and len(kernels) > 1:
        note = "the biggest kernels are different kernels, so their times compare nothing"
    facets = [Facet(measure.title, _cloud_cases(runs, measure, smaller=True)) for measure in times(runs)]
    return Finding("cloud-faster", "The cloud GPU is faster than the bare metal one", facets, note)


def cloud_uses_more_cpu(runs: Sequence[RunRecord]) -> Finding:
    """CPU share of the cloud against bare metal, at the same model, batch size and epochs."""
    measure = Measure("CPU share", lambda run: run.cpu_percent)
    facets = [Facet(measure.title, _cloud_cases(runs, measure, smaller=False))]
    return Finding("cloud-cpu", "The cloud uses more CPU than bare metal", facets, _no_platforms(runs))


def tiny_is_as_good(runs: Sequence[RunRecord]) -> Finding:
    """How far YOLOv3 is ahead in quality after the most epochs that both finished, at the same platform and batch size."""
    measure = quality(runs)
    cases, gaps, lengths = [], [], set()
    for where, models in cells(runs, ("platform", "batch_size"), "model"):
        tiny, full = _tiny_and_full(models)
        small, large = _by_epochs(tiny, measure), _by_epochs(full, measure)
        most = max(small.keys() & large.keys(), default=None)
        if most is not None:
            lengths.add(most)
            gaps.append(large[most] - small[most])
            held, after = names([run for run in (*tiny, *full) if run.epochs == most]), label(RunRecord(epochs=most), ["epochs"])
            ratio = small[most] / large[most] if large[most] else None
            cases.append(Case(f"{where}, {after}", gaps[-1] <= SAME_QUALITY, held, ratio))
    note = f"YOLOv3 is ahead by {min(gaps):.3f} to {max(gaps):.3f}" if gaps else ""
    only = after if len(lengths) == 1 else "the most epochs that both finished"
    claim = f"Tiny-YOLOv3 reaches nearly the quality of YOLOv3 (within {SAME_QUALITY} after {only})"
    return Finding("tiny-as-good", claim, [Facet(measure.title, cases)], note)


def _cloud_cases(runs: Sequence[RunRecord], measure: Measure, smaller: bool) -> list[Case]:
    pairs = _metal_and_cloud(runs, ("model", "batch_size", "epochs"))
    return [each for where, metal, cloud in pairs for each in case(where, cloud, metal, measure, smaller)]


def _tiny_and_full(models: dict[str, list[RunRecord]]) -> tuple[list[RunRecord], list[RunRecord]]:
    return _named(models, "yolov3-tiny"), _named(models, "yolov3")


def _named(parts: dict[str, list[RunRecord]], *words: str) -> list[RunRecord]:
    return [run for name, runs in parts.items() if name in words for run in runs]


def _metal_and_cloud(runs: Sequence[RunRecord], fixed: Sequence[str]) -> Iterator[tuple[str, list[RunRecord], list[RunRecord]]]:
    """Every bare metal platform with every cloud, cell by cell; they are named where there are several."""
    every = list(cells(runs, fixed, "platform"))
    several = len({name for _, platforms in every for name in platforms if _side(name) is not None}) > 2
    for where, platforms in every:
        metals, clouds = ([name for name in platforms if _side(name) == side] for side in (0, 1))
        for metal, cloud in itertools.product(metals, clouds):
            yield f"{where}, {metal} and {cloud}" if several else where, platforms[metal], platforms[cloud]


def _side(platform: str) -> int | None:
    """0 for a platform that is named as bare metal, 1 for one that is named as a cloud, None for any other."""
    word = platform.lower().replace("-", "").replace("_", "").replace(" ", "")
    return 0 if "baremetal" in word else 1 if "cloud" in word or "colab" in word else None


def _no_platforms(runs: Sequence[RunRecord]) -> str:
    sides = {_side(run.platform) for run in runs if run.platform}
    return "" if {0, 1} <= sides else "needs runs of a platform named cloud... and of one named bare_metal..."


def _spreads(first: Sequence[RunRecord], second: Sequence[RunRecord], measure: Measure) -> tuple[float | None, float | None]:
    """Of both over the epochs of which both have a finished run, repeats reduced to their median: more of them would spread more."""
    one, two = (_by_epochs(part, measure) for part in (first, second))
    both = one.keys() & two.keys()
    return _spread([one[length] for length in both]), _spread([two[length] for length in both])


def _by_epochs(runs: Sequence[RunRecord], measure: Measure) -> dict[int, float]:
    """Median over the finished repeats, by the number of epochs."""
    lengths: dict[int, list[RunRecord]] = defaultdict(list)
    for run in runs:
        if run.epochs is not None:
            lengths[run.epochs].append(run)
    return {length: value for length, part in lengths.items() if (value := middle(part, measure)) is not None}


def _spread(values: Sequence[float]) -> float | None:
    centre = median(values) if len(values) >= STEADY else None
    return (max(values) - min(values)) / centre if centre else None
