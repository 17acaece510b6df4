"""Requests that no honest client sends, by number: the same number always makes the same bytes."""

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from tests.service.conftest import picture

HOST = b"Host: localhost\r\n"
SEEDS = [picture(1, suffix=suffix) for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff")]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: tuple[int, int]) -> bytes:
    headers = b"".join(_chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)) for size in ((width, height), *more))
    return b"\x89PNG\r\n\x1a\n" + headers + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    data = picture(1)
    frame = data.index(b"\xff\xc0")
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + struct.pack("<IiiHH", 40, width, height, 1, 24) + bytes(924)


def webp(width: int, height: int) -> bytes:
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


def tiff(width: int, height: int) -> bytes:
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]
    tags += [(278, 4, 1, height), (279, 4, 1, 100)]
    return (
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(200)
    )


BOMBS: list[Callable[[int, int], bytes]] = [png, jpeg, bmp, webp, tiff]


def mutated(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 2, 8))):
        changed[dice.randrange(min(len(changed), dice.choice((40, 120, len(changed)))))] = dice.choice(
            (0, 1, 127, 255, dice.randrange(256))
        )
    return bytes(changed[: dice.randrange(len(changed))] if dice.random() < 0.3 else changed)


def image(dice: random.Random) -> bytes:
    kind = dice.randrange(4)
    if kind == 0:
        return dice.randbytes(dice.randrange(3000))
    if kind == 1:
        return dice.choice(BOMBS)(dice.choice((1, 16_000, 65_000)), dice.choice((1, 16_000)))
    return mutated(dice, dice.choice(SEEDS))


def _post(kind: bytes, body: bytes, more: bytes = b"") -> bytes:
    head = b"POST /api/detect HTTP/1.1\r\n" + HOST + b"Content-Type: " + kind + b"\r\nContent-Length: %d\r\n" % len(body) + more
    return head + b"Connection: close\r\n\r\n" + body


def _form(dice: random.Random, content: bytes, name: bytes = b'name="image"; filename="x.jpg"') -> bytes:
    field = (
        b'--b\r\nContent-Disposition: form-data; name="conf"\r\n\r\n' + dice.choice((b"0.5", b"nan", b"-1", b"\xff", b"1e999")) + b"\r\n"
    )
    extra = field if dice.random() < 0.3 else b""
    return extra + b"--b\r\nContent-Disposition: form-data; " + name + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


def bad_image(dice: random.Random) -> bytes:
    return _post(b"multipart/form-data; boundary=b", _form(dice, image(dice)))


def bad_form(dice: random.Random) -> bytes:
    boundary = dice.choice((b"b", b"b", b"b", b"", b'"', b"c", b"\xff", b"b; boundary=c", b"x" * 3000))
    return _post(b"multipart/form-data; boundary=" + boundary, mutated(dice, _form(dice, dice.choice(SEEDS))))


def _value(dice: random.Random, depth: int = 0) -> Any:
    kind = dice.randrange(9 if depth < 4 else 6)
    if kind < 6:
        return dice.choice((None, True, -1, 0, 1e308, 10**40, "", "\0", "\ud800", "x", "AAAA", "../../etc/passwd", "A" * 2000))
    if kind < 8:
        return [_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {dice.choice(("image", "images", "conf", "iou", "model", "x")): _value(dice, depth + 1) for _ in range(dice.randrange(4))}


def bad_json(dice: random.Random) -> bytes:
    kind = dice.randrange(5)
    if kind == 0:
        body = dice.choice((b"[", b'{"image":', b'{"images":[')) * dice.choice((1, 1000, 100_000))
    elif kind == 1:
        body = mutated(dice, json.dumps({"images": [base64.b64encode(dice.choice(SEEDS)).decode()], "conf": 0.25}).encode())
    elif kind == 2:
        body = json.dumps({"images": [base64.b64encode(image(dice)).decode() for _ in range(dice.randrange(4))]}).encode()
    elif kind == 3:
        keys = ("image", "images", "conf", "iou", "max_boxes", "model", "sent_at", "extra")
        body = json.dumps({dice.choice(keys): _value(dice) for _ in range(dice.randrange(5))}).encode()
    else:
        body = dice.randbytes(dice.randrange(1, 300))
    return _post(b"application/json", body)


def bad_path(dice: random.Random) -> bytes:
    up = dice.choice((b"../", b"..%2f", b"%2e%2e/", b"..%5c", b"/", b"images/../../", b"%00", b"./", b"\xff"))
    body = b"input=" + up * dice.choice((1, 3, 12, 500)) + dice.choice((b"etc/passwd", b"proc/self/environ", b"dev/zero", b"images", b""))
    if dice.random() < 0.3:
        body = mutated(dice, body + b"&output=1&conf=0.25")
    return _post(b"application/x-www-form-urlencoded", body)


def bad_kind(dice: random.Random) -> bytes:
    kind = dice.choice(
        (b"", b"image/jpeg", b"text/plain", b"multipart/form-data", b"application/json; charset=utf-16", b"\xff", b"a" * 5000)
    )
    return _post(kind, dice.choice(SEEDS), dice.choice((b"", b"Content-Encoding: gzip\r\n", b"Expect: 100-continue\r\n")))


def bad_target(dice: random.Random) -> bytes:
    method = dice.choice((b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND"))
    path = dice.choice(
        (b"/static/", b"/", b"/api/", b"/api/detect/", b"/api/training/", b"/static/..%2f", b"/static/%2e%2e/", b"//", b"/\xff")
    )
    path += dice.choice((b"../app.py", b"..%2f..%2fetc/passwd", b"%00", b"x" * 3000, b"?x=%ff", b"%ff%fe", b"conf", b""))
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + b"Connection: close\r\nContent-Length: 0\r\n\r\n"


def bad_head(dice: random.Random) -> bytes:
    """Headers that other code than the HTTP parser reads."""
    host, more = HOST, b"Content-Length: 2\r\n"
    kind = dice.randrange(4)
    odd = dice.choice((b"http://[", b"[", b"http://]/", b"\xff", b"http://x:99999999/", b"//", b"http://[::1%25]", b":"))
    if kind == 0:
        more += b"Origin: " + odd + b"\r\n"
    elif kind == 1:
        host = b"Host: " + odd + b"\r\n"
        more += b"Origin: http://localhost\r\n"
    elif kind == 2:
        more = b"Content-Length: " + b"0" * dice.choice((30, 5000)) + b"2\r\n"
    else:
        more += b"Authorization: " + odd + b"\r\nLast-Event-ID: " + b"9" * dice.choice((19, 5000)) + b"\r\n"
    return b"POST /api/detect HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n" + more + b"Connection: close\r\n\r\n{}"


def bad_http(dice: random.Random) -> bytes:
    """Not even HTTP, or a body that is not as long as was said."""
    kind = dice.randrange(6)
    start = b"POST /api/detect HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    if kind == 0:
        return dice.randbytes(dice.randrange(1, 500)) + b"\r\n\r\n"
    if kind == 1:
        return (
            start
            + b"Content-Length: "
            + dice.choice((b"-1", b"x", b"1e9", b"99999999999999999999", b"1\r\nContent-Length: 2"))
            + b"\r\n\r\n{}"
        )
    if kind == 2:
        return (
            start
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + dice.choice((b"zz\r\n", b"ffffffffffffffffff\r\n", b"5\r\n{}", b"-1\r\n", b"2\r\n{}xx"))
        )
    if kind == 3:
        return start + b"X: " + b"x" * dice.choice((10_000, 60_000)) + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    if kind == 4:
        return (
            start
            + b"".join(b"X%d: y\r\n" % number for number in range(dice.choice((100, 5000))))
            + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
    return mutated(dice, _post(b"multipart/form-data; boundary=b", _form(dice, SEEDS[0])))


KINDS: list[Callable[[random.Random], bytes]] = [
    bad_image,
    bad_image,
    bad_form,
    bad_json,
    bad_path,
    bad_kind,
    bad_target,
    bad_head,
    bad_http,
]


def request(number: int) -> tuple[str, bytes]:
    dice = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    return kind.__name__, kind(dice)
