"""The formats that are read, one module each: a new module with a LineFormat or FileFormat in it is found by itself."""

import importlib
import pkgutil
from functools import cache
from typing import TypeVar

from yoloperf.parsing.formats.base import FileFormat, LineFormat

Kind = TypeVar("Kind", LineFormat, FileFormat)


def _classes(base: type[Kind]) -> tuple[type[Kind], ...]:
    """Classes that the modules of this package define, the base left out."""
    found: list[type[Kind]] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        name = f"{__name__}.{module.name}"
        content = vars(importlib.import_module(name)).values()
        kinds = [item for item in content if isinstance(item, type) and issubclass(item, base)]
        found += [kind for kind in kinds if kind.__module__ == name and kind is not base]
    return tuple(found)


@cache
def line_formats() -> tuple[type[LineFormat], ...]:
    return _classes(LineFormat)


@cache
def file_formats() -> tuple[type[FileFormat], ...]:
    return _classes(FileFormat)
