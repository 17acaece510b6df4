"""Which interactive plots a set of records gives."""

from collections.abc import Callable

from yoloperf.report.charts_grid import grid, tradeoff
from yoloperf.report.charts_runs import curves, device, kernels, operators, repeats
from yoloperf.report.load import Records
from yoloperf.report.vega import Chart


def charts(records: Records) -> tuple[list[Chart], dict[str, str]]:
    """Every plot that the records allow, and for each that is missing the reason."""
    runs = records.runs
    wanted: dict[str, Callable[[], Chart | str]] = {
        "Against batch size": lambda: grid(runs, "batch_size"),
        "Against epochs": lambda: grid(runs, "epochs"),
        "Quality against time": lambda: tradeoff(runs),
        "Curves": lambda: curves(runs, records.epochs),
        "Biggest kernel": lambda: kernels(runs),
        "Where the time goes": lambda: operators(records),
        "Device over time": lambda: device(runs, records.bases),
        "Repeats": lambda: repeats(runs),
    }
    found, missing = [], {}
    for name, make in wanted.items():
        made = make()
        if isinstance(made, str):
            missing[name] = made
        else:
            found.append(made)
    return found, missing
