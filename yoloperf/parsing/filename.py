"""Facts that only the name of a log says, such as `bare_metal_bs4_ep1_lr1_tiny.txt`: the log's own word is taken first."""

import re
from pathlib import Path

from yoloperf.parsing.draft import FILE_NAME, Draft

_NAME = re.compile(
    r"(?:(?P<platform>[a-z0-9]+(?:[_-][a-z0-9]+)*?)[_-])?bs(?P<batch>\d+)[_-]ep(?P<epochs>\d+)"
    r"(?:[_-]lr[\d.]+)?(?P<tiny>[_-]tiny)?(?![a-z0-9])",
    re.IGNORECASE,
)


def take_file_name(draft: Draft, path: Path) -> None:
    """Fill what the log left open from the file name, and note where the two differ. Notes say which source won."""
    match = _NAME.search(path.stem)
    if not match:
        return
    if match["platform"]:
        draft.set("platform", match["platform"], FILE_NAME)
    for column, text in (("batch_size", match["batch"]), ("epochs", match["epochs"])):
        said = draft.facts.get(column)
        if said is None:
            draft.set(column, int(text), FILE_NAME)
            if column in draft.facts:
                draft.notes.append(f"{column} from the file name")
        elif said != int(text):
            draft.notes.append(f"{column} {said} from the log; the file name says {text}")
    model = "yolov3-tiny" if match["tiny"] else "yolov3"
    if "model" not in draft.facts:
        draft.set("model", model, FILE_NAME)
        draft.notes.append("model from the file name")
    elif ("tiny" in draft.facts["model"]) != ("tiny" in model):
        draft.notes.append(f"model {draft.facts['model']} from the log; the file name says {model}")
