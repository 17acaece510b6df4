"""Facts that only the name of a log says, such as `bare_metal_bs4_ep1_lr1_tiny.txt`: the log's own word is taken first."""

import re
from pathlib import Path

from yoloperf.parsing.draft import FILE_NAME, Draft

_NAME = re.compile(
    r"(?:(?P<place>.+?)[_-])?bs(?P<batch>\d+)[_-]ep(?P<epochs>\d+)"
    r"(?P<study>[_-]lr[\d.]+(?P<tiny>[_-]tiny)?)?(?![a-z0-9])",
    re.IGNORECASE,
)
_MODEL = re.compile(r"(?:^|[_-])(yolov?\d+[a-z]*(?:-(?:tiny|spp\d*))?)(?=$|[_-])", re.I)


def take_file_name(draft: Draft, path: Path) -> None:
    """Fill what the log left open from the file name, and note where the two differ. Notes say which source won."""
    match = _NAME.search(path.stem)
    if not match:
        return
    place = match["place"] or ""
    named = _MODEL.findall(place)
    model = named[-1].lower() if named else None
    if not named and match["study"]:  # the 2020 study names only the smaller of its two models
        model = "yolov3-tiny" if match["tiny"] else "yolov3"
    platform = place.removesuffix(named[-1]).strip("_-") if named else place
    if platform:
        draft.set("platform", platform, FILE_NAME)
    for column, value in (("batch_size", int(match["batch"])), ("epochs", int(match["epochs"])), ("model", model)):
        said = draft.facts.get(column)
        if said is None:
            draft.set(column, value, FILE_NAME)
            if column in draft.facts:
                draft.notes.append(f"{column} from the file name")
        elif value is not None and said != value and not (column == "model" and said.startswith(model)):
            draft.notes.append(f"{column} {said} from the log; the file name says {value}")
