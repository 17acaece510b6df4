"""What the 2020 study concluded from its 64 runs, put to any records that can answer it."""

import itertools
from collections.abc import Iterator, Sequence

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import distinct, failed, label, title
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
            both = {run.epochs for run in metal} & {run.epochs for run in cloud}
            one, two = (_spread([run for run in part if run.epochs in both], column) for part in (metal, cloud))
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
    """Difference in quality after the most epochs that were run, at the same platform and batch size."""
    measure = quality(runs)
    most = max((run.epochs for run in runs if run.epochs is not None), default=None)
    cases, gaps = [], []
    for where, models in cells([run for run in runs if run.epochs == most], ("platform", "batch_size"), "model"):
        tiny, full = _tiny_and_full(models)
        small, large = middle(tiny, measure), middle(full, measure)
        if small is not None and large is not None:
            gaps.append(large - small)
            cases.append(Case(where, abs(large - small) <= SAME_QUALITY, names(tiny, full), small / large if large else None))
    note = f"YOLOv3 is ahead by {min(gaps):.3f} to {max(gaps):.3f}" if gaps else ""
    epochs = "as many epochs" if most is None else label(RunRecord(epochs=most), ["epochs"])
    claim = f"Tiny-YOLOv3 reaches nearly the quality of YOLOv3 (within {SAME_QUALITY} after {epochs})"
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


def _spread(runs: Sequence[RunRecord], column: str) -> float | None:
    measure = Measure(column, lambda run: getattr(run, column))
    values = [getattr(run, column) for run in runs if not failed(run) and getattr(run, column) is not None]
    centre = middle(runs, measure)
    return (max(values) - min(values)) / centre if len(values) >= STEADY and centre else None
