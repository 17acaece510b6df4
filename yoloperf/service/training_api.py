"""The training runs over HTTP: ask for one, watch it, stop it, detect with what came out; and the table of all runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi import Request as HttpRequest
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from yoloperf.core import events
from yoloperf.core.errors import UserError
from yoloperf.service.intake import Body, Budget, read_object
from yoloperf.service.limits import Limits
from yoloperf.service.refusal import Refused
from yoloperf.service.runs import comparison
from yoloperf.service.schemas import ErrorAnswer
from yoloperf.service.training import ENDED, QUEUE, Training
from yoloperf.service.training_request import NAME_LENGTH, RANGES, Request
from yoloperf.service.training_request import options as offered

POLL_S = 0.3
SERVED = 8  # trained models, which stay in memory
_LONGEST_LOG = 2**40  # bytes; file systems refuse to go to places far beyond that
_REFUSALS = {
    400: "Malformed",
    401: "No token, or a wrong one",
    403: "Sent by another site's page",
    404: "No such run",
    408: "The body did not arrive in time",
    409: "Does not fit the state that the run is in",
    413: "Larger than this service allows",
    415: "A content type that is not known here",
    422: "A field that cannot be used",
    429: "Too many runs are waiting; Retry-After says when to come again",
}


def _ranged(key: str) -> Any:
    least, most = RANGES[key]
    return Field(ge=least, le=most)


class Asked(BaseModel):
    """A run that a person asks for."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(max_length=100, description="one of /api/training/options")
    data: str = Field(max_length=100, description="one of /api/training/options")
    batch_size: Annotated[int, _ranged("batch_size")] = 8
    epochs: Annotated[int, _ranged("epochs")] = 10
    lr_scale: Annotated[float, _ranged("lr_scale")] = 1.0
    img_size: Annotated[int, _ranged("img_size")] = 416
    name: str = Field("", max_length=NAME_LENGTH, description="for people; becomes a part of the run's id")


_ASKED = {"required": True, "content": {"application/json": {"schema": Asked.model_json_schema()}}}


def make_router(training: Training, serve: Callable[[str, Path], None], draining: Callable[[], bool], limits: Limits) -> APIRouter:
    """serve: load weights as a model of that name, in this process; draining: whether the service is about to end, so that streams do.

    Raises Refused in its endpoints, which is for the application to answer.
    """
    router = APIRouter(
        tags=["training"], responses={status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSALS.items()}
    )
    budget = Budget(limits.request_bytes)
    served: set[str] = set()
    serving = threading.Lock()

    @router.get("/api/training/options")
    def options() -> dict[str, Any]:
        return offered(QUEUE)

    @router.get("/api/training")
    def runs() -> dict[str, Any]:
        return {"runs": training.runs()}

    @router.post("/api/training", status_code=202, openapi_extra={"requestBody": _ASKED})
    async def submit(request: HttpRequest) -> dict[str, str]:
        with Body(request, limits, budget) as body:
            asked = await read_object(request, body, Asked)
        try:
            return {"id": await asyncio.to_thread(training.submit, Request(**asked.model_dump()))}
        except UserError as error:
            raise Refused(422, "cannot-train", str(error)) from error

    @router.get("/api/training/{id}")
    def run(id: str) -> dict[str, Any]:
        return training.run(id)

    @router.post("/api/training/{id}/cancel", status_code=202)
    def cancel(id: str) -> dict[str, str]:
        training.cancel(id)
        return {"id": id}

    @router.post("/api/training/{id}/serve")
    def serve_weights(id: str) -> dict[str, str]:
        """Load the best weights of a run that has ended as a model, which has the run's id as its name."""
        weights = training.weights(id)
        with serving:
            if id not in served:
                if len(served) >= SERVED:
                    raise Refused(
                        409, "too-many-models", f"{SERVED} trained models are served already: restart the service with those you want"
                    )
                try:
                    serve(id, weights)
                except UserError as error:
                    raise Refused(422, "cannot-serve", str(error)) from error
                served.add(id)
        return {"model": id}

    @router.get("/api/training/{id}/events", response_class=EventSourceResponse)
    async def follow(
        id: str, first: Annotated[dict[str, Any], Depends(run)], last_event_id: Annotated[int, Header(ge=0, le=_LONGEST_LOG)] = 0
    ) -> AsyncIterator[ServerSentEvent]:
        """The trainer's events, one JSON object each. The id of an event is the place in the log behind it: who lost the connection
        goes on from there with Last-Event-ID. An event of key `state` says where the run stands, whenever that changes; the last
        one, with which the stream ends, is done, failed or cancelled."""
        said, state, position = None, first, last_event_id
        while not draining():
            for event, behind in events_behind(training.console(id), position):
                yield ServerSentEvent(data=event, id=str(behind))
                position = behind
            if (now := (state["state"], state["reason"])) != said:
                yield ServerSentEvent(data={"key": "state", **state})
                said = now
            if state["state"] in ENDED:
                return
            await asyncio.sleep(POLL_S)
            state = await asyncio.to_thread(training.run, id)  # before the log is read: what ends the stream is said last

    @router.get("/api/runs")
    def table() -> dict[str, Any]:
        return comparison(training.logs)

    return router


def events_behind(log: Path, position: int) -> Iterator[tuple[dict[str, Any], int]]:
    """Events in the whole lines of a log from a byte on, each with the place behind its line."""
    if not log.exists():
        return
    with log.open("rb") as stream:
        stream.seek(position)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            found, _ = events.read([line.decode(errors="replace")])
            yield from ((event, position) for event in found)
