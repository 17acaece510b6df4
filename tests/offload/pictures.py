"""A small data set with labels, and the ways of a study to a service that runs already."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from yoloperf.core.record import from_csv
from yoloperf.core.request import RequestRecord
from yoloperf.offload.part import Cell, Done, Part
from yoloperf.offload.study import LinkSpec, Place, Study


def make_data(folder: Path, count: int = 6) -> Path:
    """A data YAML of two classes, its pictures of 96 x 64 with two labels each."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (8, 12, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), cv2.resize(noise, (96, 64), interpolation=cv2.INTER_NEAREST))
        (folder / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.9 0.9\n1 0.3 0.3 0.3 0.4\n")
    yaml = folder / "few.yaml"
    yaml.write_text("path: .\nval: images\nnames: [disc, square]\n")
    return yaml


def study(data: Path, url: str | None, part: str, settings: dict[str, Any], *links: LinkSpec, model: str = "shapes=x.pt") -> Study:
    return Study(
        "few", model, str(data), images=100, remote=Place("remote", "torch", threads=1, url=url), links=links, parts={part: settings}
    )


def measured(part: Part, cell: Cell, of: Study, folder: Path) -> Done:
    """The cell as it is read back from its files."""
    summary = part.measure(cell, of, folder)
    again = json.loads(json.dumps(summary, allow_nan=False))
    return Done(cell, again, from_csv(RequestRecord, (folder / "requests.csv").read_text()))
