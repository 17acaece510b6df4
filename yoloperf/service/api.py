"""The routes: detection, the list of models, health, metrics."""

import asyncio
import json
import time
from typing import Any

from fastapi import APIRouter, Request, Response

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import write_atomic
from yoloperf.service import schemas
from yoloperf.service.answer import Arrived, answered, finished
from yoloperf.service.batcher import Batcher, Found
from yoloperf.service.intake import Body, Budget, Intake, read
from yoloperf.service.metrics import Metrics
from yoloperf.service.model import Options, Seen, decode
from yoloperf.service.predict_api import add_predict
from yoloperf.service.refusal import Refused
from yoloperf.service.registry import Registry
from yoloperf.service.settings import Settings
from yoloperf.yolo.picture import Detection, annotate, save_picture

_REFUSALS = {
    400: "Malformed",
    401: "No token, or a wrong one",
    403: "Sent by another site's page",
    404: "No such model or file",
    408: "The body did not arrive in time",
    413: "Larger than this service allows",
    415: "A content type that is not known here",
    422: "A field or an image that cannot be used",
    429: "Too many images are waiting; Retry-After says when to come again",
    503: "Too busy, too slow, or about to end; Retry-After says when to come again",
}
_BUDGET = 4  # requests of the largest size whose bodies may be in memory together


def make_router(settings: Settings, registry: Registry, metrics: Metrics, ready: "Readiness") -> APIRouter:
    router = APIRouter()
    budget = Budget(_BUDGET * settings.limits.request_bytes)
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": schemas.ErrorAnswer, "description": text} for status, text in _REFUSALS.items()
    }

    @router.post(
        "/api/detect",
        tags=["detection"],
        summary="Find objects in images",
        responses={**documented, 200: {"model": schemas.Answer}},
        openapi_extra={"requestBody": schemas.detect_body()},
        response_class=Response,
    )
    async def detect(request: Request) -> Response:
        arrived = Arrived()
        # before the body has come: an overloaded service has better to do than to read what it will refuse
        registry.check_room()
        with Body(request, settings.limits, budget) as body:
            intake = await read(request, body, settings.image_root)
            request.state.images = len(intake.images)
            batcher = registry.get(intake.choices.model)
            received = time.perf_counter()
            choices = intake.choices
            options = Options(choices.conf, choices.iou, choices.max_boxes, choices.clip, choices.multi_label)
            found = await finished(batcher, intake.images, options, settings.limits, request)
        results = [_result(batcher, name, own) for (name, _), own in zip(intake.images, found, strict=True)]
        if intake.saved_beside:
            results[0]["output"] = await asyncio.to_thread(_save, intake, batcher, found[0], results[0], settings)
        return answered(batcher, found, results, arrived, received, choices.sent_at)

    add_predict(router, settings, registry, budget, documented)

    @router.get(
        "/api/models", tags=["detection"], summary="Models that are served", response_model=schemas.Models, responses=_token_refusals()
    )
    async def models() -> dict[str, Any]:
        served = [
            {
                "name": model.name,
                "kind": model.kind,
                "classes": model.names,
                "img_size": model.img_size,
                "runtime": model.runtime.name,
                "precision": model.runtime.precision,
                "digest": model.digest,
                "default": registry.is_default(model),
            }
            for model in registry.models
        ]
        return {"models": served, "training": settings.allow_training, "max_image_bytes": settings.limits.image_bytes}

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz", tags=["operation"], summary="Whether the process lives", response_model=schemas.State)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz",
        tags=["operation"],
        summary="Whether to send requests here",
        response_model=schemas.State,
        responses={503: {"model": schemas.ErrorAnswer, "description": "About to end"}},
    )
    async def readyz() -> dict[str, str]:
        if ready.draining:
            raise Refused(503, "draining", "this service is about to end: send requests elsewhere", retry_after_s=1)
        return {"status": "ready"}

    @router.get(
        "/metrics",
        tags=["operation"],
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_token_refusals()},
    )
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


class Readiness:
    """draining: the service was told to end; it still answers, but a load balancer should look elsewhere."""

    draining = False


def _token_refusals() -> dict[int | str, dict[str, Any]]:
    return {401: {"model": schemas.ErrorAnswer, "description": _REFUSALS[401]}}


def _result(batcher: Batcher, name: str, found: Found) -> dict[str, Any]:
    names = batcher.model.names
    boxes: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    seen: Seen = found.result
    width, height = seen.width, seen.height
    for x1, y1, x2, y2, score, label in seen.boxes.tolist():
        own = names[int(label)]
        counts[own] = counts.get(own, 0) + 1
        boxes.append(
            {
                "class": int(label),
                "name": own,
                "score": score,
                "box": [x1, y1, x2, y2],
                "box_normalised": [x1 / width, y1 / height, x2 / width, y2 / height],
            }
        )
    return {
        "image": name,
        "width": width,
        "height": height,
        "counts": counts,
        "truncated": seen.truncated,
        "boxes": boxes,
        "timing": vars(found.times),
        "output": None,
    }


def _save(intake: Intake, batcher: Batcher, found: Found, result: dict[str, Any], settings: Settings) -> str:
    """Write the annotated picture and the result beside the image; returns the picture's path below the image root."""
    image, root = intake.saved_beside, settings.image_root
    assert image and root
    name, data = intake.images[0]
    # a.jpg and a.png are two images
    picture = image.with_name(f"{image.stem if image.suffix == '.jpg' else image.name}_detected.jpg")
    names = batcher.model.names
    detections = [Detection(int(label), names[int(label)], score, *corners) for *corners, score, label in found.result.boxes.tolist()]
    output = str(picture.relative_to(root.resolve()))
    try:
        save_picture(picture, annotate(decode(data, settings.limits, name), detections))
        write_atomic(picture.with_suffix(".json"), json.dumps({**result, "output": output}, indent=1) + "\n")
    except UserError as error:
        raise Refused(503, "cannot-write", "the image root cannot be written to: ask for no output", name, retry_after_s=60) from error
    return output
