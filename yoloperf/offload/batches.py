"""Part "batches": one image a request against several: where the time of an image goes, and whether batching pays."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload.batches_results import results_of
from yoloperf.offload.checks import part_settings, positive, whole
from yoloperf.offload.exchange import encode
from yoloperf.offload.kept import check_model, service_url
from yoloperf.offload.part import Cell, Done, Results
from yoloperf.offload.passes import links_of, send
from yoloperf.offload.pictures import FULL, LARGEST, find_pictures
from yoloperf.offload.samples import load_samples, route
from yoloperf.offload.study import DETECTION, Study
from yoloperf.service.limits import Limits

_DEFAULTS: dict[str, Any] = {
    "images": [1, 2, 4, 8, 16, 32],  # a request
    "size": 416,  # pixels of the longer side, or full
    "quality": 75,  # of JPEG
    "repeats": 20,  # requests of a cell
    "seconds": 120.0,  # the most for them
}


class Batches:
    name = "batches"
    title = "One image a request or several"

    def cells(self, study: Study) -> list[Cell]:
        settings = _settings(study)
        common = {
            "model": study.model,
            "data": study.data,
            "split": study.split,
            "pictures": study.images,
            "seed": study.seed,
            "pool": max(settings["images"]),
            **{key: settings[key] for key in ("size", "quality", "repeats", "seconds")},
        }
        return [
            Cell(f"{link.name}_{images}", {"link": asdict(link), "images": images, **common})
            for link in links_of(study)
            for images in settings["images"]
        ]

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        images, size, quality, repeats = (cell.settings[key] for key in ("images", "size", "quality", "repeats"))
        link = next(link for link in links_of(study) if link.name == cell.settings["link"]["name"])
        files, classes, unusable = _files(study, size, quality)
        url = service_url(study.remote, [study.model])
        model = study.model.partition("=")[0]
        served = check_model(url, model, study.workload, classes)
        # every number of images a request goes round the same files
        pool = [files[place % len(files)] for place in range(cell.settings["pool"])]
        round_about = [[pool[(images * number + place) % len(pool)] for place in range(images)] for number in range(repeats)]
        requests = [encode(route(study), group, {"model": model}) for group in round_about[: len(pool)]]
        sent = send(cell.name, link, url, requests, repeats, cell.settings["seconds"])
        write_atomic(folder / "requests.csv", to_csv(RequestRecord, sent.records))
        if all(record.error for record in sent.records):
            raise UserError(sent.reason or "no request was answered")
        return {
            "model": model,
            "runtime": f"{served['runtime']} {served['precision']}",
            "model_digest": served["digest"],
            "link": link.name,
            "images": images,
            "size": size,
            "quality": None if size == FULL else quality,
            "file_bytes": fmean(len(content) for _, content in pool),
            "unusable": unusable,
            "reason": sent.reason or sent.clock,
            "clock_error_s": sent.clock_error_s,
        }

    def results(self, done: Sequence[Done], study: Study) -> Results:
        return results_of(done)


PART = Batches()


def _files(study: Study, size: int | str, quality: int) -> tuple[list[tuple[str, bytes]], int | None, list[str]]:
    """Names and contents, the number of classes where the data tell it, and a line for each file that cannot be used."""
    if study.workload == DETECTION:
        found = find_pictures(study)
        return [(picture.name, picture.encoded(size, quality)) for picture in found.pictures], len(found.names), found.unusable
    return [(sample.name, sample.content) for sample in load_samples(study)], None, []


def _settings(study: Study) -> dict[str, Any]:
    """The part's settings with their defaults. Raises UserError naming the key."""
    settings = part_settings(study, PART.name, _DEFAULTS)
    if study.workload != DETECTION:
        if settings["size"] != _DEFAULTS["size"] and settings["size"] != FULL:
            raise UserError(f"batches: size is that of a detector's pictures; files for {study.workload} are sent as they are")
        settings["size"] = FULL
    most = Limits().images
    images = settings["images"]
    if not isinstance(images, list) or not images or not all(whole(count, 1, most) for count in images):
        raise UserError(f"batches: images must be a list of whole numbers from 1 to {most}, which a request may have, not {images!r}")
    if settings["size"] != FULL and not whole(settings["size"], 1, LARGEST):
        raise UserError(f"batches: size is pixels of the longer side, 1 to {LARGEST}, or {FULL}, not {settings['size']!r}")
    if not whole(settings["quality"], 1, 100):
        raise UserError(f"batches: quality is that of JPEG, 1 to 100, not {settings['quality']!r}")
    if not whole(settings["repeats"], 1, 100_000):
        raise UserError(f"batches: repeats is a whole number of at least 1, not {settings['repeats']!r}")
    if not positive(settings["seconds"]):
        raise UserError(f"batches: seconds is a number greater than 0, not {settings['seconds']!r}")
    return {**settings, "images": sorted(set(images))}
