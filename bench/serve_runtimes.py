"""From JPEG files to boxes: images/s and the time for one image, by runtime and precision.

Every runtime does the same work through the same Detector that detect.py uses, in turn, round after round, so that a machine
whose speed drifts does not change the ratios; the first one named is what the others are divided by. What mAP each has:
`yoloperf evaluate --runtime NAME --precision P`.

    python bench/serve_runtimes.py --weights yolov3-tiny.weights --source datasets/coco128/images/val2017
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np

from yoloperf.core.environment import collect
from yoloperf.core.errors import exit_code
from yoloperf.yolo.detect import find_images
from yoloperf.yolo.images import letterbox, read_image
from yoloperf.yolo.inference import Detector, boxes_of
from yoloperf.yolo.runtimes import PACKAGES

_CASES = ("torch:fp32", "torch:bf16", "onnxruntime:fp32", "openvino:fp32", "openvino:bf16")


def throughput(detector: Detector, paths: list[Path], batch: int) -> float:
    """Images/s of the pipeline; decoding, computing and boxes overlap."""
    start = time.perf_counter()
    boxes = sum(len(seen.detections) for seen in detector.detect(paths, batch=batch))
    assert boxes, "nothing found: no fair comparison"
    return len(paths) / (time.perf_counter() - start)


def latency(detector: Detector, paths: list[Path]) -> float:
    """Median seconds from a file to its boxes, one after the other."""
    times = []
    for path in paths:
        start = time.perf_counter()
        image = read_image(path)
        square, placed = letterbox(image, detector.runtime.img_size)
        boxes_of(detector.runtime(square[None])[0], placed, image.shape[1], image.shape[0], 0.25, 0.45)
        times.append(time.perf_counter() - start)
    return median(times)


def network_alone(detector: Detector, batch: int, repeats: int = 8) -> float:
    """Images/s of the runtime by itself."""
    side = detector.runtime.img_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    start = time.perf_counter()
    for _ in range(repeats):
        detector.runtime(pixels)
    return batch * repeats / (time.perf_counter() - start)


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Case -> measure -> its value in every round."""
    paths = find_images(args.source)
    detectors = {}
    for case in args.cases:
        runtime, precision = case.split(":")
        detectors[case] = Detector.load(args.weights, runtime, args.device, precision, args.threads, img_size=args.img_size)
    found: dict[str, dict[str, list[float]]] = {case: {} for case in detectors}
    for number in range(args.rounds + 1):
        for case, detector in detectors.items():
            values = {"one image, ms": latency(detector, paths[:32]) * 1000}
            for batch in args.batch:
                values[f"batch {batch}, images/s"] = throughput(detector, paths, batch)
                values[f"batch {batch} network alone, images/s"] = network_alone(detector, batch)
            if number:  # the first round warms up
                for name, value in values.items():
                    found[case].setdefault(name, []).append(value)
    return found


def show(found: dict[str, dict[str, list[float]]]) -> None:
    first = next(iter(found.values()))
    for name in first:
        print(f"\n{name}")
        for case, values in found.items():
            ratios = sorted(own / other for own, other in zip(values[name], first[name], strict=True))
            print(f"  {case:18} {median(values[name]):8.1f}   x{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")


def main(args: argparse.Namespace) -> int:
    found = measure(args)
    show(found)
    if args.output:
        versions = {name: version(name) for name in ("torch", *PACKAGES) if name in {case.split(":")[0] for case in args.cases}}
        args.output.write_text(json.dumps({"environment": collect(), "versions": versions, "rounds": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--weights", default="yolov3-tiny.weights", help=".pt or .weights: a path or a known name")
    flags.add_argument("--source", required=True, help="folder of images")
    flags.add_argument("--cases", nargs="+", default=_CASES, metavar="RUNTIME:PRECISION", help=f"default: {' '.join(_CASES)}")
    flags.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    flags.add_argument("--img", dest="img_size", type=int)
    flags.add_argument("--device", default="cpu")
    flags.add_argument("--threads", type=int, help="default: every core")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--output", type=Path, help="JSON of every round")
    arguments = flags.parse_args()
    raise SystemExit(exit_code("serve_runtimes.py", lambda: main(arguments)))
