"""The route for every kind of model that labels files: classification of images, keywords in sounds."""

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from yoloperf.service import schemas
from yoloperf.service.answer import Arrived, answered, finished
from yoloperf.service.intake import Body, Budget, read_files
from yoloperf.service.registry import Registry
from yoloperf.service.served import PREDICT
from yoloperf.service.settings import Settings


def add_predict(
    router: APIRouter, settings: Settings, registry: Registry, budget: Budget, documented: dict[int | str, dict[str, Any]]
) -> None:
    """documented: the refusals of a route that takes files."""

    @router.post(
        PREDICT,
        tags=["labels"],
        summary="Label images, or sounds of a spoken word",
        responses={**documented, 200: {"model": schemas.LabelAnswer}},
        openapi_extra={"requestBody": schemas.predict_body()},
        response_class=Response,
    )
    async def predict(request: Request) -> Response:
        arrived = Arrived()
        registry.check_room()
        with Body(request, settings.limits, budget) as body:
            choices, files = await read_files(request, body)
            request.state.images = len(files)
            batcher = registry.get(choices.model, PREDICT)
            received = time.perf_counter()
            found = await finished(batcher, files, choices.top, settings.limits, request)
        results = [
            {
                "name": name,
                "labels": [{"class": label.label, "name": label.name, "score": label.score} for label in own.result],
                "timing": vars(own.times),
            }
            for (name, _), own in zip(files, found, strict=True)
        ]
        return answered(batcher, found, results, arrived, received, choices.sent_at)
