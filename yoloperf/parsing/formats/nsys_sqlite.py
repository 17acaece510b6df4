"""The SQLite file that `nsys export` and `nsys stats` make: kernels, copies and CUDA calls, summed by SQL."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yoloperf.parsing.draft import Draft, KernelRow
from yoloperf.parsing.formats.base import FileFormat
from yoloperf.parsing.operators import operator

_SUMS = 'COUNT(*), SUM("end" - start), MIN("end" - start), MAX("end" - start)'
_ENDED = '"end" IS NOT NULL'  # what was still under way when the capture stopped has no end
# CUpti_ActivityMemcpyKind
_COPIES = {1: "HtoD", 2: "DtoH", 3: "HtoA", 4: "AtoH", 5: "AtoA", 6: "AtoD", 7: "DtoA", 8: "DtoD", 9: "HtoH", 10: "PtoP"}
_KERNELS, _MEMCPY, _MEMSET, _RUNTIME = (f"CUPTI_ACTIVITY_KIND_{name}" for name in ("KERNEL", "MEMCPY", "MEMSET", "RUNTIME"))


class NsysSqlite(FileFormat):
    name = "nsys-sqlite"
    description = "Nsight Systems SQLite export (.sqlite): kernels, copies, CUDA API"

    @staticmethod
    def sniff(head: bytes) -> bool:
        return head.startswith(b"SQLite format 3\0")

    @staticmethod
    def read(path: Path, stream: Any, new_run: Callable[[], Draft]) -> Iterator[Draft]:
        run = new_run()
        uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as database:
                _read(database, run)
        except sqlite3.Error as error:
            raise ValueError(f"a damaged SQLite file: {error}") from error
        run.formats[NsysSqlite.name] = None
        yield run


def _read(database: sqlite3.Connection, run: Draft) -> None:
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "StringIds" not in tables:
        raise ValueError("an SQLite file, but not of Nsight Systems: it has no table StringIds")
    run.default("profiler", "nsys")
    gpu: list[KernelRow] = []
    if _KERNELS in tables:
        gpu += [_row("gpu", *found) for found in _named(database, _KERNELS, "demangledName")]
    if _MEMCPY in tables:
        query = f"SELECT copyKind, {_SUMS} FROM {_MEMCPY} WHERE {_ENDED} GROUP BY copyKind"
        gpu += [_row("gpu", f"[CUDA memcpy {_COPIES.get(kind, kind)}]", *sums) for kind, *sums in database.execute(query)]
    if _MEMSET in tables:
        query = f"SELECT {_SUMS} FROM {_MEMSET} WHERE {_ENDED} HAVING COUNT(*) > 0"
        gpu += [_row("gpu", "[CUDA memset]", *sums) for sums in database.execute(query)]
    run.kernels += _with_shares(gpu)
    if _RUNTIME in tables:
        run.kernels += _with_shares([_row("api", *found) for found in _named(database, _RUNTIME, "nameId")])
    if not gpu:
        run.default("profile_reason", "the capture holds no GPU activities")
    if "TARGET_INFO_GPU" in tables:
        for name, memory in database.execute("SELECT name, totalMemory FROM TARGET_INFO_GPU LIMIT 1"):
            run.default("gpu_name", name)
            run.default("gpu_mem_bytes", memory)


def _named(database: sqlite3.Connection, table: str, column: str) -> list[tuple[Any, ...]]:
    """(name, sums) by a column that points into the table of strings; the name is empty where it points nowhere."""
    strings = f"LEFT JOIN StringIds ON StringIds.id = {column}"
    query = f"SELECT IFNULL(value, ''), {_SUMS} FROM {table} {strings} WHERE {_ENDED} GROUP BY 1"
    return database.execute(query).fetchall()


def _row(domain: str, name: str, calls: int, total: int, least: int, most: int) -> KernelRow:
    """Nanoseconds into a kernel row without its share."""
    what = operator(name) if domain == "gpu" else None
    return "nsys", domain, name, calls, total / 1e9, total / 1e9 / calls, least / 1e9, most / 1e9, None, what


def _with_shares(rows: list[KernelRow]) -> list[KernelRow]:
    whole = sum(row[4] or 0.0 for row in rows)
    rows.sort(key=lambda row: -(row[4] or 0.0))
    return [(*row[:8], (row[4] or 0.0) / whole if whole else None, row[9]) for row in rows]
