"""`detect.py`: images, folders and globs -> boxes as text or JSON, and annotated pictures."""

import argparse
import glob
import json
import os
import sys
from itertools import takewhile
from pathlib import Path

from tqdm import tqdm

from yoloperf.core.errors import UserError, exit_code
from yoloperf.core.rundir import write_atomic
from yoloperf.datasets.images import SUFFIXES
from yoloperf.yolo.device import add_flags
from yoloperf.yolo.inference import Detector
from yoloperf.yolo.picture import Detection, annotate, save_picture
from yoloperf.yolo.runtimes import add_runtime_flag

_EXAMPLE = "python detect.py --weights yolov3-tiny.weights --source datasets/bccd/JPEGImages --save-dir out"


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="detect.py",
        description="Find objects in images.",
        epilog=f"example:\n  {_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--weights", required=True, help=".pt or .weights: a path or a known name")
    flags.add_argument("--cfg", default="", help="architecture, for .weights whose name does not say it")
    flags.add_argument("--source", required=True, help="an image, a folder, or a quoted glob")
    flags.add_argument(
        "--img", "--img-size", "--imgsz", dest="img_size", type=int, help="side of the network input (default: that of the training)"
    )
    flags.add_argument("--conf", type=float, default=0.25, help="lowest score shown (default: 0.25)")
    flags.add_argument("--iou", type=float, default=0.45, help="overlap above which the lesser box of a class is dropped (default: 0.45)")
    add_flags(flags)
    add_runtime_flag(flags, "auto")
    flags.add_argument("--save-dir", type=Path, help="write annotated pictures, in the folders of --source, and detections.json here")
    flags.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return flags


def main(argv: list[str] | None = None) -> int:
    """Detect; returns 1 when an image could not be read, otherwise as `exit_code` does."""
    args = parser().parse_args(argv)
    return exit_code("detect.py", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    for name in ("conf", "iou"):
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f"--{name} must be from 0 to 1, not {getattr(args, name)}")
    paths = find_images(args.source, args.save_dir)
    targets = _targets(paths, _root(args.source), args.save_dir) if args.save_dir else {}
    detector = Detector.load(args.weights, args.runtime, args.device, args.precision, args.threads, args.cfg, args.img_size)
    found: dict[str, list[dict[str, object]]] = {}
    unreadable: list[str] = []
    progress = tqdm(detector.detect(paths, args.conf, args.iou), total=len(paths), unit="image", disable=None)
    for seen in progress:
        if seen.image is None:
            unreadable.append(str(seen.path))
            continue
        found[str(seen.path)] = [detection.asdict() for detection in seen.detections]
        if not args.json:
            progress.write(_text(seen.path, seen.detections), file=sys.stdout)
        if args.save_dir:
            save_picture(targets[seen.path], annotate(seen.image, seen.detections))
    result = {"images": found, "unreadable": unreadable}
    if args.save_dir:
        write_atomic(args.save_dir / "detections.json", json.dumps(result, indent=1) + "\n")
    if args.json:
        print(json.dumps(result))
    for name in unreadable:
        print(f"detect.py: skipped {_shown(name)}: no readable image", file=sys.stderr)
    return 1 if unreadable else 0


def find_images(source: str, save_dir: Path | None = None) -> list[Path]:
    """Files that `source` names, less those in a `save_dir` below it: they are an earlier run's. Raises UserError where there are none."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    else:
        paths = sorted(Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())
    if save_dir and _root(source).resolve() in save_dir.resolve().parents:
        paths = [path for path in paths if save_dir.resolve() not in path.resolve().parents]
    if not paths:
        raise UserError(f"no images at {source}: give a file, a folder with {', '.join(sorted(SUFFIXES))} files, or a quoted glob")
    return paths


def _root(source: str) -> Path:
    """The folder that every image of `source` lies in or below."""
    path = Path(source)
    if path.is_file():
        return path.parent
    return path if path.is_dir() else Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))


def _targets(paths: list[Path], root: Path, save_dir: Path) -> dict[Path, Path]:
    """Where the annotated picture of each image goes: to the same place below `save_dir` as the image has below `root`.

    Raises UserError where it would replace one of the images.
    """
    sources = {path.resolve() for path in paths}
    targets: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path in paths:
        inside = save_dir / path.relative_to(root)
        target = inside.with_suffix(".jpg")
        if target in taken:  # a.png beside a.jpg
            target = inside.with_name(f"{inside.name}.jpg")
        if target.resolve() in sources:
            raise UserError(f"--save-dir {save_dir} would replace {_shown(str(target))}, an image of --source: choose another folder")
        taken.add(target)
        targets[path] = target
    return targets


def _shown(name: str) -> str:
    """A file name as text that any terminal takes, though it be no UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _text(path: Path, detections: list[Detection]) -> str:
    counts: dict[str, int] = {}
    for detection in detections:
        counts[detection.name] = counts.get(detection.name, 0) + 1
    lines = [f"{_shown(str(path))}: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'nothing found'}"]
    lines += [f"  {d.name:12} {d.score:.3f}  {d.x1:.1f} {d.y1:.1f} {d.x2:.1f} {d.y2:.1f}" for d in detections]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
