"""`detect.py`: images, folders and globs -> boxes as text or JSON, and annotated pictures."""

import argparse
import glob
import json
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from yoloperf.core.errors import UserError, exit_code
from yoloperf.core.rundir import write_atomic
from yoloperf.datasets.images import SUFFIXES
from yoloperf.yolo.device import add_flags, prepare
from yoloperf.yolo.images import Pixels, read_image
from yoloperf.yolo.inference import Detector
from yoloperf.yolo.picture import Detection, annotate, save_picture

_BATCH = 8
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
    flags.add_argument("--save-dir", type=Path, help="write annotated pictures and detections.json here")
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
    paths = find_images(args.source)
    detector = Detector(args.weights, prepare(args.device, args.precision, args.threads), args.cfg, args.img_size)
    found: dict[str, list[dict[str, object]]] = {}
    unreadable: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        progress = tqdm(total=len(paths), unit="image", disable=None)
        for names, images in _batches(paths, pool, unreadable):
            boxes, _ = detector.detect(images, args.conf, args.iou)
            for path, image, own in zip(names, images, boxes, strict=True):
                found[str(path)] = [detection.asdict() for detection in own]
                if not args.json:
                    progress.write(_text(path, own), file=sys.stdout)
                if args.save_dir:
                    save_picture(args.save_dir / path.with_suffix(".jpg").name, annotate(image, own))
            progress.update(len(images))
        progress.close()
    result = {"images": found, "unreadable": unreadable}
    if args.save_dir:
        write_atomic(args.save_dir / "detections.json", json.dumps(result, indent=1) + "\n")
    if args.json:
        print(json.dumps(result))
    for name in unreadable:
        print(f"detect.py: skipped {name}: no readable image", file=sys.stderr)
    return 1 if unreadable else 0


def find_images(source: str) -> list[Path]:
    """Files that `source` names. Raises UserError where there are none."""
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        paths = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    else:
        paths = sorted(Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())
    if not paths:
        raise UserError(f"no images at {source}: give a file, a folder with {', '.join(sorted(SUFFIXES))} files, or a quoted glob")
    return paths


def _batches(paths: list[Path], pool: ThreadPoolExecutor, unreadable: list[str]) -> Iterator[tuple[list[Path], list[Pixels]]]:
    """Decoded images in batches, the next one being decoded meanwhile; what cannot be read is added to `unreadable`."""

    def submit(start: int) -> list[Future[Pixels]]:
        return [pool.submit(read_image, path, True) for path in paths[start : start + _BATCH]]

    ahead = submit(0)
    for start in range(0, len(paths), _BATCH):
        pending, ahead = ahead, submit(start + _BATCH)
        names, images = [], []
        for path, future in zip(paths[start : start + _BATCH], pending, strict=True):
            try:
                images.append(future.result())
                names.append(path)
            except UserError:
                unreadable.append(str(path))
        if images:
            yield names, images


def _text(path: Path, detections: list[Detection]) -> str:
    counts: dict[str, int] = {}
    for detection in detections:
        counts[detection.name] = counts.get(detection.name, 0) + 1
    lines = [f"{path}: {', '.join(f'{count} {name}' for name, count in sorted(counts.items())) or 'nothing found'}"]
    lines += [f"  {d.name:12} {d.score:.3f}  {d.x1:.1f} {d.y1:.1f} {d.x2:.1f} {d.y2:.1f}" for d in detections]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
