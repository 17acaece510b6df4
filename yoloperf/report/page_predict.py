"""The page's part on cells that were not run."""

from collections.abc import Sequence
from dataclasses import dataclass

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord
from yoloperf.core.units import show_seconds
from yoloperf.report.page_tables import Cell, PageTable, plain
from yoloperf.report.predict import Fit, Prediction, fits, gaps, held_out, median_error
from yoloperf.report.predict_coco import coco_remarks, coco_tables, extrapolated, possible

MAX_FITS = 40


@dataclass(frozen=True)
class Predicted:
    """The fits, the error on held-out runs in words, the cells of the grid that no finished run fills, and COCO on paper."""

    says: str
    fits: PageTable
    gaps: PageTable | None
    coco: list[PageTable]
    remarks: list[str]


def predicted(runs: Sequence[RunRecord]) -> Predicted | None:
    """None where the records do not suffice for a fit."""
    try:
        models = fits(runs)
    except UserError:  # no run has a batch size, epochs and a number of images
        return None
    if not models:
        return None
    tried = held_out(runs)
    error = median_error(tried)
    says = "A fit of time = start + images trained on × image + steps × step. "
    if error is None:
        says += "Its error is not known: leaving out the most epochs leaves too few runs to fit."
    else:
        worst = max(abs(item.error or 0) for item in tried)
        says += f"Fitted without the runs of most epochs, it misses those {len(tried)} by {error:.1%} (median) and {worst:.1%} (worst)."
    empty = gaps(runs)
    first, second = extrapolated(runs), possible(runs)
    coco = [plain(table) for table in coco_tables(first[:MAX_FITS], second)]
    return Predicted(says, _fits(models[:MAX_FITS]), _gaps(empty[:MAX_FITS]) if empty else None, coco, coco_remarks(first, second))


def _fits(models: Sequence[Fit]) -> PageTable:
    rows = []
    for model in models:
        terms = (model.start_s, model.image_s, model.step_s)
        rows.append([Cell(model.heading), Cell(str(model.count), model.count), *map(_seconds, terms)])
    words = [("runs", True), ("start", True), ("image", True), ("step", True)]
    return PageTable(
        [("", "", False, True), *((text, "", kind, True) for text, kind in words)], rows, f"What {models[0].measure} is made of"
    )


def _gaps(items: Sequence[Prediction]) -> PageTable:
    rows = []
    for item in items:
        cell = item.cell
        counts = [Cell(str(number), number) for number in (cell.batch_size, cell.epochs, cell.images)]
        rows.append([Cell(item.fit.heading), *counts, _seconds(item.seconds), Cell(item.fit.beyond(cell))])
    words = [
        ("batch size", True),
        ("epochs", True),
        ("images", True),
        (f"predicted {items[0].fit.measure}", True),
        ("beyond the runs in", False),
    ]
    return PageTable(
        [("", "", False, True), *((text, "", kind, True) for text, kind in words)], rows, "Cells of the grid without a finished run"
    )


def _seconds(value: float | None) -> Cell:
    return Cell() if value is None else Cell(show_seconds(value), value)
