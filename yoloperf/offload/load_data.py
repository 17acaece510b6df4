"""What a load sends: where to, and requests encoded ahead, so that sending one costs a write."""

import http.client
import json
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2

from yoloperf.core.errors import UserError, choose
from yoloperf.datasets.images import list_images
from yoloperf.datasets.smear import draw
from yoloperf.offload.exchange import Request, encode

SMEARS = 16
MOST_FILES = 256  # of a folder: more do not make the load another one, and all of them lie in memory
_ROUTES = {"detection": "/api/detect"}
_SOUNDS = frozenset((".wav", ".flac", ".ogg", ".mp3"))


@dataclass(frozen=True)
class Target:
    """url: scheme, host and port; kind: of the model, None where the path was given and nobody was asked."""

    url: str
    path: str
    kind: str | None


def find_target(url: str, model: str | None, token: str | None, timeout_s: float = 10.0) -> Target:
    """Where requests go: a URL's own path, else the route for the kind of the model. Raises UserError."""
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or "://" in url)
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise UserError(f"{url!r} is no address of a service: give host:port, as in 127.0.0.1:8080, or http(s)://host[:port][/path]")
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.path.strip("/"):
        return Target(base, parts.path + (f"?{parts.query}" if parts.query else ""), None)
    models = _models(base, token, timeout_s)
    if model is not None:
        choose(model, models, f"model at {base}")
    kind = models[model] if model is not None else next(iter(models.values()))
    return Target(base, _ROUTES.get(kind, "/api/predict"), kind)


def _models(base: str, token: str | None, timeout_s: float) -> dict[str, str]:
    """Model -> kind, the default one first."""
    request = urllib.request.Request(f"{base}/api/models", headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            models = json.load(answer)["models"]
        listed = sorted(models, key=lambda model: not model.get("default"))
        return {model["name"]: model.get("kind", "detection") for model in listed}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{base} does not tell its models ({error or type(error).__name__}): is a service running there? Of another kind, give its path"
        ) from error


def make_requests(
    target: Target, data: Sequence[Path], model: str | None, images: int, token: str | None, seed: int = 0
) -> tuple[list[Request], str]:
    """Requests of `images` files each, and a line about what they hold. Raises UserError where there are no files."""
    files, words = _files(data, target.kind) if data else _smears(target.kind, seed)
    if images < 1:
        raise UserError(f"--images-per-request must be at least 1, not {images}")
    fields = {"model": model} if model else {}
    groups = [[files[(first + step) % len(files)] for step in range(images)] for first in range(0, len(files), images)]
    return [encode(target.path, group, fields, token) for group in groups], words


def _smears(kind: str | None, seed: int) -> tuple[list[tuple[str, bytes]], str]:
    if kind == "keywords":
        raise UserError("this model hears sounds, and the embedded data are pictures: give --data with sound files")
    files = []
    for index in range(SMEARS):
        _, data = cv2.imencode(".jpg", draw(seed, index)[0], [cv2.IMWRITE_JPEG_QUALITY, 88])
        files.append((f"smear_{index:05}.jpg", data.tobytes()))
    return files, f"{SMEARS} synthetic blood smears"


def _files(data: Sequence[Path], kind: str | None) -> tuple[list[tuple[str, bytes]], str]:
    found: list[Path] = []
    for entry in data:
        if not entry.is_dir():
            found.append(entry)
        elif kind in ("detection", "classification"):
            found += list_images(entry)
        else:
            every = (path for path in sorted(entry.rglob("*")) if path.is_file() and not path.name.startswith("."))
            found += [path for path in every if kind is None or path.suffix.lower() in _SOUNDS]
    if not found:
        raise UserError(f"no files in {', '.join(map(str, data))}: give --data a folder with some")
    files = []
    for path in islice(found, MOST_FILES):
        try:
            files.append((path.name, path.read_bytes()))
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
    return files, f"{len(files)} files" + (f", the first of {len(found)}" if len(found) > len(files) else "")
