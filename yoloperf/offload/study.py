"""Study: what an offload study is about, read from its YAML file."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.spec import PRECISIONS
from yoloperf.core.yamlfile import read_yaml
from yoloperf.datasets.config import SPLITS

# part's name -> module whose PART it is; in the order of measuring and of the page
PARTS = {
    "places": "yoloperf.offload.places",
    "resolution": "yoloperf.offload.resolution",
    "batches": "yoloperf.offload.batches",
    "load": "yoloperf.offload.load_part",
    "scaling": "yoloperf.offload.scaling",
}
DETECTION, CLASSIFICATION, KEYWORDS = WORKLOADS = ("detection", "classification", "keywords")
RUNTIMES = ("auto", "torch", "onnxruntime", "openvino")  # of yolo.runtimes, which would bring torch along

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class LinkSpec:
    """A link between client and service. Bits per second upwards (to the service) and downwards, None: not limited; added
    round-trip time in seconds."""

    name: str
    up_bps: float | None = None
    down_bps: float | None = None
    rtt_s: float = 0.0


@dataclass(frozen=True)
class Place:
    """A machine that can do the work: how the detector runs there. url: a service that is there already (then the rest only says what
    it is); power_w and price_per_hour: where known, the price in a currency (ISO 4217)."""

    name: str
    runtime: str = "auto"
    precision: str | None = None
    threads: int | None = None
    url: str | None = None
    power_w: float | None = None
    price_per_hour: float | None = None
    currency: str | None = None

    def measured(self) -> dict[str, Any]:
        """What a measurement depends on, as the settings of a cell hold it: what the place costs is stated, before or afterwards."""
        plain = dataclasses.asdict(dataclasses.replace(self, power_w=None, price_per_hour=None))
        del plain["currency"]  # while the other two stay as None: cells that were measured before it was a key keep their hash
        return plain


@dataclass(frozen=True)
class Study:
    """model: "NAME=WEIGHTS" as for `yoloperf serve`; data, split: pictures with labels; parts: part's name -> its own settings.

    workload: kind of the model; of every other one than detection, data is a folder of files with a folder for each class.
    """

    name: str
    model: str
    data: str
    split: str = "val"
    images: int = 128
    seed: int = 0
    local: Place = Place("local")
    remote: Place = Place("remote")
    links: tuple[LinkSpec, ...] = ()
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    workload: str = DETECTION


def read_study(path: Path) -> Study:
    """Read and check a study file. Raises UserError with the nearest valid key, value or file.

    A part without settings in the file is left out of the study; an empty mapping takes its defaults. What a part's settings may be
    the part knows.
    """
    where = str(path)
    content = _mapping(read_yaml(path, "study file", "offload*.yaml"), where)
    _known(content, [item.name for item in dataclasses.fields(Study)], where)
    for key in ("model", "data", "parts"):
        if not content.get(key):
            raise UserError(f"{where} lacks {key}: {_LACKS[key]}")
    parts = _mapping(content["parts"], f"parts of {where}")
    _known(parts, PARTS, f"parts of {where}", "part")
    workload = choose(str(content.get("workload", DETECTION)), WORKLOADS, f"workload in {where}")
    local, remote = (_place(name, content.get(name), where) for name in ("local", "remote"))
    if local.currency and remote.currency and local.currency != remote.currency:
        raise UserError(f"{where} has prices in {local.currency} and in {remote.currency}: state both in one currency")
    if workload != DETECTION:
        _only_what_others_can(workload, (local, remote), parts, where)
    return Study(
        name=_name(content.get("name", path.stem), f"name in {where}"),
        model=_model(content["model"], where),
        data=_text(content["data"], f"data in {where}"),
        split=choose(str(content.get("split", Study.split)), SPLITS, f"split in {where}"),
        images=_whole(content.get("images", Study.images), f"images in {where}", 1),
        seed=_whole(content.get("seed", Study.seed), f"seed in {where}", 0),
        local=local,
        remote=remote,
        links=_links(content.get("links"), where),
        parts={name: dict(_mapping(parts[name], f"{name} in {where}")) for name in PARTS if name in parts},
        workload=workload,
    )


_LACKS = {
    "model": "give NAME=WEIGHTS, such as tiny=yolov3-tiny.weights",
    "data": "give a data YAML with labels, such as coco128.yaml",
    "parts": f"give settings of one or more, such as {{places: {{}}}}; there are {', '.join(PARTS)}",
}


def _only_what_others_can(workload: str, places: Iterable[Place], parts: Iterable[str], where: str) -> None:
    """A setting that would be without effect is refused: who reads the study would believe it."""
    if "resolution" in parts:
        raise UserError(f"part resolution in {where} needs a detector, and the workload is {workload}: leave it out")
    for place in places:
        if place.runtime not in ("auto", "torch") or place.precision not in (None, "auto", "fp32"):
            raise UserError(f"{place.name} of {where}: {workload} runs in PyTorch in fp32: leave runtime and precision out")


def _place(name: str, value: Any, where: str) -> Place:
    where = f"{name} of {where}"
    content = _mapping(value, where)
    _known(content, [item.name for item in dataclasses.fields(Place)], where)
    precision, threads = content.get("precision"), content.get("threads")
    price = _optional(content, "price_per_hour", where, zero=True)
    return Place(
        name=_name(content.get("name", name), f"name in {where}"),
        runtime=choose(str(content.get("runtime", Place.runtime)), RUNTIMES, f"runtime in {where}"),
        precision=None if precision is None else choose(str(precision), PRECISIONS, f"precision in {where}"),
        threads=None if threads is None else _whole(threads, f"threads in {where}", 1),
        url=_url(content.get("url"), where),
        power_w=_optional(content, "power_w", where),
        price_per_hour=price,
        currency=_currency(content.get("currency"), where, price),
    )


def _links(value: Any, where: str) -> tuple[LinkSpec, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise UserError(f"links in {where} must be a list such as [{{name: wifi, up_mbps: 20, down_mbps: 20, rtt_ms: 5}}], not {value!r}")
    links = []
    for number, item in enumerate(value, 1):
        spot = f"link {number} of {where}"
        content = _mapping(item, spot)
        _known(content, ("name", "up_mbps", "down_mbps", "rtt_ms"), spot)
        if "name" not in content:
            raise UserError(f"{spot} lacks its name, such as wifi")
        name = _name(content["name"], f"name of {spot}")
        up, down = (_optional(content, key, f"link {name} of {where}") for key in ("up_mbps", "down_mbps"))
        rtt = _optional(content, "rtt_ms", f"link {name} of {where}", zero=True)
        links.append(LinkSpec(name, up and up * 1e6, down and down * 1e6, (rtt or 0.0) / 1e3))
    twice = [name for name, count in Counter(link.name for link in links).items() if count > 1]
    if twice:
        raise UserError(f"links in {where} has {twice[0]!r} twice: give each a name of its own")
    return tuple(links)


def _model(value: Any, where: str) -> str:
    text = _text(value, f"model in {where}")
    name, separator, weights = text.partition("=")
    if not separator:
        name, weights = Path(text).stem, text
    if not _NAME.fullmatch(name) or not weights:
        raise UserError(f"model in {where} must be NAME=WEIGHTS, such as {_LACKS['model'].split()[-1]}, not {value!r}")
    return f"{name}={weights}"


def _url(value: Any, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^/\s]+\S*", value):
        raise UserError(f"url in {where} must be the address of a service, such as http://host:8080, not {value!r}")
    return value.rstrip("/")


def _currency(value: Any, where: str, price: float | None) -> str | None:
    if value is None and price is not None:
        raise UserError(f"price_per_hour in {where} lacks its currency: give currency: USD, or another of three letters")
    if value is not None and not (isinstance(value, str) and re.fullmatch("[A-Z]{3}", value)):
        raise UserError(f"currency in {where} must be an ISO code of three letters, such as USD, not {value!r}")
    return value


def _mapping(value: Any, where: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a mapping of keys to values, not {value!r}")
    return value


def _known(content: Iterable[Any], keys: Iterable[str], where: str, what: str = "key") -> None:
    for key in content:
        choose(str(key), keys, f"{what} in {where}")


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{what} must be a text, not {value!r}")
    return value


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UserError(f"{what} must have letters, digits, '.', '_' and '-' alone, and begin with one of the first two, not {value!r}")
    return value


def _whole(value: Any, what: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{what} must be a whole number of at least {least}, not {value!r}")
    return value


def _optional(content: dict[Any, Any], key: str, where: str, zero: bool = False) -> float | None:
    """A number that may be left out."""
    value = content.get(key)
    if value is None:
        return None
    least = "at least 0" if zero else "greater than 0 (left out: not known, or not limited)"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        raise UserError(f"{key} in {where} must be a number {least}, not {value!r}")
    return float(value)
