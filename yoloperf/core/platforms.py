"""Platform cards: what a GPU or CPU can do at most and what an hour of it costs, from `cfg/platforms/*.yaml`.

Every group of figures says when and where it was read and whether it was verified; an unknown figure is None.
A card in `cfg/platforms/` of the working folder takes the place of the package's card in a file of the same name.
"""

import datetime
import math
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from yoloperf.core.errors import UserError, choose

ARITHMETIC = ("fp32", "tf32", "fp16", "bf16")
KINDS = ("gpu", "cpu")
_FOLDER = Path("cfg") / "platforms"
# group of a card -> its figures; the other keys of a group say where they come from
_GROUPS = {
    "peak": ("flops",),
    "memory": ("bytes", "bandwidth_bytes_per_s"),
    "power": ("tdp_w",),
    "price": ("per_hour", "currency", "billing"),
}
_ORIGIN = ("note", "as_of", "source", "verified")


@dataclass(frozen=True)
class Origin:
    """When and where a group of figures was read. `as_of` is an ISO date; `verified`: whether that was checked."""

    as_of: str | None
    source: str
    verified: bool
    note: str | None = None


@dataclass(frozen=True)
class PlatformCard:
    """A device. `peak_flops` is per arithmetic (fp32, tf32, fp16, bf16), dense, in FLOP/s.

    `origin` maps a group of figures (peak, memory, power, price) to where it comes from.
    """

    name: str
    kind: str
    match: tuple[str, ...]
    compute_capability: str | None
    peak_flops: Mapping[str, float | None]
    mem_bytes: int | None
    mem_bandwidth_bytes_per_s: float | None
    tdp_w: float | None
    price_per_hour: float | None
    currency: str | None
    billing: str | None
    origin: Mapping[str, Origin]
    file: str

    def peak(self, precision_mode: str | None) -> float | None:
        """Peak in FLOP/s for the arithmetic that a run records, None where it is unknown.

        cuDNN runs fp32 convolutions in TF32 where the device has it (PyTorch's default, torch.backends.cudnn.allow_tf32), so that
        is their peak there; "amp" is fp16.
        """
        if precision_mode == "fp32" and self.peak_flops["tf32"] is not None:
            return self.peak_flops["tf32"]
        return self.peak_flops.get({"amp": "fp16"}.get(str(precision_mode), str(precision_mode)))

    def cost(self, seconds: float | None) -> float | None:
        """What this time costs in the card's currency, None where either is unknown."""
        return None if seconds is None or self.price_per_hour is None else seconds / 3600 * self.price_per_hour

    def said(self, group: str) -> str:
        """Where a group of figures comes from, in brackets behind a figure: "Tesla T4, price as of ..., unverified"."""
        origin = self.origin[group]
        return f"card {self.name}: {group} as of {origin.as_of or 'no date'}, {'verified' if origin.verified else 'unverified'}"


def folders() -> list[Path]:
    """Where cards are looked for, the first one winning: the working folder, the repository, the installed package's data."""
    package = Path(__file__).resolve().parents[2] / _FOLDER
    installed = Path(sysconfig.get_path("data")) / "share" / "yoloperf" / _FOLDER
    return [folder for folder in (Path.cwd() / _FOLDER, package, installed) if folder.is_dir()]


def cards() -> tuple[PlatformCard, ...]:
    """Every card, those of the working folder first. Raises UserError, in one line, for a file that is no card."""
    return _cards(tuple(folders()))


def card_for(gpu_name: str | None, cpu_name: str | None = None) -> PlatformCard | None:
    """The card of a device by the name that nvidia-smi and torch print; without a GPU, by the processor's name.

    The card whose pattern covers the most of the name wins; between equals, that of the working folder. None where no card
    knows the name, where two of one folder cover it alike, and for a slice of a GPU (MIG), which has not the peaks of the
    whole. A CPU card without a pattern is every processor's.
    """
    name, kind = (gpu_name, "gpu") if gpu_name else (cpu_name, "cpu")
    if not name or re.search(r"\bMIG\b", name):
        return None
    found = [(length, card) for card in cards() if card.kind == kind and (length := _covers(card, name)) is not None]
    longest = max((length for length, _ in found), default=0)
    best = [card for length, card in found if length == longest]
    nearest = [card for card in best if Path(card.file).parent == Path(best[0].file).parent]
    return nearest[0] if len(nearest) == 1 else None


def _covers(card: PlatformCard, name: str) -> int | None:
    """How many characters of the name a pattern of the card covers, as whole words; None for no match."""
    if not card.match:
        return 0 if card.kind == "cpu" else None
    hits = [re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", name, re.IGNORECASE) for pattern in card.match]
    return max((len(hit[0]) for hit in hits if hit), default=None)


@cache
def _cards(places: tuple[Path, ...]) -> tuple[PlatformCard, ...]:
    found: dict[str, PlatformCard] = {}
    for place in places:
        for path in sorted(place.glob("*.yaml")):
            if path.stem not in found:
                found[path.stem] = read_card(path)
    return tuple(found.values())


def read_card(path: Path) -> PlatformCard:
    """One card. Raises UserError naming the file and what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"platform card {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"platform card {path} is no mapping: it needs name, kind, match, {', '.join(_GROUPS)}")
    where = f"platform card {path}"
    for key in content:
        choose(str(key), ("name", "kind", "match", "compute_capability", *_GROUPS), f"key in {where}")
    groups = {name: _group(content.get(name), name, where) for name in _GROUPS}
    flops = groups["peak"]["flops"] or {}
    if not isinstance(flops, dict):
        raise UserError(f"{where}: peak.flops must map {', '.join(ARITHMETIC)} to FLOP/s, not {flops!r}")
    for key in flops:
        choose(str(key), ARITHMETIC, f"arithmetic in {where}")
    size = _number(groups["memory"]["bytes"], "memory.bytes", where)
    return PlatformCard(
        name=_text(content.get("name"), "name", where) or path.stem,
        kind=choose(str(content.get("kind", "gpu")), KINDS, f"kind in {where}"),
        match=_patterns(content.get("match"), where),
        compute_capability=_text(content.get("compute_capability"), "compute_capability", where),
        peak_flops={key: _number(flops.get(key), f"peak.flops.{key}", where) for key in ARITHMETIC},
        mem_bytes=None if size is None else int(size),
        mem_bandwidth_bytes_per_s=_number(groups["memory"]["bandwidth_bytes_per_s"], "memory.bandwidth_bytes_per_s", where),
        tdp_w=_number(groups["power"]["tdp_w"], "power.tdp_w", where),
        price_per_hour=_number(groups["price"]["per_hour"], "price.per_hour", where, least=0),
        currency=_text(groups["price"]["currency"], "price.currency", where),
        billing=_text(groups["price"]["billing"], "price.billing", where),
        origin={name: _origin(group, name, where) for name, group in groups.items()},
        file=str(path),
    )


def _group(value: Any, name: str, where: str) -> dict[str, Any]:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: {name} must be a mapping with {', '.join(_GROUPS[name])}, not {value!r}")
    for key in value:
        choose(str(key), (*_GROUPS[name], *_ORIGIN), f"key of {name} in {where}")
    return {**dict.fromkeys(_GROUPS[name]), **value}


def _origin(group: Mapping[str, Any], name: str, where: str) -> Origin:
    as_of, verified = group.get("as_of"), group.get("verified", False)
    if as_of is not None and not isinstance(as_of, datetime.date):
        raise UserError(f"{where}: {name}.as_of must be a date such as 2026-11-21, not {as_of!r}")
    if not isinstance(verified, bool):
        raise UserError(f"{where}: {name}.verified must be true or false, not {verified!r}")
    source, note = (_text(group.get(key), f"{name}.{key}", where) for key in ("source", "note"))
    return Origin(as_of.isoformat() if as_of else None, source or "no source given", verified, note)


def _patterns(value: Any, where: str) -> tuple[str, ...]:
    value = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise UserError(f"{where}: match must be a regular expression or a list of them, not {value!r}")
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(f"{where}: match {pattern!r} is no regular expression: {error}") from error
    return tuple(value)


def _number(value: Any, name: str, where: str, least: float | None = None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where}: {name} must be a number or null, not {value!r} (YAML wants 8.1e+12, with point and sign)")
    if not (0 < value < math.inf or value == least):
        raise UserError(f"{where}: {name} must be greater than 0, not {value!r}; unknown is null")
    return float(value)


def _text(value: Any, name: str, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict | list | bool):
        raise UserError(f"{where}: {name} must be text, not {value!r}")
    return str(value)
