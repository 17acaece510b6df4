"""The formats that are read, one module each: a new module with a LineFormat or FileFormat in it is found by itself."""

import importlib
import pkgutil
from functools import cache
from typing import TypeVar

from yoloperf.parsing.formats.base import FileFormat, LineFormat

Kind = TypeVar("Kind", LineFormat, FileFormat)


def _classes(base: type[Kind]) -> tuple[type[Kind], ...]:
    found: list[type[Kind]] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        content = vars(importlib.import_module(f"{__name__}.{module.name}"))
        found += [item for item in content.values() if isinstance(item, type) and issubclass(item, base) and "name" in vars(item)]
    return tuple(dict.fromkeys(found))


@cache
def line_formats() -> tuple[type[LineFormat], ...]:
    return _classes(LineFormat)


@cache
def file_formats() -> tuple[type[FileFormat], ...]:
    return _classes(FileFormat)
