"""What every item of the recipe and of the speed is worth: each is switched off in turn, over several seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from yoloperf.bench.contest import Contender, Outcome, contest
from yoloperf.core.environment import SOURCE_ROOT
from yoloperf.core.rundir import write_atomic
from yoloperf.core.spec import TrialSpec

_WHOLE = "everything"
# item -> keys of the recipe that switch it off
_RECIPE: dict[str, dict[str, Any]] = {
    "mosaic": {"mosaic": 0.0},
    "last epochs without mosaic": {"plain_epochs": 0.0},
    "zoom and shift": {"scale": 0.0, "translate": 0.0},
    "mirroring": {"fliplr": 0.0, "flipud": 0.0},
    "colour": {"hue": 0.0, "saturation": 0.0, "value": 0.0},
    "averaged weights": {"ema_decay": 0.0},
    "warm-up": {"warmup_epochs": 0.0},
    "cosine schedule": {"schedule": "linear"},
    "AdamW (SGD at 0.01)": {"optimizer": "sgd", "lr0": 0.01, "weight_decay": 0.0005},
}
# item -> fields of the spec that switch it off
_SPEC: dict[str, dict[str, Any]] = {
    "fastest arithmetic (fp32)": {"precision": "fp32"},
    "images decoded once": {"cache": "none"},
}


@dataclass(frozen=True)
class Worth:
    """What is lost without an item: difference of mAP@0.5 and ratio of images/s, with over without it, mean and spread over seeds.

    The rate is that of all epochs: the last ones are plain whatever the recipe says of mosaic and zoom.
    """

    item: str
    map50_gain: float | None
    map50_spread: float | None
    speed_gain: float | None
    speed_spread: float | None


def ablate(spec: TrialSpec, seeds: int, folder: Path, tell: Callable[[str, int, Outcome], None]) -> list[Worth]:
    """Train the spec with everything and without each item, for every seed, and compare seed by seed."""
    recipe = yaml.safe_load((SOURCE_ROOT / "cfg" / "hyp" / f"{spec.hyp}.yaml").read_text())
    contenders = [Contender(_WHOLE, {})]
    for item, keys in _RECIPE.items():
        path = folder / "recipes" / f"{len(contenders)}.yaml"
        write_atomic(path, yaml.safe_dump(recipe | keys, sort_keys=False))
        contenders.append(Contender(item, {"hyp": str(path)}))
    contenders += [Contender(item, changed) for item, changed in _SPEC.items()]
    results = contest(contenders, [replace(spec, seed=seed) for seed in range(seeds)], folder, tell)
    whole = results.pop(_WHOLE)
    return [_worth(item, whole, without) for item, without in results.items()]


def _worth(item: str, whole: list[Outcome], without: list[Outcome]) -> Worth:
    pairs = list(zip(whole, without, strict=True))
    scores = [one.map50 - other.map50 for one, other in pairs if one.map50 is not None and other.map50 is not None]
    rates = [(one.images_per_s_of_all, other.images_per_s_of_all) for one, other in pairs]
    speeds = [one / other for one, other in rates if one and other]
    return Worth(item, _mean(scores), _spread(scores), _mean(speeds), _spread(speeds))


def _mean(values: list[float]) -> float | None:
    return mean(values) if values else None


def _spread(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
