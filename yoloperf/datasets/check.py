"""Looks for everything that is wrong with a data set: decodes every image, reads every label, compares contents."""

import hashlib
import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.datasets import voc, yolo_txt
from yoloperf.datasets.config import SPLITS, DataConfig, load_data_config
from yoloperf.datasets.images import PNG, START_OF_SCAN, decode, image_size, jpeg_segments
from yoloperf.datasets.labels import BoxReader, box_reader, find_files, tidy_boxes

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"  # length, kind and checksum of the last chunk, which holds nothing


@dataclass(frozen=True)
class Finding:
    """One fault: what kind it is, where, and what exactly."""

    kind: str
    file: str
    detail: str


@dataclass(frozen=True)
class Report:
    """images and boxes count what could be read."""

    images: int
    boxes: int
    findings: list[Finding]


def config_of(name_or_path: str) -> DataConfig:
    """The data set that a name, a data YAML or a folder with a data YAML or in Pascal VOC layout means."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        return load_data_config(name_or_path)
    files = sorted(folder.glob("*.yaml"))
    if len(files) == 1:
        return load_data_config(files[0])
    lists = {split: [f"ImageSets/Main/{split}.txt"] for split in SPLITS if (folder / f"ImageSets/Main/{split}.txt").is_file()}
    if not lists:
        raise UserError(f"{folder} holds {len(files)} data YAMLs and no ImageSets/Main: give the path of its data YAML")
    names = set().union(*(_class_names(file) for file in folder.glob("Annotations/*.xml")))
    return DataConfig(folder.resolve().name, folder.resolve(), lists, tuple(sorted(names)), "voc")


def _class_names(file: Path) -> set[str]:
    try:
        return voc.class_names(file)
    except UserError:
        return set()  # reported when its boxes are read


def check(config: DataConfig) -> Report:
    """Check all splits of a data set, in several threads."""
    findings = [
        Finding("class named twice", config.name, f"{name} is the name of {count} classes")
        for name, count in Counter(config.names).items()
        if count > 1
    ]
    splits: dict[Path, str] = {}
    labels: dict[Path, Path] = {}
    for split in config.splits:
        try:
            pairs = find_files(config, split)
        except UserError as error:
            findings.append(Finding("unusable split", split, str(error)))
            continue
        if again := [image for image, count in Counter(image for image, _ in pairs).items() if count > 1]:
            detail = f"{len(again)} images are listed more than once in {split}, the first is this one"
            findings.append(Finding("images listed twice", str(again[0]), detail))
        if shared := [image for image, _ in pairs if image in splits]:
            detail = f"{len(shared)} images of {split} are in {splits[shared[0]]} as well, the first is this one"
            findings.append(Finding("images in two splits", str(shared[0]), detail))
        for image, label in pairs:
            splits.setdefault(image, split)
            labels.setdefault(image, label)
    try:
        read_boxes = box_reader(config, list(labels.items()))
    except UserError as error:
        findings.append(Finding("malformed labels", config.name, str(error)))
        labels = {}
    seen: dict[str, Path] = {}
    boxes = 0
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda image: _check_image(config, read_boxes, image, labels[image]), labels)
        bar = tqdm(results, f"checking {config.name}", len(labels), unit="image", disable=None, leave=False)
        for image, (digest, count, faults) in zip(labels, bar, strict=True):
            boxes += count
            findings += faults
            other = seen.setdefault(digest, image)
            if other != image:
                findings.append(Finding("duplicate image", str(image), f"same content as {other} ({splits[image]} and {splits[other]})"))
    findings += _orphans(labels)
    return Report(len(labels), boxes, findings)


def unreadable(path: Path) -> str | None:
    """Why a file is no whole picture; None where it is one."""
    try:
        content = path.read_bytes()
        image_size(path)
    except (UserError, OSError) as error:
        return str(error)
    return "; ".join(detail for _, detail in image_faults(content)) or None


def _check_image(config: DataConfig, read_boxes: BoxReader, image: Path, label: Path) -> tuple[str, int, list[Finding]]:
    """SHA-256 of an image file, number of its boxes, and what is wrong with both."""
    try:
        content = image.read_bytes()
        size = image_size(image)
    except (UserError, OSError) as error:
        # a name of its own as the digest: two files that cannot be read are not the same picture
        return str(image), 0, [Finding("unreadable image", str(image), str(error))]
    findings = [Finding(kind, str(image), detail) for kind, detail in image_faults(content) or _darkness(content)]
    rows: NDArray[np.float64] | None = None
    faults: list[str] = []
    try:
        if config.format == "yolo" and label.is_file():
            rows, faults = yolo_txt.parse(label, config.names)
        else:
            rows = read_boxes(image, label, size)
    except UserError as error:
        faults = [str(error)]
    findings += [Finding("malformed labels", str(label), fault) for fault in faults]
    if rows is None and not faults:
        findings.append(Finding("missing labels", str(image), f"nothing in {label}"))
    boxes, box_faults = tidy_boxes(np.zeros((0, 5)) if rows is None else rows, config.names)
    findings += [Finding(kind, str(image if config.format == "coco" else label), box) for kind, box in box_faults]
    return hashlib.sha256(content).hexdigest(), len(boxes), findings


def image_faults(content: bytes) -> list[tuple[str, str]]:
    """Kind and detail of what is wrong with an image file; decoders fill up a truncated one with grey and say nothing."""
    if content.startswith(b"\xff\xd8"):
        scans = [place for marker, place in jpeg_segments(io.BytesIO(content)) if marker == START_OF_SCAN]
        # within a scan the two bytes of the end marker cannot be pixels; before it they may end a thumbnail
        if not scans or content.find(b"\xff\xd9", scans[0]) < 0:
            return [("truncated image", f"no scan with an end-of-image marker behind it in {len(content)} bytes")]
    elif content.startswith(PNG) and _PNG_END not in content:
        return [("truncated image", f"no IEND chunk in {len(content)} bytes")]
    if decode(content) is None:
        return [("unreadable image", "cannot be decoded")]
    return []


def _darkness(content: bytes) -> list[tuple[str, str]]:
    """Kind and detail of a picture with 16 bits of which a camera filled 14 or fewer: the upper 8, which are used, stay near 0."""
    deep = content.startswith((b"II*\0", b"MM\0*")) or (content.startswith(PNG) and content[24:25] == b"\x10")
    pixels = decode(content, cv2.IMREAD_ANYDEPTH) if deep else None
    if pixels is None or pixels.dtype != np.uint16 or pixels.max() >= 1 << 14:
        return []
    return [("almost black image", f"its highest value is {pixels.max()} of 65535: scale the values to all 16 bits, or write 8 bits")]


def _orphans(labels: dict[Path, Path]) -> list[Finding]:
    """Label files that lie among those of the images and have no image."""
    folders = {(label.parent, label.suffix): image.parent for image, label in labels.items() if label.parent != image.parent}
    findings = []
    for (folder, suffix), images in folders.items():
        stems = {file.stem for file in images.iterdir()} if images.is_dir() else set()
        for file in sorted(set(folder.glob(f"*{suffix}")) - set(labels.values())):
            # a COCO file has the labels of all images; classes.txt is a list that labelling tools leave there
            if suffix != ".json" and file.stem not in stems and file.name != "classes.txt":
                findings.append(Finding("labels without image", str(file), f"no image {file.stem} in {images}"))
    return findings
