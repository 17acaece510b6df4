"""`yoloperf merge`: the logs and tables of several platforms become one table, and what is still missing is named."""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, to_csv
from yoloperf.core.rundir import write_atomic
from yoloperf.core.tables import RUNS, beside
from yoloperf.core.verb import Result, Verb
from yoloperf.report.columns import GRID, IDENTITY, label
from yoloperf.report.load import Records, load

_LISTED = 8  # cells that are named in a line
_UNNAMED = "unnamed"


@dataclass(frozen=True)
class Part:
    """A sweep on one platform. `missing` are cells that the same sweep has on another platform."""

    sweep: str
    platform: str
    cells: int
    statuses: dict[str, int]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Unlike:
    """A cell of a sweep that was not the same work everywhere: its spec differs between platforms."""

    sweep: str
    cell: str
    platforms: tuple[str, ...]


def parts(runs: Iterable[RunRecord]) -> list[Part]:
    """What every platform has of every sweep, in the order of the sweeps' and platforms' names."""
    found: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        found[run.sweep or _UNNAMED][run.platform or run.gpu_name or _UNNAMED].append(run)
    result = []
    for sweep, platforms in sorted(found.items()):
        everywhere = dict.fromkeys(cell(run) for held in platforms.values() for run in held)
        for platform, held in sorted(platforms.items()):
            have = {cell(run) for run in held}
            statuses = dict(sorted(Counter(run.status or "unknown" for run in held).items(), key=lambda item: (item[0] != "ok", item)))
            missing = tuple(name for name in everywhere if name not in have)
            result.append(Part(sweep, platform, len(have), statuses, missing))
    return result


def cell(run: RunRecord) -> str:
    """What names a cell of the grid on every platform: the trial, or what is known of the work."""
    if run.trial:
        return run.trial
    known = [name for name in (*IDENTITY, *GRID, "seed") if name not in ("platform", "precision_mode") and getattr(run, name) is not None]
    return label(run, known) if known else str(run.run_id)


def unlike(runs: Iterable[RunRecord]) -> list[Unlike]:
    """Cells of one name whose specs differ: the sweep file was not the same when they ran."""
    hashes: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for run in runs:
        if run.sweep and run.trial and run.platform and run.spec_hash:
            hashes[run.sweep, run.trial][run.platform] = run.spec_hash
    return [Unlike(*name, tuple(sorted(held))) for name, held in sorted(hashes.items()) if len(set(held.values())) > 1]


def write(records: Records, out: Path) -> None:
    """The runs at `out`, their epochs and kernels beside it. Raises UserError where they cannot be written."""
    epochs, kernels = beside(out)
    tables: tuple[tuple[type, Sequence[Any], Path], ...] = (
        (EpochRecord, records.epochs, epochs),
        (KernelRecord, records.kernels, kernels),
        (RunRecord, records.runs, out),
    )
    for kind, rows, path in tables:
        write_atomic(path, to_csv(kind, rows))


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="runs.csv of a platform, or a folder of its logs")
    parser.add_argument("-o", "--out", type=Path, default=Path(RUNS), help="the one table; beside x.csv lie x-epochs.csv and x-kernels.csv")
    parser.add_argument("--all", action="store_true", help=f"name every missing cell, not only {_LISTED} a platform")


def _merge(args: argparse.Namespace) -> Result:
    records = load(args.paths)
    write(records, args.out)
    found, differing = parts(records.runs), unlike(records.runs)
    width = max(len(part.sweep) for part in found), max(len(part.platform) for part in found)
    for part in found:
        counts = ", ".join(f"{count} {status}" for status, count in part.statuses.items())
        print(
            f"{part.sweep:{width[0]}}  {part.platform:{width[1]}}  {sum(part.statuses.values())} runs: {counts}{_missing(part, args.all)}"
        )
    for item in differing:
        print(f"not the same work: {item.cell} of {item.sweep} on {', '.join(item.platforms)}: the sweep file differed")
    again = f"; {records.twice} rows were given twice" if records.twice else ""
    print(f"{len(records.runs)} runs, {len(records.epochs)} epochs, {len(records.kernels)} kernels -> {args.out}{again}")
    if records.unread:
        print(f"not read: {records.unread} files or lines; `yoloperf parse` on the same folders names them")
    return int(bool(records.unread)), {
        "out": str(args.out),
        "runs": len(records.runs),
        "epochs": len(records.epochs),
        "kernels": len(records.kernels),
        "twice": records.twice,
        "unread": records.unread,
        "parts": [vars(part) for part in found],
        "unlike": [vars(item) for item in differing],
    }


def _missing(part: Part, everything: bool) -> str:
    if not part.missing:
        return ""
    named = part.missing if everything else part.missing[:_LISTED]
    more = f" and {len(part.missing) - len(named)} more (--all)" if len(named) < len(part.missing) else ""
    return f"; {len(part.missing)} missing that another platform has: {', '.join(named)}{more}"


merge = Verb(
    help="make one table of several platforms' logs and tables, and name the cells that one of them lacks",
    example="yoloperf merge logs/cluster logs/colab published/runs.csv -o study.csv",
    configure=_configure,
    run=_merge,
)
