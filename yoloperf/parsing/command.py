"""What a trainer's command line or its list of arguments says about the run."""

import re
from collections.abc import Mapping
from functools import lru_cache

from yoloperf.parsing.draft import Draft

_FLAG = re.compile(r"--(batch(?:-size)?|epochs|data|weights|img(?:-size|sz)?|cfg|workers|seed)[ =]+((?!--)[^\s\"']+)")
_ULTRALYTICS = re.compile(r"\b(batch|epochs|data|imgsz|model|workers|seed)=(\S+)")
_TRAINER = re.compile(r"\btrain\w*\.py\b|\byolo(?:\.exe)?\s.*\btrain\b|\bdetect train\b")
_NAMES = {"batch-size": "batch", "img-size": "img", "imgsz": "img"}
_NO_DATASET = {"data", "dataset"}  # file names that many data sets share: the folder says more
_NO_MODEL = {"best", "last", "best_", "last_", ""}  # checkpoints of an earlier run: their name is no architecture


def stem(path: str) -> str:
    name = path.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[0] or name


def dataset(path: str) -> str:
    """Name of a data set from the path of its YAML file."""
    folder = path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
    name = stem(path)
    return folder if name in _NO_DATASET and folder not in ("", ".", "..") else name


@lru_cache(maxsize=256)  # a log says its command twice or more
def _flags(command: str) -> dict[str, str]:
    """Flags of a training command by their shortest names; none for another command."""
    if not _TRAINER.search(command):
        return {}
    flags = {_NAMES.get(name, name): value for name, value in _FLAG.findall(command)}
    if not flags:
        flags = {_NAMES.get(name, name): value for name, value in _ULTRALYTICS.findall(command)}
        flags["weights"] = flags.pop("model", "")
    return flags


def take_command(run: Draft, command: str) -> None:
    """Read the flags of a training command. Only batch size and epochs can contradict what the trainer prints."""
    flags = _flags(command)
    for column, flag in (("batch_size", "batch"), ("epochs", "epochs")):
        if (value := whole(flags.get(flag))) is not None and value > 0:
            run.set(column, value)
    for column, flag in (("img_size", "img"), ("workers", "workers"), ("seed", "seed")):
        run.default(column, whole(flags.get(flag)))
    take_model(run, flags.get("weights", ""), flags.get("cfg", ""))
    if flags.get("data"):
        run.default("dataset", dataset(flags["data"]))


def take_model(run: Draft, weights: str, cfg: str) -> None:
    """Weights and architecture from their file names."""
    if weights.endswith((".yaml", ".yml")):  # 8.x: the model that is trained from scratch
        weights, cfg = "", weights
    if weights:
        run.default("weights", weights)
    for name in (stem(cfg), stem(weights)):
        if name not in _NO_MODEL:
            run.default("model", name)
            break


def whole(value: str | None) -> int | None:
    """A whole number, or None."""
    return int(value) if value and re.fullmatch(r"\d{1,9}", value) else None


def take_arguments(run: Draft, arguments: Mapping[str, str]) -> None:
    """The argument list that a trainer prints of itself (names of yolov3, yolov5 and ultralytics)."""
    arguments = {name: value for name, value in arguments.items() if value != "None"}
    batch = whole(arguments.get("total_batch_size")) or whole(arguments.get("batch_size")) or whole(arguments.get("batch"))
    run.set("batch_size", batch)
    run.set("epochs", whole(arguments.get("epochs")))
    sizes = set(re.findall(r"\d+", arguments.get("img_size") or arguments.get("imgsz") or ""))
    if len(sizes) == 1:
        run.default("img_size", int(sizes.pop()))
    run.default("seed", whole(arguments.get("seed")))
    take_model(run, arguments.get("weights") or arguments.get("model") or "", arguments.get("cfg") or "")
    if arguments.get("data"):
        run.default("dataset", dataset(arguments["data"]))
