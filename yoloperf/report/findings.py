"""What any set of runs says about batch size, epochs, loading and memory; the 2020 study's own inferences come first."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import RUN_COLUMNS, distinct, failed, label, present, title
from yoloperf.report.evidence import Case, Facet, Finding, Measure, cells, middle, names, quality, times
from yoloperf.report.findings_2020 import study_findings
from yoloperf.report.findings_cost import cost_findings

ENOUGH = 0.9  # of the best quality of a platform and model: what "trained" means here
PAYS = 0.01  # a gain in quality that is worth more epochs
WAITS = 0.1  # part of a step spent waiting for images that holds training up
BUSY = 50.0  # NVML's utilisation in per cent, mean over the whole command, start-up included, of a GPU that never waits for launches

Pick = Callable[[Iterable[Any]], Any]  # min or max


def findings(runs: Sequence[RunRecord]) -> list[Finding]:
    """Every claim that we know to put to records, each with the verdict of these."""
    return [
        *study_findings(runs),
        largest_batch_is_fastest(runs),
        smallest_batch_needs_least_memory(runs),
        smallest_batch_is_best(runs),
        smallest_batch_is_there_first(runs),
        more_epochs_pay(runs),
        loading_keeps_up(runs),
        arithmetic_bounds(runs),
        everything_fits(runs),
        *cost_findings(runs),
    ]


def _extreme_wins(runs: Sequence[RunRecord], measure: Measure, extreme: Pick, goal: Pick) -> Facet:
    """Whether the extreme batch size alone has the best value, at the same platform, model and epochs. Equal values say nothing."""
    cases = []
    for where, sizes in cells(runs, ("platform", "model", "epochs"), "batch_size"):
        values = {size: value for size, part in sizes.items() if (value := middle(part, measure)) is not None}
        if len(set(values.values())) > 1:
            own = values.pop(extreme(values))
            rest = goal(values.values())
            cases.append(Case(where, own != rest and goal((own, rest)) == own, names(*sizes.values()), own / rest if rest else None))
    return Facet(measure.title, cases)


def largest_batch_is_fastest(runs: Sequence[RunRecord]) -> Finding:
    """By throughput where it is known, and by time."""
    facets = [_extreme_wins(runs, measure, max, min) for measure in times(runs)]
    if present(runs, ("images_per_s",)):
        facets.insert(0, _extreme_wins(runs, Measure(title("images_per_s"), lambda run: run.images_per_s), max, max))
    return Finding("batch-fastest", "The largest batch size trains fastest", facets)


def smallest_batch_needs_least_memory(runs: Sequence[RunRecord]) -> Finding:
    """Of the GPU and of the process."""
    columns = present(runs, ("gpu_mem_peak_bytes", "max_rss_bytes"))
    facets = [_extreme_wins(runs, Measure(title(name), lambda run, name=name: getattr(run, name)), min, min) for name in columns]  # type: ignore[misc]
    return Finding("batch-memory", "The smallest batch size needs the least memory", facets)


def smallest_batch_is_best(runs: Sequence[RunRecord]) -> Finding:
    """Quality after equal epochs; more steps an epoch are what a small batch size has."""
    claim = "The smallest batch size reaches the best quality in equal epochs"
    return Finding("batch-quality", claim, [_extreme_wins(runs, quality(runs), min, max)])


def smallest_batch_is_there_first(runs: Sequence[RunRecord]) -> Finding:
    """Least time of a whole run that reaches ENOUGH of the best quality of its platform and model."""
    grade, time = quality(runs), times(runs)[-1]
    cases, notes = [], []
    for where, sizes in cells(runs, ("platform", "model"), "batch_size"):
        every = [run for part in sizes.values() for run in part]
        best = max((value for run in every if not failed(run) and (value := grade.of(run)) is not None), default=0)
        known = [run for run in every if not failed(run) and grade.of(run) is not None and time.of(run) is not None]
        there = [run for run in known if best and (grade.of(run) or 0) >= ENOUGH * best]
        if there and len({run.batch_size for run in known}) > 1:
            first = min(there, key=lambda run: time.of(run) or 0)
            cases.append(Case(where, first.batch_size == min(sizes), names(known)))
            notes.append(f"{where}: {label(first, ('batch_size', 'epochs'))} in {shown(RUN_COLUMNS['wall_s'], time.of(first))}")
    claim = f"The smallest batch size is the fastest way to {ENOUGH:.0%} of the best quality"
    return Finding("batch-time-to-quality", claim, [Facet(f"{time.title} to {grade.title}", cases)], "; ".join(notes))


def more_epochs_pay(runs: Sequence[RunRecord]) -> Finding:
    """Gain in quality from the second longest to the longest training, at the same platform, model and batch size; and from where on
    no longer training was better by PAYS."""
    grade = quality(runs)
    cases, notes = [], []
    for where, lengths in cells(runs, ("platform", "model", "batch_size"), "epochs"):
        values = {length: value for length, part in lengths.items() if (value := middle(part, grade)) is not None}
        if len(values) > 1:
            last, before = sorted(values, reverse=True)[:2]
            text = f"{where}: from {before} to {last} epochs"
            cases.append(Case(text, values[last] - values[before] >= PAYS, names(*lengths.values())))
            enough = min(length for length in values if max(values[more] for more in values if more >= length) - values[length] < PAYS)
            if enough < last:
                notes.append(f"{where}: no longer training is better by {PAYS} than {enough} epochs")
    claim = f"The most epochs that were run still pay (quality gains {PAYS} or more)"
    return Finding("epochs-pay", claim, [Facet(grade.title, cases)], "; ".join(notes))


def loading_keeps_up(runs: Sequence[RunRecord]) -> Finding:
    """Part of a step that waits for its images, run by run."""
    cases = []
    for run in runs:
        share = _waiting(run)
        if share is not None:
            cases.append(Case(f"{run.run_id}: waits {share:.0%} of a step", share < WAITS, names([run])))
    note = "" if cases else "needs runs with step_time_s and data_time_s"
    claim = f"Loading keeps up with training (less than {WAITS:.0%} of a step is waiting for images)"
    return Finding("loader", claim, [Facet("data time / step time", cases)], note)


def arithmetic_bounds(runs: Sequence[RunRecord]) -> Finding:
    """Run by run: loading, launching (a GPU that has no work though no images are missing), memory or arithmetic."""
    bounds = [(run, bound) for run in runs if (bound := _bound(run))]
    cases = [Case(f"{run.run_id}: {bound}", bound == "arithmetic", names([run])) for run, bound in bounds]
    note = ", ".join(f"{bound} {count}" for bound, count in Counter(bound for _, bound in bounds).most_common())
    claim = "Arithmetic bounds the runs, not loading, launching or memory"
    return Finding("bound", claim, [Facet("runs", cases)], note or "needs step_time_s and data_time_s and, of a GPU, its utilisation")


def _waiting(run: RunRecord) -> float | None:
    """Part of a step that waits for its images; None where the run failed or does not tell."""
    return None if failed(run) or run.data_time_s is None or not run.step_time_s else run.data_time_s / run.step_time_s


def _bound(run: RunRecord) -> str | None:
    """What bounds a run; None where the record does not tell. A run that ended for lack of memory is bound by that."""
    if run.status == "oom":
        return "memory"
    share = _waiting(run)
    if share is None:
        return None
    if share >= WAITS:
        return "loading"
    if run.gpu_name is None:
        return "arithmetic"
    return None if run.gpu_util_pct is None else "arithmetic" if run.gpu_util_pct >= BUSY else "launching"


def everything_fits(runs: Sequence[RunRecord]) -> Finding:
    """Where memory ends: the largest batch size that fits and the smallest that does not."""
    tried = [run for run in runs if run.status in ("ok", "oom")]
    cases = [Case(str(run.run_id), run.status == "ok", names([run])) for run in tried]
    others = sum(failed(run) and run.status != "oom" for run in runs)
    notes = [f"{others} run{'s' * (others > 1)} failed for another or an unknown reason: not counted"] if others else []
    every = distinct(tried, "batch_size")
    for where, sizes in cells(tried, ("platform", "model", "img_size"), "batch_size"):
        lost = [size for size, part in sizes.items() if any(run.status == "oom" for run in part)]
        if lost:
            fit = [size for size in every if size in sizes and size not in lost]
            fits = f"batch {max(fit)} fits" if fit else "no batch size always fits"
            at_times = " always" if any(run.status == "ok" for run in sizes[min(lost)]) else ""
            notes.append(f"{where}: {fits}, batch {min(lost)} does not{at_times}")
    return Finding("memory-fits", "Every run that was tried fits into memory", [Facet("runs", cases)], "; ".join(notes))
