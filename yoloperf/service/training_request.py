"""What a page may ask to be trained: from which start, on which data, within which bounds."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.datasets.config import data_sets_here
from yoloperf.harness import sweepfile
from yoloperf.yolo.cfg import known_cfgs
from yoloperf.yolo.weights import find_weights

NAME_LENGTH = 40
RANGES = {"batch_size": (1, 512), "epochs": (1, 1000), "lr_scale": (0.01, 100.0), "img_size": (32, 1280)}
_DEFAULTS = {"batch_size": 8, "epochs": 10, "lr_scale": 1.0, "img_size": 416}


@dataclass(frozen=True)
class Request:
    """What a person asks for. model: a name of `models()`; data: a name of a data set here."""

    model: str
    data: str
    batch_size: int
    epochs: int
    lr_scale: float
    img_size: int
    name: str = ""

    @property
    def slug(self) -> str:
        """Its name as a part of a file's."""
        return sweepfile.slug(self.name or f"{Path(self.model).stem}-{self.data}")[:NAME_LENGTH].strip("-.")

    def fields(self) -> dict[str, Any]:
        """The fields of the spec that it asks for. Raises UserError where it cannot be trained."""
        known = models()
        start = known[choose(self.model, known, "model")]
        choose(self.data, [config.name for config in data_sets_here()], "data set")
        for key, (least, most) in RANGES.items():
            if not least <= getattr(self, key) <= most:
                raise UserError(f"{key} must be between {least:g} and {most:g}, not {getattr(self, key):g}")
        return {key: getattr(self, key) for key in RANGES} | {"data": f"{self.data}.yaml", **start}


def models() -> dict[str, dict[str, str]]:
    """What a run can start from -> the fields of the spec that say so: published weights that are here, and every cfg from scratch."""
    found = {}
    for cfg in known_cfgs():
        with suppress(UserError):
            found[find_weights(f"{cfg}.weights").name] = {"weights": f"{cfg}.weights"}
        found[cfg] = {"cfg": cfg, "weights": ""}
    return found


def options(queue: int) -> dict[str, Any]:
    """What the form offers. queue: runs that may wait."""
    known, sets = models(), data_sets_here()
    pretrained = [name for name, start in known.items() if start["weights"]]
    first = {"model": next((name for name in [*pretrained, *known] if "tiny" in name), None), "data": sets[0].name if sets else None}
    return {
        "models": [{"name": name, "pretrained": bool(start["weights"])} for name, start in known.items()],
        "data": [{"name": config.name, "classes": list(config.names)} for config in sets],
        "defaults": {**first, **_DEFAULTS},
        "ranges": {key: {"min": least, "max": most} for key, (least, most) in RANGES.items()},
        "queue": queue,
    }
