"""Reading a request, for detection in its three forms, never more of it than the limits allow."""

import asyncio
import binascii
import codecs
import json
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl

from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from yoloperf.service.limits import Limits
from yoloperf.service.refusal import Refused
from yoloperf.service.schemas import Choices, ManyImages, OneImage, PathRequest, Predicting

Asked = TypeVar("Asked", bound=BaseModel)

_FORM_BYTES = 65_536
_FIELD_BYTES = 4096
_LENGTH_DIGITS = 20  # those of 2^64
_JSON_COPIES = 3  # of a body that are there at once, while it becomes text and the text becomes values
_WIDE = re.compile(r"\\u(?!00)")


@dataclass(frozen=True)
class Intake:
    """What was asked for: choices, and images as (name, file content); `saved_beside`: where output goes, if it was wanted."""

    choices: Choices
    images: list[tuple[str, bytes]]
    saved_beside: Path | None = None


class Budget:
    """Bytes that all requests together may hold."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    def take(self, count: int) -> None:
        """Raises Refused (503)."""
        if self.held + count > self.most:
            raise Refused(503, "busy", "too many bytes are on their way to this service: try again in 1 s", retry_after_s=1)
        self.held += count


class Body:
    """A request's body, counted while it comes in; what it took of the budget goes back when the block ends."""

    def __init__(self, request: Request, limits: Limits, budget: Budget) -> None:
        self.request, self.limits, self.budget = request, limits, budget
        self.count = self.held = 0

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *exception: object) -> None:
        self.budget.held -= self.held

    async def chunks(self, most: int, copies: int = 1) -> AsyncIterator[bytes]:
        """copies: how often the body will be in memory."""
        too_large = Refused(413, "request-too-large", f"a request may have {most / 1e6:g} MB here: send fewer or smaller images")
        announced = self.request.headers.get("content-length", "0")
        # int() takes no number of thousands of digits, not even of zeros
        if not announced.isdecimal() or len(announced) > _LENGTH_DIGITS or int(announced) > most:
            raise too_large
        async for chunk in self.request.stream():
            if self.count + len(chunk) > most:
                raise too_large
            self.budget.take(copies * len(chunk))
            self.held += copies * len(chunk)
            self.count += len(chunk)
            if chunk:
                yield chunk

    async def whole(self, most: int) -> bytes:
        return b"".join([chunk async for chunk in self.chunks(most)])


async def read(request: Request, body: Body, image_root: Path | None) -> Intake:
    """Raises Refused for everything that is not a well-formed request within the limits."""
    limits = body.limits
    async with _receiving(request, limits) as (kind, boundary):
        if kind == "multipart/form-data":
            return Intake(*await _multipart(body, boundary, Choices))
        if kind == "application/json":
            chunks = [chunk async for chunk in body.chunks(limits.request_bytes, _JSON_COPIES)]
            return await asyncio.to_thread(_json, chunks, limits)
        if kind == "application/x-www-form-urlencoded":
            return await asyncio.to_thread(_path, await body.whole(_FORM_BYTES), limits, image_root)
        raise Refused(415, "unknown-form", "send multipart/form-data, application/json or application/x-www-form-urlencoded")


async def read_files(request: Request, body: Body) -> tuple[Predicting, list[tuple[str, bytes]]]:
    """A request for labels: choices, and files as (name, content). Raises Refused as `read` does."""
    async with _receiving(request, body.limits) as (kind, boundary):
        if kind == "multipart/form-data":
            return await _multipart(body, boundary, Predicting)
        raise Refused(415, "unknown-form", "send multipart/form-data")


async def read_object(request: Request, body: Body, schema: type[Asked]) -> Asked:
    """A small request in JSON. Raises Refused as `read` does."""
    async with _receiving(request, body.limits) as (kind, _):
        if kind == "application/json":
            return _validated(schema, _object(await body.whole(_FORM_BYTES)))
        raise Refused(415, "unknown-form", "send application/json")


@asynccontextmanager
async def _receiving(request: Request, limits: Limits) -> AsyncIterator[tuple[str, str]]:
    """Gives the content type and its boundary; what takes too long in the block is refused."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "encoded", "send the body as it is, without Content-Encoding")
    if request.scope["query_string"]:
        raise Refused(422, "invalid", "options are fields of the body: leave out what follows the ? of the address")
    try:
        async with asyncio.timeout(limits.receive_s):
            yield kind, options.get("boundary", "")
    except TimeoutError as error:
        raise Refused(408, "too-slow", f"the request did not arrive within {limits.receive_s:g} s: send fewer or smaller files") from error
    except ClientDisconnect as error:
        raise Refused(400, "disconnected", "the client left") from error


async def _multipart(body: Body, boundary: str, schema: type[Asked]) -> tuple[Asked, list[tuple[str, bytes]]]:
    limits = body.limits
    fields: dict[str, str] = {}
    images: list[tuple[str, bytes]] = []
    try:
        parser = PushMultipartParser(
            boundary, max_segment_size=limits.image_bytes, max_segment_count=limits.images + len(schema.model_fields)
        )
        parts: list[bytes] = []
        async for chunk in body.chunks(limits.request_bytes):
            for event in parser.parse(chunk):
                if isinstance(event, bytes | bytearray):
                    parts.append(bytes(event))
                elif event is not None:
                    segment = event
                else:
                    content, parts = b"".join(parts), []
                    if segment.filename is not None or segment.name not in schema.model_fields:
                        images.append((segment.filename or segment.name, content))
                    elif len(content) > _FIELD_BYTES:
                        raise Refused(413, "field-too-large", f"{segment.name} may have {_FIELD_BYTES} bytes")
                    else:
                        fields[segment.name] = _text(content)
        parser.close()
    except ParserLimitReached as error:
        text = f"a part may have {limits.image_bytes / 1e6:g} MB and a request {limits.images} images: send smaller or fewer ones"
        raise Refused(413, "request-too-large", text) from error
    except (MultipartError, ValueError) as error:
        raise Refused(400, "malformed", f"this is no complete multipart/form-data ({error}): let a library write it") from error
    return _validated(schema, fields), _counted(images, limits)


def _json(chunks: list[bytes], limits: Limits) -> Intake:
    """Takes the chunks out of their list: no copy of the body outlives the next one but by a moment."""
    text = _narrow(chunks)
    _check_values(text, limits)
    value = _object(text)
    del text
    request = _validated(ManyImages, value) if "images" in value else _validated(OneImage, value)
    texts = request.images if isinstance(request, ManyImages) else [request.image]
    images = [(str(number), _base64(text, str(number), limits)) for number, text in enumerate(texts[: limits.images + 1])]
    choices = Choices(**request.model_dump(include=set(Choices.model_fields)))  # without the texts
    return Intake(choices, _counted(images, limits))


def _narrow(chunks: list[bytes]) -> str:
    """The text of a body, a byte a character. A single wide one would take four bytes for each: nothing that is asked for has one."""
    content = b"".join(chunks)
    chunks.clear()
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode("ascii")
    except UnicodeDecodeError as error:
        raise _not_ascii() from error
    if "\\" in text and _WIDE.search(text):
        raise _not_ascii()
    return text


def _check_values(text: str, limits: Limits) -> None:
    """Raises Refused where JSON holds more values than any request has: an empty list, two characters, becomes 70 bytes."""
    place = -1
    for _ in range(2 * limits.images + 100):  # a data URL has a comma, too
        place = text.find(",", place + 1)
        if place < 0:
            return
    raise _too_many(limits)


def _not_ascii() -> Refused:
    return Refused(422, "not-ascii", "this JSON has characters beyond ASCII: base64 and the names of models have none")


def _object(text: str | bytes) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "malformed", "this is no JSON: send an object with the fields of /openapi.json") from error
    if not isinstance(value, dict):
        raise Refused(422, "invalid", "this is no JSON object: send one with the fields of /openapi.json")
    return value


def _path(content: bytes, limits: Limits, image_root: Path | None) -> Intake:
    try:
        fields = dict(parse_qsl(content.decode(), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16))
    except ValueError as error:
        raise Refused(400, "malformed", "this is no form: send input=PATH&output=1") from error
    request = _validated(PathRequest, fields)
    if image_root is None:
        raise Refused(404, "no-image-root", "this service reads no files of its own: start it with --image-root, or send the image itself")
    path = _below(image_root, request.input)
    return Intake(request, [(request.input, _content(path, limits, request.input))], path if request.output else None)


def _below(root: Path, name: str) -> Path:
    """The file of that name, symbolic links followed, if it is below the root. Raises Refused, the same for all that is not."""
    try:
        path = (root / name).resolve(strict=True)
        if path.is_relative_to(root.resolve()):
            return path
    except (OSError, ValueError, RuntimeError):  # not there, a null byte in its name, a loop of links
        pass
    raise _no_file(name)


def _content(path: Path, limits: Limits, name: str) -> bytes:
    try:
        # neither follows a link that took the file's place meanwhile nor waits for the writer of a pipe
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return stream.read(limits.image_bytes + 1)
    except OSError:
        pass
    raise _no_file(name)


def _no_file(name: str) -> Refused:
    return Refused(404, "no-file", "there is no such file below the image root", name)


def _validated(schema: type[Asked], value: dict[str, object] | dict[str, str]) -> Asked:
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        known = ", ".join(schema.model_fields)
        raise Refused(422, "invalid", f"{place}: {first['msg']} (fields are {known})") from error


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "malformed", "a field is no UTF-8") from error


def _base64(text: str, name: str, limits: Limits) -> bytes:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    if len(text) > limits.image_bytes * 1.5:
        raise Refused(413, "image-too-large", f"an image may have {limits.image_bytes / 1e6:g} MB: send a smaller one", name)
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except ValueError as error:
        raise Refused(422, "not-base64", "this is no base64 (RFC 4648, with padding)", name) from error


def _counted(images: list[tuple[str, bytes]], limits: Limits) -> list[tuple[str, bytes]]:
    if not images:
        raise Refused(422, "no-image", "send at least one image or sound, in a field of the name image or file")
    if len(images) > limits.images:
        raise _too_many(limits)
    return images


def _too_many(limits: Limits) -> Refused:
    return Refused(413, "too-many-images", f"a request may have {limits.images} images: send the rest in further requests")
