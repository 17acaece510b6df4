"""Recipe: how a detector is trained. One YAML in cfg/hyp/; docs/decisions.md says how the default was found."""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from yoloperf.core.errors import UserError, choose

FOLDER = Path(__file__).resolve().parents[2] / "cfg" / "hyp"


@dataclass(frozen=True)
class Recipe:
    """Keys of a recipe YAML. Rates are per optimiser step, gains multiply losses, augmentation figures are maxima."""

    optimizer: str  # adamw or sgd
    lr0: float  # learning rate after warm-up
    lrf: float  # final learning rate as a part of lr0
    schedule: str  # cosine or linear
    momentum: float  # of sgd; beta1 of adamw
    weight_decay: float  # of weights with more than one dimension
    warmup_epochs: float
    ema_decay: float  # of the averaged weights that are validated and saved
    ema_ramp_steps: float  # steps until the decay has risen to 63 % of its value
    box: float  # gain of 1 - CIoU
    obj: float  # gain of the objectness BCE
    cls: float  # gain of the class BCE
    anchor_ratio: float  # a box is assigned to anchors within this factor of its sides; where none is, to the nearest
    mosaic: float  # probability of composing a picture of four
    plain_epochs: float  # part of the epochs, the last ones, without mosaic and zoom: pixels are those of validation
    hue: float  # part of a turn
    saturation: float  # gain
    value: float  # gain
    translate: float  # part of the side
    scale: float  # gain
    fliplr: float  # probability
    flipud: float  # probability


_ANY = 0.0, math.inf
_PART = 0.0, 1.0
_LEAST = 1e-9  # greater than 0
_LIMITS = {  # smallest and largest value with which a training is one
    "lr0": (_LEAST, math.inf),
    "lrf": _ANY,
    "momentum": (0.0, 0.9999),
    "weight_decay": _ANY,
    "warmup_epochs": _ANY,
    "ema_decay": _PART,
    "ema_ramp_steps": (_LEAST, math.inf),
    "box": _ANY,
    "obj": _ANY,
    "cls": _ANY,
    "anchor_ratio": (1.0, math.inf),
    "mosaic": _PART,
    "plain_epochs": _PART,
    "hue": _PART,
    "saturation": _PART,
    "value": _PART,
    "translate": _PART,
    "scale": (0.0, 0.99),  # at 1 a picture may shrink to nothing
    "fliplr": _PART,
    "flipud": _PART,
}


def load_recipe(name: str) -> Recipe:
    """Recipe by path or by its name in cfg/hyp/. Raises UserError for unknown names, unknown or missing keys, values out of range."""
    path = Path(name)
    if not path.is_file():
        names = [known.stem for known in FOLDER.glob("*.yaml")]
        path = FOLDER / f"{choose(path.stem if path.parent == Path() else name, names, 'recipe')}.yaml"
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is no YAML: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if not isinstance(values, dict):
        raise UserError(f"recipe {path} holds no keys")
    names = [item.name for item in fields(Recipe)]
    for key in values:
        choose(str(key), names, f"key in recipe {path}")
    missing = [key for key in names if key not in values]
    if missing:
        raise UserError(f"recipe {path} lacks {', '.join(missing)}")
    choose(str(values["optimizer"]), ("adamw", "sgd"), "optimizer")
    choose(str(values["schedule"]), ("cosine", "linear"), "schedule")
    try:
        numbers = {item.name: float(values[item.name]) for item in fields(Recipe) if item.type == "float" or item.type is float}
    except (TypeError, ValueError) as error:
        raise UserError(f"recipe {path}: {error}") from error
    for key, number in numbers.items():
        least, most = _LIMITS[key]
        if not least <= number <= most or math.isinf(number):
            bounds = "above 0" if least == _LEAST else f"at least {least:g}" if math.isinf(most) else f"from {least:g} to {most:g}"
            raise UserError(f"recipe {path}: {key} must be {bounds}, not {number:g}")
    return Recipe(**{**values, **numbers})
