"""The ASGI application: routes, the page, errors in one shape."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from yoloperf import __version__
from yoloperf.service import api, clock
from yoloperf.service.guard import Guard, needs_token
from yoloperf.service.metrics import Metrics
from yoloperf.service.refusal import Refused
from yoloperf.service.registry import Registry
from yoloperf.service.served import Served, load_model
from yoloperf.service.settings import Settings

PAGE = Path(__file__).parent / "page"
PAGES = {"/": PAGE / "index.html"} | {f"/{file.stem}": file for file in PAGE.glob("*.html") if file.stem != "index"}


_ASK_AGAIN = {"Cache-Control": "no-cache"}


def create_app(settings: Settings, models: Sequence[Served]) -> FastAPI:
    """models: of each kind the first is the default. The application's state has `readiness` and `registry`."""
    metrics, readiness = Metrics(), api.Readiness()
    streams = max(model.streams for model in models)
    registry = Registry(settings.limits, metrics, settings.max_batch, settings.max_wait_s, settings.queue, streams)
    for model in models:
        registry.add(model)
    training = _Training(settings, registry, readiness) if settings.allow_training else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if training:
            training.runs.start()
        yield
        if training:
            await asyncio.to_thread(training.runs.close)
        await asyncio.to_thread(registry.close)

    app = FastAPI(title="yoloperf", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, redirect_slashes=False)
    app.state.readiness, app.state.registry = readiness, registry
    app.include_router(api.make_router(settings, registry, metrics, readiness))
    app.include_router(clock.make_router())
    app.include_router(training.router if training else _no_training())
    for name, file in PAGES.items():
        app.add_api_route(name, _page(file), methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/static", _Static(directory=PAGE), name="static")
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _bug)
    app.add_middleware(Guard, token=settings.token, metrics=metrics)
    app.openapi = lambda: _document(app, bool(settings.token))  # type: ignore[method-assign]
    return app


class _Training:
    """The training queue and its routes. Imported only where training is allowed: it brings the harness and the tables."""

    def __init__(self, settings: Settings, registry: Registry, readiness: api.Readiness) -> None:
        from yoloperf.service.training import Training
        from yoloperf.service.training_api import make_router

        def serve(name: str, weights: Path) -> None:
            how = (settings.runtime, settings.device, settings.threads, settings.precision, settings.streams)
            registry.add(load_model(name, str(weights), *how))

        self.runs = Training(settings.logs, threads=settings.training_threads)
        self.router = make_router(self.runs, serve, lambda: readiness.draining, settings.limits)


def _no_training() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route("/api/training", methods=["GET", "POST"])
    @router.api_route("/api/training/{rest:path}", methods=["GET", "POST"])
    @router.api_route("/api/runs", methods=["GET"])
    async def off() -> None:
        raise Refused(404, "no-training", "training is off: start the service with --allow-training")

    return router


class _Static(StaticFiles):
    """Browsers ask whether a file is still the same, so that a page never runs with scripts of another version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_ASK_AGAIN)
        return response


def _page(file: Path) -> Callable[[], Awaitable[FileResponse]]:
    async def page() -> FileResponse:
        return FileResponse(file, headers=_ASK_AGAIN)

    return page


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Response(error.body(), error.status, error.headers())


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not-found", 405: "method-not-allowed"}
    refused = Refused(error.status_code, codes.get(error.status_code, "refused"), f"{error.detail}: /openapi.json lists what there is")
    return Response(refused.body(), refused.status, {**refused.headers(), **(error.headers or {})})


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _refused(request, Refused(422, "invalid", f"{place}: {first['msg']}"))


def _bug(request: Request, error: Exception) -> Response:
    """The traceback goes to the log: Starlette raises the error anew behind this."""
    return _refused(request, Refused(500, "bug", "this is a defect of the service; its log says more"))


def _document(app: FastAPI, token: bool) -> dict[str, Any]:
    """The OpenAPI document."""
    if app.openapi_schema is None:
        summary = "Find objects in images, and label images and sounds"
        document = get_openapi(title=app.title, version=app.version, summary=summary, routes=app.routes)
        if token:
            document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, methods in document["paths"].items():
                if needs_token(path):
                    for operation in methods.values():
                        operation["security"] = [{"token": []}]
        app.openapi_schema = document
    return app.openapi_schema
