"""A service that the cells of a study share: started by the first that needs it, kept for the next, gone with the process."""

import atexit
import contextlib
from collections.abc import Sequence

from yoloperf.offload.services import Service, running
from yoloperf.offload.study import Place

_open = contextlib.ExitStack()
_kept: dict[tuple[str, ...], Service] = {}
atexit.register(_open.close)


def service_url(place: Place, models: Sequence[str]) -> str:
    """Address of a service at a place with these models ("NAME=WEIGHTS"): the place's own, or one that runs until another is asked
    for. Raises UserError where it does not start."""
    if place.url:
        return place.url
    flags = ["--runtime", place.runtime, *(("--threads", str(place.threads)) if place.threads else ())]
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
