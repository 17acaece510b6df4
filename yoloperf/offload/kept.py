"""A service that the cells of a study share: started by the first that needs it, kept for the next, gone with the process."""

import atexit
import contextlib
import http.client
import json
import urllib.request
from collections.abc import Sequence
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.offload.services import Service, running
from yoloperf.offload.study import DETECTION, Place

_open = contextlib.ExitStack()
_kept: dict[tuple[str, ...], Service] = {}
atexit.register(_open.close)


def service_url(place: Place, models: Sequence[str]) -> str:
    """Address of a service at a place with these models ("NAME=WEIGHTS"): the place's own, or one that runs until another is asked
    for. Raises UserError where it does not start."""
    if place.url:
        return place.url
    flags = ["--runtime", place.runtime]
    flags += ["--precision", place.precision] if place.precision else []
    flags += ["--threads", str(place.threads)] if place.threads else []
    key = (*models, *flags)
    kept = _kept.get(key)
    if kept is None or kept.process is None or kept.process.poll() is not None:
        release()
        kept = _kept[key] = _open.enter_context(running(models, *flags))
    return kept.url


def release() -> None:
    """End the service that is kept."""
    _kept.clear()
    _open.close()


def check_model(url: str, name: str, kind: str, classes: int | None) -> dict[str, Any]:
    """What the service says of a model. Raises UserError where it is down, has no such model, or one of another kind or, where that
    is known, number of classes."""
    try:
        with urllib.request.urlopen(f"{url}/api/models", timeout=10) as answer:
            models = {model["name"]: model for model in json.load(answer)["models"]}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{url} does not tell its models ({error or type(error).__name__}): is yoloperf's service running there?"
        ) from error
    model = models[choose(name, models, f"model at {url}")]
    own = model.get("kind", DETECTION)
    if own != kind:
        raise UserError(f"model {name} does {own}, and {kind} is asked for: give other weights")
    if classes is not None and len(model["classes"]) != classes:
        raise UserError(f"model {name} has {len(model['classes'])} classes, the data set has {classes}: give weights trained on it")
    return dict(model)
