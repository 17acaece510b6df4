"""`yoloperf send`: a folder of images to several nodes, resumed after any kill, each image's boxes in one file."""

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.lock import held
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.datasets.check import unreadable
from yoloperf.datasets.images import list_images
from yoloperf.service.dispatch import Dispatch, Sent
from yoloperf.service.protocol import Answer, ImageResult, Question, node_url
from yoloperf.service.results import Results
from yoloperf.yolo.picture import Detection

PICTURES = "pictures"  # folder in the output for annotated ones


def _run(args: argparse.Namespace) -> Result:
    source: Path = args.folder
    if not source.is_dir():
        raise UserError(f"no folder {source}: give one with images")
    output: Path = args.output or Path(f"{source.resolve().name}-detections")
    urls = list(dict.fromkeys(node_url(node) for node in args.nodes))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror}; choose another --output") from error
    own = source / os.path.relpath(output / PICTURES, source)  # below the folder itself, where the output is
    images = [image for image in list_images(source) if own not in image.parents]
    with held(output / "send.lock", f"the sending into {output}"):
        results = Results(output, source)
        try:
            return _send(args, urls, images, results)
        finally:
            results.close()


def _send(args: argparse.Namespace, urls: list[str], images: list[Path], results: Results) -> Result:
    start = time.monotonic()
    todo = [image for image in images if results.name(image) not in results.done]
    faults = _check(todo)
    for image, why in faults.items():
        print(f"not sent: {why if str(image) in why else f'{image}: {why}'}")
    sendable = [image for image in todo if image not in faults]
    nodes, refused, send_s = asyncio.run(_dispatch(args, urls, sendable, results)) if sendable else ([], {}, None)
    for image, why in refused.items():
        print(f"refused: {image}: {why}")
    if args.pictures:
        _draw_missing(results)
    left = [image for image in sendable if results.name(image) not in results.done and image not in refused]
    sent = len(sendable) - len(refused) - len(left)
    result = {
        "output": str(results.file),
        "images": len(images),
        "done_before": len(images) - len(todo),
        "sent": sent,
        "unreadable": [{"image": str(image), "reason": why} for image, why in faults.items()],
        "truncated": results.truncated,
        "refused": [{"image": str(image), "reason": why} for image, why in refused.items()],
        "left": [str(image) for image in left],
        "wall_s": time.monotonic() - start,
        "send_s": send_s,
        "images_per_s": sent / send_s if send_s else None,
        "nodes": nodes,
    }
    _show(result)
    if results.truncated:
        print(f"{results.truncated} images have more than {args.max_boxes} boxes: send them with a larger --max-boxes to another --output")
    return int(bool(faults or refused or left)), result


def _check(images: Sequence[Path]) -> dict[Path, str]:
    """Images that are not whole, and why, in several threads."""
    with ThreadPoolExecutor() as pool:
        reasons = tqdm(pool.map(unreadable, images), "checking", len(images), unit="image", disable=None, leave=False)
        return {image: why for image, why in zip(images, reasons, strict=True) if why}


async def _dispatch(
    args: argparse.Namespace, urls: list[str], images: list[Path], results: Results
) -> tuple[list[dict[str, Any]], dict[Path, str], float]:
    """What each node did, image -> why the service refused it, and seconds."""
    headers = {"Authorization": f"Bearer {_token(args.token_file)}"} if args.token_file else {}
    question = Question(args.model, args.conf, args.iou, args.max_boxes)
    async with Dispatch(urls, question, headers, args.timeout, args.in_flight) as dispatch:
        model, digest = await dispatch.agree()
        results.settle({"model": model, "model_digest": digest, "conf": args.conf, "iou": args.iou, "max_boxes": args.max_boxes})
        for node in dispatch.nodes:
            if not node.up:
                print(f"waiting for a node: {node.fault}")
        with tqdm(total=len(images), desc="sending", unit="image", disable=None) as bar:

            async def record(image: Sent, answer: Answer, place: int) -> None:
                if args.pictures:
                    drawn = _picture(results, results.name(image.path))
                    await asyncio.to_thread(answer.results[place].save_picture, image.content, drawn)
                results.append(image.path, image.status, _line(answer, place))
                bar.update()

            start = time.monotonic()
            await dispatch.run(images, args.batch, args.patience, record)
            send_s = time.monotonic() - start
        return [node.report(send_s) for node in dispatch.nodes], dispatch.failed, send_s


def _picture(results: Results, name: str) -> Path:
    """Where the picture of an image with its boxes is: a.png, a.jpg and a.png.jpg have one each."""
    return results.file.parent / PICTURES / f"{name}.jpg"


def _draw_missing(results: Results) -> None:
    """Pictures of the images that were sent without --pictures."""
    missing = [line for line in results.lines() if not _picture(results, line["image"]).exists()]
    for line in tqdm(missing, "drawing", unit="image", disable=None, leave=False):
        image = results.source / line["image"]
        if image.exists():
            detections = tuple(Detection(**box) for box in line["boxes"])
            found = ImageResult(line["image"], line["width"], line["height"], detections, line["counts"], line["timing"])
            found.save_picture(image, _picture(results, line["image"]))
        else:
            print(f"no picture: {image} is gone")


def _line(answer: Answer, place: int) -> dict[str, Any]:
    found = answer.results[place]
    return {
        "width": found.width,
        "height": found.height,
        "counts": found.counts,
        "truncated": found.truncated,
        "boxes": [detection.asdict() for detection in found.detections],
        "node": answer.node,
        "request_s": answer.elapsed_s,
        "request_images": len(answer.results),
        "timing": found.timing,
    }


def _show(result: dict[str, Any]) -> None:
    if result["nodes"]:
        print(f"{'node':32} {'images':>7} {'images/s':>9} {'request p50':>12} {'p95':>8} {'retried':>8}")
    for node in result["nodes"]:
        p50, p95 = ("-" if node[key] is None else show_seconds(node[key]) for key in ("request_p50_s", "request_p95_s"))
        fault = f"  {node['fault']}" if node["fault"] else ""
        print(f"{node['node']:32} {node['images']:7} {node['images_per_s']:9.1f} {p50:>12} {p95:>8} {node['retried']:8}{fault}")
    took = f" in {show_seconds(result['send_s'])} ({result['images_per_s']:.1f} images/s)" if result["send_s"] else ""
    rest = {"were done before": result["done_before"], "unreadable": len(result["unreadable"]), "refused": len(result["refused"])}
    print(f"{result['output']}: {result['sent']} images sent{took}" + "".join(f", {count} {what}" for what, count in rest.items() if count))
    if result["left"]:
        busy = any(node["busy"] for node in result["nodes"])
        why = "the nodes took no requests" if busy else "no node was up"
        print(f"{len(result['left'])} images are left, {why}: run the same command again when one {'does' if busy else 'is'}")


def _token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UserError(f"cannot read the token in {file}: {error.strerror}") from error


def _at_least(least: float, kind: type[int] | type[float]) -> Any:
    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {text}")
        return value

    return number


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, not {text}")
    return value


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with images; those in folders below it, too")
    parser.add_argument(
        "--nodes", nargs="+", required=True, metavar="HOST:PORT", help="services, or load balancers in front of some; or URLs"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="for detections.jsonl, one line an image (default: NAME-detections)")
    parser.add_argument("--pictures", action="store_true", help="each picture with its boxes, too, as OUTPUT/pictures/IMAGE.jpg")
    parser.add_argument("--model", metavar="NAME", help="which of the served models (default: the service's own)")
    parser.add_argument("--conf", type=_fraction, default=0.25, help="lowest score (default: %(default)s)")
    parser.add_argument("--iou", type=_fraction, default=0.45, help="overlap above which the lesser box goes (default: %(default)s)")
    parser.add_argument("--max-boxes", type=_at_least(1, int), default=300, metavar="N", help="an image (default: %(default)s)")
    parser.add_argument("--batch", type=_at_least(1, int), default=4, metavar="N", help="images a request (default: %(default)s)")
    parser.add_argument(
        "--in-flight", type=_at_least(1, int), default=4, metavar="N", help="requests a node at a time (default: %(default)s)"
    )
    parser.add_argument("--timeout", type=_at_least(0.1, float), default=30.0, metavar="S", help="of a request (default: %(default)s)")
    parser.add_argument(
        "--patience",
        type=_at_least(0, float),
        default=60.0,
        metavar="S",
        help="give up when no node was up, or all were busy, for so long (default: %(default)s)",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="with the bearer token, where the service wants one")


send = Verb(
    "detect objects in a folder's images on several nodes at once; the same command resumes",
    "yoloperf send images/ --nodes 127.0.0.1:8080 127.0.0.1:8081 --output found",
    _configure,
    _run,
)
