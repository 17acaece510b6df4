"""The service's subcommand `serve`."""

import argparse
import gc
import logging
import os
import re
import sys
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.spec import PRECISIONS
from yoloperf.core.verb import Result, Verb
from yoloperf.service.limits import Limits
from yoloperf.service.settings import Settings

_MOST = 1_000_000_000  # of any limit; OpenCV takes no more pixels
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _flags(parser: argparse.ArgumentParser) -> None:
    limits, defaults = Limits(), Settings()
    add = parser.add_argument
    add(
        "--model",
        action="append",
        required=True,
        metavar="[NAME=]WEIGHTS",
        help="weights to serve, of any kind; several times: of each kind the first is the default",
    )
    add("--host", default=defaults.host, help=f"address to listen on; 0.0.0.0: everybody (default: {defaults.host})")
    add("--port", type=int, default=defaults.port, help=f"0: any that is free (default: {defaults.port})")
    add("--runtime", default=defaults.runtime, help="what computes the predictions (default: auto, the fastest that is installed)")
    add("--device", default=defaults.device, help="auto, cpu or a CUDA device index")
    add("--precision", default=defaults.precision, choices=PRECISIONS, help="arithmetic of the convolutions (default: auto)")
    add("--threads", type=int, help="CPU threads of the predictions (default: every core)")
    add("--image-root", type=Path, help="folder whose images may be asked for by path, and written beside (default: none may)")
    add("--token-file", type=Path, help="file with the token that clients must send (default: none)")
    text = f"batches inferred side by side, each on its part of the threads, where the runtime can (default: {defaults.streams})"
    add("--streams", type=int, default=defaults.streams, help=text)
    text = f"images inferred together, where there is one stream (default: {defaults.max_batch})"
    add("--max-batch", type=int, default=defaults.max_batch, help=text)
    add("--max-wait-ms", type=float, default=1000 * defaults.max_wait_s, help="longest wait for images that are being decoded (default: 5)")
    add("--queue", type=int, default=defaults.queue, help=f"images of a model that may wait; more are refused (default: {defaults.queue})")
    add("--max-image-mb", type=float, default=limits.image_bytes / 1e6, help=f"default: {limits.image_bytes / 1e6:g}")
    add("--max-pixels", type=float, default=limits.pixels, help=f"of an image (default: {limits.pixels / 1e6:g}e6)")
    add("--max-images", type=int, default=limits.images, help=f"of a request (default: {limits.images})")
    add("--max-request-mb", type=float, default=limits.request_bytes / 1e6, help=f"default: {limits.request_bytes / 1e6:g}")
    add("--drain-s", type=float, default=defaults.drain_s, help="how long to go on answering after SIGTERM (default: 2)")
    add("--allow-training", action="store_true", help="let visitors train models")
    add("--training-threads", type=int, help="CPU threads of a training run, to leave cores for detection (default: every core)")
    add("--logs", type=Path, default=defaults.logs, help="folder of the training runs (default: logs)")


def _serve(args: argparse.Namespace) -> Result:
    settings = _settings(args)
    weights = [_named(text) for text in args.model]
    if len({name for name, _ in weights}) < len(weights):
        raise UserError("--model: two models have one name; give them others: --model NAME=WEIGHTS")
    # OpenCV reads these when it is loaded: a second guard behind check_image, and no complaints about images that are refused
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(settings.limits.pixels))
    from yoloperf.service.app import create_app
    from yoloperf.service.served import load_model
    from yoloperf.service.server import address, bind, serve
    from yoloperf.workloads.kinds import DETECTION

    sys.setswitchinterval(0.0005)  # a picture crosses four threads, and the default of 5 ms may be waited for at each
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    why = "auto: the fastest here at equal mAP" if settings.runtime == "auto" else "asked for"
    asked = settings.runtime not in ("auto", "torch") or settings.precision not in ("auto", "fp32") or settings.streams > 1
    others = " (--runtime, --precision and --streams are for detectors)" if asked else ""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    bound = bind(settings.host, settings.port)
    how = (settings.runtime, settings.device, settings.threads, settings.precision, settings.streams)
    models = [load_model(name, path, *how) for name, path in weights]
    app = create_app(settings, models)

    def say() -> None:
        for model in models:
            runtime = f"{model.runtime.name} {model.runtime.precision}"
            how_large = f", {model.img_size} px" if model.img_size else ""
            chosen = f" ({why})" if model.kind == DETECTION else others
            print(f"model {model.name}: {model.kind}, {len(model.names)} classes{how_large}, {runtime}{chosen}, weights {model.digest}")
        print(f"serving on {address(bound)}", flush=True)

    gc.collect()
    gc.freeze()  # libraries and models: a collection that walks over them stops every request for 0.15 s
    serve(app, settings, bound, say)
    return 0, {}


def _settings(args: argparse.Namespace) -> Settings:
    if args.image_root and not args.image_root.is_dir():
        raise UserError(f"--image-root {args.image_root} is no folder")
    counts = dict.fromkeys(("streams", "max_batch", "queue", "max_image_mb", "max_pixels", "max_images", "max_request_mb"), 1)
    for name, least in {**counts, "max_wait_ms": 0, "drain_s": 0}.items():
        if not least <= getattr(args, name) <= _MOST:
            raise UserError(f"--{name.replace('_', '-')} must be from {least} to {_MOST}, not {getattr(args, name)}")
    if args.training_threads is not None and args.training_threads < 1:
        raise UserError(f"--training-threads must be at least 1, not {args.training_threads}")
    return Settings(
        host=args.host,
        port=args.port,
        runtime=args.runtime,
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        streams=args.streams,
        image_root=args.image_root,
        token=_token(args.token_file) if args.token_file else None,
        max_batch=args.max_batch,
        max_wait_s=args.max_wait_ms / 1000,
        queue=args.queue,
        limits=Limits(
            image_bytes=int(args.max_image_mb * 1e6),
            pixels=int(args.max_pixels),
            images=args.max_images,
            request_bytes=int(args.max_request_mb * 1e6),
        ),
        drain_s=args.drain_s,
        allow_training=args.allow_training,
        logs=args.logs,
        training_threads=args.training_threads,
    )


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {path} cannot be read: {error}") from error
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"--token-file {path} must hold one word of at least 16 ASCII characters: openssl rand -hex 24 > {path}")
    return token


def _named(text: str) -> tuple[str, str]:
    """Name and weights of "NAME=WEIGHTS" or "WEIGHTS"."""
    name, separator, weights = text.partition("=")
    if not separator:
        name, weights = Path(text).stem, text
    if not _NAME.fullmatch(name):
        raise UserError(f"--model {text}: a name has letters, digits, dots and dashes: give one with --model NAME=WEIGHTS")
    return name, weights


serve = Verb(
    help="serve detectors and other models over HTTP, with a web page",
    example="yoloperf serve --model yolov3-tiny.weights --model bccd=best.pt --port 8080",
    configure=_flags,
    run=_serve,
)
