"""`yoloperf export`: trained weights -> an ONNX file that needs nothing of this project."""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.core.spec import check_img_size
from yoloperf.core.verb import Result, Verb
from yoloperf.yolo.device import prepare
from yoloperf.yolo.runtimes import require
from yoloperf.yolo.runtimes.torch import TorchRuntime
from yoloperf.yolo.weights import Checkpoint, find_weights, load_weights

_BATCHES = (1, 3)  # that the check runs: more than one, so that no number is fixed in the file
_RELATIVE, _PIXELS, _SCORE = 1e-3, 0.05, 1e-3  # how far another order of summation may lead


def export_onnx(checkpoint: Checkpoint, path: Path, img_size: int, check: bool = True) -> dict[str, object]:
    """Write the network as ONNX: uint8 [batch, S, S, 3] -> float32 [batch, P, 5 + C], as every `Runtime` does it.

    The file's metadata: names (a JSON list of the classes), img_size, digest (of architecture and weights). With `check` it is
    run in ONNX Runtime first, beside PyTorch. Returns what was written, with the largest differences. Raises UserError where a
    package is missing, or the two differ, and writes nothing then.
    """
    require("export", ["onnx"])
    from yoloperf.yolo.onnx_graph import OPSET, onnx_model

    names, digest = checkpoint.class_names(), checkpoint.digest()
    metadata = {"names": json.dumps(names), "img_size": str(img_size), "digest": digest}
    model = onnx_model(checkpoint.build().fuse(), img_size, metadata).SerializeToString()
    differences = _differences(checkpoint, model, img_size) if check else {}
    write_atomic(path, model)
    return {
        "path": str(path),
        "bytes": len(model),
        "opset": OPSET,
        "img_size": img_size,
        "names": names,
        "digest": digest,
        "checked": check,
        **differences,
    }


def _differences(checkpoint: Checkpoint, model: bytes, img_size: int) -> dict[str, float]:
    """Largest differences between the model in ONNX Runtime and the network in PyTorch, on a CPU in fp32."""
    require("export --check", ["onnxruntime"])
    from yoloperf.yolo.runtimes.onnxruntime import OnnxRuntime

    compute = prepare("cpu", "fp32")
    exact, exported = TorchRuntime(checkpoint.build().fuse(), compute, img_size), OnnxRuntime(model, compute, img_size)
    boxes = scores = 0.0
    for batch in _BATCHES:
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, img_size, img_size, 3), np.uint8)
        ours, theirs = exact(pixels), exported(pixels)
        if not (_near(theirs[..., :4], ours[..., :4], _PIXELS) and _near(theirs[..., 4:], ours[..., 4:], _SCORE)):
            raise UserError("the ONNX model does not give PyTorch's boxes, so it was not written: look for infinite or huge weights")
        off = np.abs(ours - theirs)
        boxes, scores = max(boxes, float(off[..., :4].max())), max(scores, float(off[..., 4:].max()))
    return {"largest_box_difference_px": boxes, "largest_score_difference": scores}


def _near(values: NDArray[np.float32], reference: NDArray[np.float32], absolute: float) -> bool:
    return values.shape == reference.shape and bool(np.allclose(values, reference, _RELATIVE, absolute))


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help=".pt or .weights: a path or a known name")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, .onnx")
    parser.add_argument("--cfg", default="", help="architecture, for .weights whose name does not say it")
    parser.add_argument(
        "--img", "--img-size", "--imgsz", dest="img_size", type=int, help="side of the network input (default: that of the training)"
    )
    parser.add_argument(
        "--check", action=argparse.BooleanOptionalAction, default=True, help="compare with PyTorch before writing (default: yes)"
    )


def _export(args: argparse.Namespace) -> Result:
    if args.output.suffix != ".onnx":
        raise UserError(f"{args.output} is no name for an ONNX file: let it end in .onnx")
    checkpoint = load_weights(find_weights(args.weights), args.cfg)
    img_size = (checkpoint.img_size or 416) if args.img_size is None else args.img_size
    check_img_size(img_size)
    result = export_onnx(checkpoint, args.output, img_size, args.check)
    print(f"{args.output}: {result['bytes']:,} bytes, opset {result['opset']}, {img_size} px, {len(checkpoint.class_names())} classes")
    if args.check:
        print(
            f"  ONNX Runtime beside PyTorch: boxes differ by at most {result['largest_box_difference_px']:.2g} px, "
            f"scores by {result['largest_score_difference']:.2g}"
        )
    return 0, result


export = Verb(
    help="write trained weights as ONNX, from pictures to decoded boxes, checked against PyTorch",
    example="yoloperf export best.pt -o best.onnx",
    configure=_flags,
    run=_export,
)
