"""A sweep file: fixed values and axes -> the ordered cells of the grid."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.spec import ENGINES, TrialSpec, field_names, from_mapping
from yoloperf.core.yamlfile import read_yaml

_UNSAFE = re.compile(r"[^A-Za-z0-9_.+-]+")
_NUMBERS = ("batch_size", "epochs", "lr_scale", "seed")  # in every trial name
_PATHS = ("data", "weights", "cfg")  # told by the model and the data set in every trial name, as long as those differ where these do
_KEYS = ("name", "fixed", "axes", "include", "exclude", "repeats", "timeout_s")


@dataclass(frozen=True)
class Cell:
    """One point of the grid: what is trained, and its name for people. Its identity is the spec's hash."""

    trial: str
    spec: TrialSpec


@dataclass(frozen=True)
class SweepSpec:
    """A checked sweep file. Values are keyed by fields of TrialSpec."""

    name: str
    fixed: dict[str, Any]
    axes: dict[str, list[Any]]
    include: tuple[dict[str, Any], ...] = ()
    exclude: tuple[dict[str, Any], ...] = ()
    repeats: int = 1
    timeout_s: float | None = None

    def cells(self) -> list[Cell]:
        """Every cell in the order of the axes, the last one fastest, then `include`; repeats of a cell follow each other.

        Fixed values are a cell of their own where there is neither. Raises UserError for a value that cannot be trained with, an
        exclude that matches nothing and two equal cells.
        """
        where = f"sweep {self.name}"
        if not (self.fixed or self.axes or self.include):
            raise UserError(f"{where} names no training: give it fixed, axes or include (see sweeps/README.md)")
        grid = itertools.product(*self.axes.values()) if self.axes or not self.include else ()
        points = [{**self.fixed, **dict(zip(self.axes, values, strict=True))} for values in grid]
        for pattern in self.exclude:
            kept = [point for point in points if not _matches(point, pattern)]
            if len(kept) == len(points):
                raise UserError(f"{where}: exclude {pattern} matches no cell; take it out or mend its values")
            points = kept
        points += [{**self.fixed, **point} for point in self.include]
        if not points:
            raise UserError(f"{where} has no cells: give axes or include")
        first = [from_mapping(point, where) for point in points]
        specs = [TrialSpec(**{**asdict(spec), "seed": spec.seed + number}) for spec in first for number in range(self.repeats)]
        twice = [spec for spec, count in Counter(specs).items() if count > 1]
        if twice:
            raise UserError(f"{where} has the same cell twice: {' '.join(twice[0].argv())}")
        return [Cell(trial, spec) for trial, spec in zip(_names(specs), specs, strict=True)]


def load_sweep(path: Path) -> SweepSpec:
    """Read and check a sweep file. Raises UserError with the nearest valid key or file."""
    content = read_yaml(path, "sweep file")
    sweep = from_content(content, str(path), path.stem)
    sweep.cells()  # a value that cannot be trained with is told now, before anything is written
    return sweep


def from_content(content: Any, where: str, default_name: str) -> SweepSpec:
    """Check what a sweep file holds."""
    content = _mapping(content, where)
    for key in content:
        choose(str(key), _KEYS, f"key in {where}")
    name = content.get("name", default_name)
    if not isinstance(name, str) or slug(name) != name:
        raise UserError(f"name in {where} becomes a folder: use letters, digits and _ . + -, not {name!r}")
    fixed = _fields(content.get("fixed"), f"fixed of {where}")
    axes = _fields(content.get("axes"), f"axes of {where}")
    for key, values in axes.items():
        if key in fixed:
            raise UserError(f"{where} gives {key} under fixed and under axes: keep one")
        if not isinstance(values, list) or not values:
            raise UserError(f"axis {key} in {where} must be a list such as [{'4, 8' if values in (None, []) else values}]")
    timeout_s = content.get("timeout_s")
    if timeout_s is not None and (isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf):
        raise UserError(f"timeout_s in {where} must be a number of seconds greater than 0, not {timeout_s!r}: leave it out for no limit")
    repeats = content.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise UserError(f"repeats in {where} must be a whole number of at least 1, not {repeats!r}")
    return SweepSpec(
        name=name,
        fixed=fixed,
        axes=axes,
        include=_points(content.get("include"), f"include of {where}"),
        exclude=_points(content.get("exclude"), f"exclude of {where}"),
        repeats=repeats,
        timeout_s=timeout_s,
    )


def with_engine(sweep: SweepSpec, engine: str) -> SweepSpec:
    """The sweep with every cell trained by one engine. Raises UserError where the file has engines of its own."""
    choose(engine, ENGINES, "engine")
    if "engine" in sweep.axes or any("engine" in point for point in (*sweep.include, *sweep.exclude)):
        raise UserError(f"sweep {sweep.name} names its engines itself: leave out --engine {engine}")
    return replace(sweep, fixed={**sweep.fixed, "engine": engine})


def slug(text: str) -> str:
    """The text with every run of characters that do not belong in a file name replaced by a dash."""
    return _UNSAFE.sub("-", text).strip("-.") or "none"


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a mapping of keys to values, not {value!r}")
    return value


def _fields(value: Any, where: str) -> dict[str, Any]:
    """A mapping with its aliases replaced by the fields that they mean."""
    names = field_names()
    found: dict[str, Any] = {}
    for key, item in _mapping(value, where).items():
        name = names[choose(str(key), names, f"key in {where}")]
        if name in found:
            raise UserError(f"{where} gives {name} twice (once as {key!r})")
        found[name] = item
    return found


def _points(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"{where} must be a list of mappings such as [{{batch: 4, epochs: 1}}], not {value!r}")
    if not all(value):
        raise UserError(f"{where} holds an empty entry: take it out")
    return tuple(_fields(item, where) for item in value)


def _matches(point: dict[str, Any], pattern: dict[str, Any]) -> bool:
    """Compared as text too, because 0 and "0" are the same device. What the point does not give has its default."""
    defaults = {item.name: item.default for item in fields(TrialSpec)}
    found = {**defaults, **point}
    return all(found[key] == value or str(found[key]) == str(value) for key, value in pattern.items())


def _names(specs: list[TrialSpec]) -> list[str]:
    """Readable and unique: what all names tell, then every other field that varies within the sweep, and another's engine."""
    told = [(spec.model, Path(spec.data).stem) for spec in specs]
    varying = []
    for item in fields(TrialSpec):
        values = [getattr(spec, item.name) for spec in specs]
        known = item.name in _PATHS and _count(zip(told, values, strict=True)) == _count(told)
        foreign = item.name == "engine" and set(values) != {item.default}  # --engine must not lead to another engine's folders
        if foreign or (item.name not in _NUMBERS and _count(values) > 1 and not known):
            varying.append(item.name)
    names = []
    for spec in specs:
        name = f"{slug(spec.model)}_{slug(Path(spec.data).stem)}_bs{spec.batch_size}_ep{spec.epochs}_lr{spec.lr_scale:g}_s{spec.seed}"
        names.append(name + "".join(f"_{key}{_shown(getattr(spec, key))}" for key in varying))
    again = {name for name, count in Counter(names).items() if count > 1}
    return [f"{name}_{spec.hash}" if name in again else name for name, spec in zip(names, specs, strict=True)]


def _shown(value: Any) -> str:
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else slug(str(value))


def _count(values: Iterable[Hashable]) -> int:
    return len(set(values))
