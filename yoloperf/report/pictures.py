"""Which pictures a set of records gives, under which names, and how they are written."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from yoloperf.core.rundir import write_atomic
from yoloperf.report import plots
from yoloperf.report.columns import GRID, distinct, title
from yoloperf.report.load import Records
from yoloperf.report.plots_device import device
from yoloperf.report.plots_operators import DOMAINS, operators
from yoloperf.report.plots_repeats import LEAST, repeats
from yoloperf.report.plots_tradeoff import tradeoff
from yoloperf.report.style import drawing


def save_all(records: Records, folder: Path, kind: str = "png") -> tuple[list[Path], dict[str, str]]:
    """Write every picture that the records allow, as png or svg. Returns their paths, and for each that is missing the reason."""
    paths, missing = [], {}
    with drawing():
        for name, item in tqdm(_pictures(records), desc="plot", unit=" pictures", leave=False, disable=None):
            if isinstance(item, str):
                missing[name] = item
                continue
            paths.append(folder / f"{name}.{kind}")
            data = io.BytesIO()
            # no date inside: the same records give the same bytes
            item.savefig(data, format=kind, metadata={"Date": None} if kind == "svg" else None)
            write_atomic(paths[-1], data.getvalue())
    return paths, missing


def _pictures(records: Records) -> Iterator[tuple[str, Figure | str]]:
    """Name and figure, or name and the reason why there is none."""
    metrics = plots.grid_metrics(records.runs)
    for x in GRID:
        placed = [run for run in records.runs if getattr(run, x) is not None]
        if len(distinct(placed, x)) < 2:
            yield f"grid-{x}", f"no two runs differ in {title(x)}"
        elif not metrics:
            yield f"grid-{x}", "no run has a time, a memory peak or a validation"
        else:
            yield from _series(f"grid-{x}", (plots.grid(page, x, metrics) for page in plots.pages(placed)))
    groups = plots.groups(records.runs)
    trained = {record.run_id for record in records.epochs}
    if not any(run.run_id in trained for run in records.runs):
        yield "curves", "there are no epochs: give run folders, logs, or a runs.csv with its epochs.csv beside it"
    slugs = [_slug(heading) for heading, _ in groups]
    for k, group in enumerate(groups):
        # a setting that only one of two groups recorded is not in its heading
        name = slugs[k] if slugs.count(slugs[k]) == 1 else f"{slugs[k]}-group{k + 1}"
        yield from _series(f"curves-{name}" if len(groups) > 1 else "curves", plots.curves(group, records.epochs))
    yield from _series("tradeoff", tradeoff(records.runs), "fewer than two runs have both a time and a validation")
    yield from _series("kernels", plots.kernels(records.runs), "no run has a kernel summary")
    profiled = {record.domain for record in records.kernels}
    for domain in DOMAINS:
        if domain in profiled:
            yield from _series(f"operators-{domain}", operators(records.runs, records.kernels, domain))
    if not profiled & DOMAINS.keys():
        yield "operators", "there are no kernels: give run folders, logs, or a runs.csv with its kernels.csv beside it"
    yield from _series(
        "device", device(records.runs, records.bases), "no run has samples of its device: device.csv of a run folder holds them"
    )
    yield from _series("repeats", repeats(records.runs), f"no cell has {LEAST} finished runs")


def _series(name: str, figures: Iterable[Figure], otherwise: str = "") -> Iterator[tuple[str, Figure | str]]:
    """Figures numbered from the second on, or the reason why there is none."""
    number = 0
    for number, figure in enumerate(figures, 1):
        yield name if number == 1 else f"{name}-{number}", figure
    if not number and otherwise:
        yield name, otherwise


def _slug(heading: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", heading.lower()).strip("-")
