"""The verb predict: the time of cells that were not run, with the error on cells that were."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.report.columns import GRID
from yoloperf.report.predict import Fit, Prediction, elsewhere, fits, gaps, held_out, median_error
from yoloperf.report.predict_coco import coco_remarks, coco_result, coco_tables, extrapolated, possible
from yoloperf.report.render import Row, Table
from yoloperf.report.verbs import input_flags, print_tables, selected


def _flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    parser.add_argument("--hold-out", choices=GRID, default="epochs", help="take the error on the runs with most of it (default: epochs)")
    parser.add_argument("--batch-size", type=_count, help="with --epochs: predict this cell on every platform and model")
    parser.add_argument("--epochs", type=_count)
    parser.add_argument("--images", type=_count, help="training images of that cell, such as 118287 for COCO (default: as in the runs)")
    parser.add_argument("--coco", action="store_true", help="COCO at 300 epochs on every platform, and on every card, in hours and money")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _predict(args: argparse.Namespace) -> Result:
    runs = selected(args).runs
    if (args.batch_size is None) != (args.epochs is None) or (args.images and not args.epochs):
        raise UserError("a cell to predict needs both --batch-size and --epochs (--images is optional)")
    if args.coco:
        return _coco(runs)
    models = fits(runs)
    if not models:
        raise UserError("too few finished runs to fit: one platform and model needs at least three")
    tried = held_out(runs, args.hold_out)
    asked = elsewhere(runs, args.batch_size, args.epochs, args.images) if args.epochs else gaps(runs)
    print_tables([_coefficients(models), *([_predictions(asked)] if asked else [])], "text")
    if not asked:
        print("\nevery cell of the grid has a finished run: ask for another with --batch-size and --epochs")
    error = median_error(tried)
    if error is None:
        print(f"\nno error is known: leaving out the most {args.hold_out} leaves too few runs to fit")
    else:
        worst = max(abs(item.error or 0) for item in tried)
        most = f"the runs with most {args.hold_out}, predicted from the others"
        print(f"\nerror on {len(tried)} held-out runs ({most}): median {error:.1%}, worst {worst:.1%}")
    return 0, {
        "fits": [asdict(model) for model in models],
        "held_out": {"column": args.hold_out, "median_error": error, "runs": [prediction_result(item) for item in tried]},
        "predictions": [prediction_result(item) for item in asked],
    }


def _coco(runs: Sequence[RunRecord]) -> Result:
    first, second = extrapolated(runs), possible(runs)
    if not first and not second:
        raise UserError(
            "nothing to estimate COCO from: no three finished runs whose time grows with the work, and no model whose work is known"
        )
    print_tables(coco_tables(first, second), "text")
    print("\n" + "\n".join(coco_remarks(first, second)))
    return 0, coco_result(first, second)


def _coefficients(models: Sequence[Fit]) -> Table:
    rows = []
    for model in models:
        terms = (model.start_s, model.image_s, model.step_s)
        rows.append(Row([model.heading, str(model.count), *("" if term is None else show_seconds(term) for term in terms)]))
    title = f"{models[0].measure} = start + images trained on x image + steps x step"
    return Table(["", "runs", "start", "image", "step"], [False] + [True] * 4, rows, title, 1)


def _predictions(items: Sequence[Prediction]) -> Table:
    rows = []
    for item in items:
        cell = item.cell
        beyond = item.fit.beyond(cell)
        counts = (str(cell.batch_size), str(cell.epochs), str(cell.images))
        rows.append(Row([item.fit.heading, *counts, show_seconds(item.seconds), beyond]))
    headings = ["", "batch size", "epochs", "images", f"predicted {items[0].fit.measure}", "beyond the runs in"]
    return Table(headings, [False, True, True, True, True, False], rows, "Predicted cells", 1)


def prediction_result(item: Prediction) -> dict[str, Any]:
    return {
        "where": item.fit.heading,
        **asdict(item.cell),
        "predicted_s": item.seconds,
        "measured_s": item.measured,
        "error": item.error,
        "beyond": item.fit.beyond(item.cell) or None,
    }


predict = Verb(
    help="predict the time of cells that were not run, and show the error on cells that were",
    example="yoloperf predict logs/published-2020 --batch-size 64 --epochs 300 --images 118287",
    configure=_flags,
    run=_predict,
)
