"""The names of the three tables: runs, and the epochs and kernels that belong to them."""

from pathlib import Path

RUNS = "runs.csv"


def beside(table: Path) -> tuple[Path, Path]:
    """Where the epochs and kernels of a table of runs belong: epochs.csv beside runs.csv, study-epochs.csv beside study.csv."""
    lead = "" if table.name == RUNS else f"{table.stem}-"
    return table.with_name(f"{lead}epochs.csv"), table.with_name(f"{lead}kernels.csv")
