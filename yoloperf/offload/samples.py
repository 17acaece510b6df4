"""What a study sends: pictures for a detector, and files with a label each for work of other kinds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.datasets.folders import data_home
from yoloperf.datasets.images import list_images
from yoloperf.offload.exchange import Exchange, Request, encode
from yoloperf.offload.pictures import load_pictures
from yoloperf.offload.study import DETECTION, KEYWORDS, Study
from yoloperf.workloads.clips import UNKNOWN, WORDS, split_files


@dataclass(frozen=True)
class Sample:
    """A file. label: the class that it shows or says, None where it is no matter of one class; name: unique."""

    name: str
    content: bytes
    label: str | None = None


def load_samples(study: Study) -> list[Sample]:
    """`study.images` files of the split, drawn by the study's seed where there are more. Raises UserError where there are none.

    classification: pictures in a folder each class, named as the weights' classes are; it has no splits. keywords: as Speech
    Commands is laid out; every word that is none of WORDS is "unknown".
    """
    if study.workload == DETECTION:
        return [Sample(picture.name, picture.content) for picture in load_pictures(study)]
    folder = _folder(study.data)
    if study.workload == KEYWORDS:
        names = split_files(folder, study.split)
    else:
        names = [path.relative_to(folder).as_posix() for path in list_images(folder) if path.parent != folder]
    if not names:
        raise UserError(f"{folder} has no files for {study.workload}: they lie in folders that are named for their class")
    if len(names) > study.images:
        names = [names[place] for place in sorted(random.Random(study.seed).sample(range(len(names)), study.images))]
    return [_sample(folder, name, study.workload) for name in names]


def requests_of(study: Study, samples: Sequence[Sample], model: str | None = None) -> list[Request]:
    """A request each, to the route for the study's kind of work."""
    fields = {"model": model} if model else {}
    return [encode(route(study), [(sample.name, sample.content)], fields) for sample in samples]


def route(study: Study) -> str:
    return "/api/detect" if study.workload == DETECTION else "/api/predict"


def accuracy(exchanges: Sequence[Exchange], samples: Sequence[Sample]) -> float | None:
    """Share of the answered samples whose best label is the true one; None where they have no label, or nothing was answered."""
    truth = {sample.name: sample.label for sample in samples if sample.label is not None}
    heard = {exchange.request.sample: _best(exchange.payload) for exchange in exchanges if exchange.error is None}
    known = [heard[name] == label for name, label in truth.items() if name in heard]
    return sum(known) / len(known) if known else None


def _best(payload: Any) -> str | None:
    """Of the first file. What is no answer of the service's is no label."""
    try:
        return str(payload["results"][0]["labels"][0]["name"])
    except (KeyError, IndexError, TypeError):
        return None


def _folder(data: str) -> Path:
    """By path, or by name in the data folder."""
    for folder in (Path(data), data_home() / data):
        if folder.is_dir():
            return folder
    raise UserError(f"no folder {data}, here or in {data_home()}: `yoloperf keywords synth` makes one of spoken words")


def _sample(folder: Path, name: str, workload: str) -> Sample:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise UserError(f"{folder / name} cannot be read: {error.strerror}") from error
    label = Path(name).parts[0]
    return Sample(name, content, UNKNOWN if workload == KEYWORDS and label not in WORDS else label)
