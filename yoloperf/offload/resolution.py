"""Part "resolution": how small a picture may be sent: bytes, accuracy and round-trip time over its size and JPEG quality."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload.checks import part_settings, positive, whole
from yoloperf.offload.drive import closed_loop
from yoloperf.offload.exchange import Exchange, Request, encode
from yoloperf.offload.kept import check_model, service_url
from yoloperf.offload.part import Cell, Done, Results
from yoloperf.offload.passes import links_of, send
from yoloperf.offload.pictures import FULL, LARGEST, Pictures, find_pictures
from yoloperf.offload.resolution_results import results_of
from yoloperf.offload.study import DETECTION, Study

_DEFAULTS: dict[str, Any] = {
    "sizes": [16, 32, 64, 96, 128, 224, 320, 416, FULL],
    "quality": [50, 75, 95],
    "models": [],  # "NAME=WEIGHTS"; none: the study's
    "requests": 30,  # whose round trip is measured, over each link
    "resamples": 200,
    "seconds": 60.0,  # the most for the round trips over a link
}
_CONNECTIONS = 2  # while accuracy is measured and time is not


class Resolution:
    name = "resolution"
    title = "Picture size: bytes, accuracy, round-trip time"

    def cells(self, study: Study) -> list[Cell]:
        settings = _settings(study)
        common = {
            "data": study.data,
            "split": study.split,
            "images": study.images,
            "seed": study.seed,
            "links": [asdict(link) for link in links_of(study)],
            **{key: settings[key] for key in ("requests", "resamples", "seconds")},
        }
        cells = []
        for model in settings["models"]:
            name = model.partition("=")[0]
            for size in sorted(settings["sizes"], key=lambda size: (size != FULL, 0 if size == FULL else -size)):
                for quality in [None] if size == FULL else settings["quality"]:
                    cell = f"{name}_{size}" if quality is None else f"{name}_{size}_q{quality}"
                    cells.append(Cell(cell, {"model": model, "size": size, "quality": quality, **common}))
        return cells

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        settings = _settings(study)
        model, size, quality = (cell.settings[key] for key in ("model", "size", "quality"))
        name = model.partition("=")[0]
        found = find_pictures(study)
        url = service_url(study.remote, settings["models"])
        served = check_model(url, name, DETECTION, len(found.names))
        contents = [(picture.name, picture.encoded(size, quality)) for picture in found.pictures]
        records: list[RequestRecord] = []

        def keep(more: Sequence[RequestRecord]) -> None:
            records.extend(more)
            write_atomic(folder / "requests.csv", to_csv(RequestRecord, records))

        accuracy, own = _accuracy(cell, found, url, name, contents)
        keep(own)
        if accuracy is None:
            failed = [record for record in own if record.error] or own
            raise UserError(
                f"{len(found.pictures) - sum(not record.error for record in own)} of {len(found.pictures)} pictures "
                f"have no answer: {failed[0].error}"
            )
        # with the service's own choice of boxes: those that mAP needs are so many that their way back would count
        requests = [encode("/api/detect", [content], {"model": name}) for content in contents[: settings["requests"]]]
        links: dict[str, dict[str, Any]] = {}
        for link in links_of(study):
            try:
                sent = send(cell.name, link, url, requests, settings["requests"], settings["seconds"])
            except UserError as error:
                links[link.name] = {"reason": str(error), "clock_error_s": None}
                continue
            keep(sent.records)
            links[link.name] = {"reason": sent.reason or sent.clock, "clock_error_s": sent.clock_error_s}
        return {
            "model": name,
            "size": size,
            "quality": quality,
            "pictures": len(found.pictures),
            "pictures_digest": found.digest(),
            "unusable": found.unusable,
            "longest_side": max(max(picture.width, picture.height) for picture in found.pictures),
            "file_bytes": fmean(len(content) for _, content in contents),
            "runtime": f"{served['runtime']} {served['precision']}",
            "model_digest": served["digest"],
            "links": links,
            **accuracy,
        }

    def results(self, done: Sequence[Done], study: Study) -> Results:
        return results_of(done)


PART = Resolution()


def _accuracy(
    cell: Cell, found: Pictures, url: str, model: str, contents: Sequence[tuple[str, bytes]]
) -> tuple[dict[str, Any] | None, list[RequestRecord]]:
    """What the summary says of accuracy, None where a picture has no answer; and the requests."""
    from yoloperf.offload.accuracy import FIELDS, boxes_of, measure_accuracy  # brings torch along, which results do without

    requests: list[Request] = [encode("/api/detect", [content], FIELDS | {"model": model}) for content in contents]
    exchanges = closed_loop(url, requests, len(requests), _CONNECTIONS, progress=f"{cell.name} accuracy")
    records = [one.record(number, exchanges[0].sent_at, cell=f"{cell.name}@accuracy") for number, one in enumerate(exchanges)]
    answers = {one.request.sample: one for one in exchanges if one.error is None}
    if len(answers) < len(requests):
        return None, records
    boxes = [boxes_of(_result(answers[picture.name]), picture) for picture in found.pictures]
    accuracy = measure_accuracy(found.pictures, boxes, cell.settings["resamples"], cell.settings["seed"])
    if accuracy is None:
        raise UserError(f"the pictures of {cell.settings['data']} {cell.settings['split']} have no labels: accuracy needs some")
    counts = [int(label) for picture in found.pictures for label in picture.boxes[:, 0]]
    return {
        "map50": accuracy.map50,
        "map50_95": accuracy.map50_95,
        "class_ap50": {found.names[label]: ap for label, ap in accuracy.class_ap50.items()},
        "class_boxes": {found.names[label]: counts.count(label) for label in accuracy.class_ap50},
        "resampled50": accuracy.resampled50,
        "resampled50_95": accuracy.resampled50_95,
    }, records


def _result(exchange: Exchange) -> dict[str, Any]:
    assert exchange.payload is not None
    result: dict[str, Any] = exchange.payload["results"][0]
    return result


def _settings(study: Study) -> dict[str, Any]:
    """The part's settings with their defaults. Raises UserError naming the key."""
    settings = part_settings(study, PART.name, _DEFAULTS)
    sizes, quality, models = (_several(settings[key], key) for key in ("sizes", "quality", "models"))
    if not all(size == FULL or whole(size, 1, LARGEST) for size in sizes) or not sizes:
        raise UserError(f"resolution: sizes are pixels of the longer side, 1 to {LARGEST}, or {FULL}, not {sizes}")
    if not all(whole(one, 1, 100) for one in quality) or not quality:
        raise UserError(f"resolution: quality is that of JPEG, 1 to 100, not {quality}")
    if not all(isinstance(model, str) and model.partition("=")[2] for model in models):
        raise UserError(f"resolution: models are NAME=WEIGHTS, not {models}")
    if len({model.partition("=")[0] for model in models}) < len(models):
        raise UserError(f"resolution: models have one name twice: give each a NAME=WEIGHTS of its own, not {models}")
    for key, least in (("requests", 1), ("resamples", 2)):
        if not whole(settings[key], least, 100_000):
            raise UserError(f"resolution: {key} is a whole number of at least {least}, not {settings[key]!r}")
    if not positive(settings["seconds"]):
        raise UserError(f"resolution: seconds is a number greater than 0, not {settings['seconds']!r}")
    unique = {"sizes": list(dict.fromkeys(sizes)), "quality": sorted(set(quality)), "models": models or [study.model]}
    return {**settings, **unique}


def _several(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"resolution: {key} must be a list, not {value!r}")
    return value
