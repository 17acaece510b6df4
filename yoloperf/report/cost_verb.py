"""The verb cost: money and energy of every run, and the cheapest and fastest way to a quality."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from yoloperf.core.record import shown
from yoloperf.core.units import show_money, show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.report import render
from yoloperf.report.columns import GRID, IDENTITY, RUN_COLUMNS, differing, label, title, varying
from yoloperf.report.cost import MAP, Priced, Way, Ways, priced, priced_time, prices_said, ways
from yoloperf.report.evidence import quality
from yoloperf.report.render import Row, Table
from yoloperf.report.tables import order
from yoloperf.report.verbs import input_flags, print_tables, selected


def _flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    parser.add_argument(
        "--target-map",
        type=_fraction,
        metavar="X",
        help="also the fastest, cheapest and most frugal way to mAP@0.5 >= X (F1, where more runs have that)",
    )
    parser.add_argument("--format", choices=("text", *render.FORMATS), default="text")


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a mAP between 0 and 1 such as 0.5, not {text!r}")
    return value


def _cost(args: argparse.Namespace) -> Result:
    records = selected(args)
    runs = order(records.runs)
    items = priced(runs)
    grade, time = quality(runs), priced_time(runs)
    keys = [*differing(runs, IDENTITY), *GRID]
    if len({tuple(getattr(run, name) for name in keys) for run in runs}) < len(runs):
        keys += varying(runs, ["seed"]) or ["run_id"]
    found = ways(items, records.epochs, args.target_map) if args.target_map is not None else []
    tables = [cost_table(items, keys, time.title, grade.title)]
    if found:
        tables.append(ways_table(found, f"{grade.title} of at least {args.target_map:g}"))
    print_tables(tables, args.format)
    if args.format == "text":
        said = remarks(items, time.title)
        if found and grade.title != MAP:
            said.insert(0, f"more runs have precision and recall than a mAP, so the target is one of {grade.title}")
        print("\n" + "\n".join(said))
    return 0, {
        "time": time.title,
        "quality": grade.title,
        "prices": prices_said(items),
        "runs": [_result(item) for item in items],
        "target": args.target_map,
        "ways": [_ways_result(item) for item in found],
    }


def cost_table(items: Sequence[Priced], keys: Sequence[str], time: str, grade: str) -> Table:
    """A row a run; a column that no run has a value for is left out."""
    figures = {
        time: [_or_empty(item.seconds, show_seconds) for item in items],
        "cost": [_money(item, item.cost) for item in items],
        grade: [_or_empty(item.grade, lambda value: f"{value:.3f}") for item in items],
        "cost of a point": [_money(item, item.cost_per_point) for item in items],
        "energy": [_or_empty(item.energy_j, RUN_COLUMNS["energy_j"].metadata["show"]) for item in items],
        "measured by": [_or_empty(item.energy_j and item.run.energy_source, str) for item in items],
        "J per image": [_or_empty(item.joules_per_image, lambda value: f"{value:.3g}") for item in items],
        "J of a point": [_or_empty(item.joules_per_point, lambda value: f"{value:.3g}") for item in items],
    }
    figures = {name: cells for name, cells in figures.items() if any(cells)}
    rows = [
        Row([*(shown(RUN_COLUMNS[name], getattr(item.run, name)) for name in keys), *(cells[i] for cells in figures.values())])
        for i, item in enumerate(items)
    ]
    numeric = [not str(RUN_COLUMNS[name].type).startswith("str") for name in keys] + [name != "measured by" for name in figures]
    return Table([*map(title, keys), *figures], numeric, rows, "Cost and energy of every run; a point is 0.01 of quality", len(keys))


def ways_table(found: Sequence[Ways], target: str) -> Table:
    """A row a platform, model and what else differs; of time, cost and energy those that some run has. The least of each is marked."""
    energy = RUN_COLUMNS["energy_j"].metadata["show"]
    kinds: list[tuple[str, str, str, Callable[[Way], str]]] = [
        ("fastest", "seconds", "time", lambda way: show_seconds(way.seconds)),
        ("cheapest", "cost", "cost", lambda way: _money(way.priced, way.cost)),
        ("frugal", "energy_j", "energy of the run", lambda way: energy(way.energy_j)),
    ]
    kinds = [kind for kind in kinds if any(getattr(item, kind[0]) for item in found)]
    titles = {"frugal": "least energy"}
    headings, numeric, rows, best = ["", "reached by"], [False, True], [], set()
    for name, figure, heading, _ in kinds:
        best |= _least(found, name, figure, len(headings) + 1)
        headings += [titles.get(name, name), heading]
        numeric += [False, True]
    for item in found:
        where = ", ".join(part for part in (" on ".join(part for part in (item.model, item.platform) if part), item.rest) if part) or "runs"
        if not item.reached:
            rows.append(Row([where], f"reached by none of {item.tried} runs", 1))
            continue
        cells = [where, f"{item.reached} of {item.tried}"]
        for name, _, _, show in kinds:
            way = getattr(item, name)
            cells += ["", ""] if way is None else [_way(way), show(way)]
        rows.append(Row(cells))
    return Table(headings, numeric, rows, f"Ways to {target}", 1, frozenset(best))


def _least(found: Sequence[Ways], name: str, figure: str, column: int) -> set[tuple[int, int]]:
    """The cell with the least of a figure; none where amounts are in several currencies."""
    known = [(getattr(way, figure), row, way) for row, item in enumerate(found) if (way := getattr(item, name))]
    if figure == "cost" and len({way.priced.card.currency for _, _, way in known}) > 1:
        return set()
    return {(min(known, key=lambda item: item[0])[1], column)} if len(known) > 1 else set()


def remarks(items: Sequence[Priced], time: str) -> list[str]:
    """What a person must know to believe the figures."""
    lines = [f"cost: {line}" for line in prices_said(items)]
    if any(item.cost is not None for item in items) and time != "wall time":
        lines.append(f"costs rest on {time}, so they are the least that was paid")
    if len({item.card.currency for item in items if item.card and item.card.price_per_hour is not None}) > 1:
        lines.append("costs are in more than one currency and do not compare")
    measured = [item for item in items if item.energy_j is not None]
    sources = ", ".join(sorted({str(item.run.energy_source) for item in measured}))
    lines.append(f"energy: measured in {len(measured)} of {len(items)} runs{f' ({sources})' if sources else ''}; none is guessed")
    return lines


def _way(way: Way) -> str:
    epoch = "" if way.epoch is None else f", in epoch {way.epoch}"
    return label(way.priced.run, GRID) + epoch


def _money(item: Priced, value: float | None) -> str:
    return "" if value is None or item.card is None else f"{item.card.currency} {show_money(value)}"


def _or_empty(value: Any, show: Any) -> str:
    return "" if value is None else show(value)


def _result(item: Priced) -> dict[str, Any]:
    return {
        "run_id": item.run.run_id,
        "card": item.card and item.card.name,
        "currency": item.card and item.card.currency,
        "seconds": item.seconds,
        "quality": item.grade,
        "energy_source": item.run.energy_source,
        **{name: getattr(item, name) for name in ("cost", "cost_per_point", "energy_j", "joules_per_image", "joules_per_point")},
    }


def _ways_result(item: Ways) -> dict[str, Any]:
    best = {"fastest": item.fastest, "cheapest": item.cheapest, "least_energy": item.frugal}
    facts = {"platform": item.platform, "model": item.model, "rest": item.rest, "reached": item.reached, "tried": item.tried}
    return facts | {name: way and _way_result(way) for name, way in best.items()}


def _way_result(way: Way) -> dict[str, Any]:
    figures = {name: getattr(way, name) for name in ("seconds", "cost", "energy_j", "epoch")}
    return {"run_id": way.priced.run.run_id, **figures}


cost = Verb(
    help="show what runs cost in money and energy, per mAP point too, and the cheapest and fastest way to a mAP",
    example="yoloperf cost logs/ --target-map 0.8",
    configure=_flags,
    run=_cost,
)
