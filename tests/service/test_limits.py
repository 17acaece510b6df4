"""What is refused before it costs anything, and who is let in."""

import asyncio
import base64
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from starlette.requests import Request

from tests.service.conftest import picture
from tests.service.hostile import bmp, jpeg, png, tiff, webp
from tests.service.live import Live
from yoloperf.service.headers import claimed_size
from yoloperf.service.intake import Body, Budget
from yoloperf.service.limits import Limits, check_image
from yoloperf.service.model import ServedModel, decode
from yoloperf.service.refusal import Refused

TOKEN = "0123456789abcdef0123"


@pytest.fixture
def never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded what should have been refused")

    monkeypatch.setattr(cv2, "imdecode", fail)


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_WEBP_QUALITY, 101], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_sizes_are_read_from_headers(suffix: str, flags: list[int]) -> None:
    for channels in (3, 4) if suffix != ".jpg" else (3,):
        data = cv2.imencode(suffix, np.full((37, 1053, channels), 90, np.uint8), flags)[1].tobytes()
        assert claimed_size(data) == (1053, 37)
        assert decode(data, Limits(), "x").shape == (37, 1053, 3)
        for end in range(0, 60):
            assert claimed_size(data[:end]) in (None, (0, 0), (1053, 37)), end


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("make", [png, jpeg, bmp, webp, tiff])
def test_bombs_are_refused_by_their_header(make: Callable[[int, int], bytes]) -> None:
    for width, height in ((16_000, 16_000), (16_383, 4_000)):
        bomb = make(width, height)
        assert len(bomb) < 5000
        with pytest.raises(Refused, match=f"this one has {width} x {height}") as refused:
            decode(bomb, Limits(), "bomb")
        assert (refused.value.status, refused.value.image) == (413, "bomb")


@pytest.mark.usefixtures("never_decoded")
def test_png_chunk_that_is_longer_than_the_file_is_refused() -> None:
    """OpenCV would take the 3.5 GB that it claims, and fill them."""
    data = picture(1, suffix=".png")
    assert claimed_size(data) == (64, 48)
    place = data.index(b"IDAT") - 4
    with pytest.raises(Refused, match="no readable image"):
        decode(data[:place] + b"\xd0\0\0\0" + data[place + 4 :], Limits(), "x")


@pytest.mark.usefixtures("never_decoded")
def test_side_that_opencv_cannot_count_is_refused() -> None:
    with pytest.raises(Refused, match="65500 a side"):
        decode(png(70_000, 10), Limits(), "long")


def test_second_header_does_not_hide_the_first() -> None:
    """Decoders must see the size that was checked, or refuse."""
    for sizes in (((16_000, 16_000), (8, 8)), ((8, 8), (16_000, 16_000))):
        with pytest.raises(Refused):
            decode(png(*sizes[0], sizes[1]), Limits(), "two headers")


@pytest.mark.usefixtures("never_decoded")
def test_jpeg_of_very_many_scans_is_refused() -> None:
    data = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert check_image(data, Limits(), "progressive") == (64, 48)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(Refused, match="scans"):
        decode(data[:-2] + data[scan:-2] * 100 + b"\xff\xd9", Limits(), "scans")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".bmp", ".tiff", ".jpg"])
def test_what_only_looks_like_scans_is_none(suffix: str) -> None:
    """Of compressed bytes each 65,536th pair is that of a scan, whatever the format; behind a JPEG lies what cameras leave there."""
    data = picture(1, suffix=suffix)
    trailer = b"\xff\xda" * 100
    if suffix == ".png":
        trailer = struct.pack(">I4s", len(trailer), b"teXt") + trailer + struct.pack(">I", zlib.crc32(b"teXt" + trailer))
        data, trailer = data[:-12], trailer + data[-12:]
    assert check_image(data + trailer, Limits(), "x") == (64, 48)
    assert decode(data + trailer, Limits(), "x").shape == (48, 64, 3)


@pytest.mark.usefixtures("never_decoded")
def test_scans_cannot_be_hidden_behind_what_looks_like_the_end() -> None:
    data = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data.rindex(b"\xff\xda")
    for hidden in (b"\xff\xfe\0\4\xff\xd9", b"\xff\xd0", b"\xff\x02\xff\xff", b"\0\xff\xff"):
        with pytest.raises(Refused, match="scans"):
            decode(data[:scan] + hidden + data[scan:-2] * 100 + b"\xff\xd9", Limits(), "scans")


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("filling", [b"\xff", b"\xff\xfe\0\2"])
def test_jpeg_of_very_many_segments_is_refused(filling: bytes) -> None:
    data = picture(1)
    assert check_image(data[:2] + filling * 1000 + data[2:], Limits(), "some") == (64, 48)
    with pytest.raises(Refused, match="no readable image"):
        decode(data[:2] + filling * 5000 + data[2:], Limits(), "before the frame")
    with pytest.raises(Refused, match="segments"):
        decode(data[:-2] + b"\xff\xfe\0\2" * 5000 + data[-2:], Limits(), "behind it")


def test_limits_hold_at_their_edges() -> None:
    limits = Limits(pixels=64 * 48, image_bytes=len(picture(1)))
    assert check_image(picture(1), limits, "just fits") == (64, 48)
    with pytest.raises(Refused, match="megapixels"):
        check_image(picture(1), Limits(pixels=64 * 48 - 1), "one pixel more")
    with pytest.raises(Refused, match="send a smaller one"):
        check_image(picture(1) + b"\0", limits, "one byte more")


@pytest.mark.parametrize("suffix", [".gif", ".jp2", ".ppm", ".hdr", ".avif"])
def test_formats_that_are_not_offered_are_refused(suffix: str) -> None:
    done, data = cv2.imencode(suffix, np.full((48, 64, 3), 90, np.float32 if suffix == ".hdr" else np.uint8))
    assert done
    with pytest.raises(Refused, match="no readable image"):
        decode(data.tobytes(), Limits(), "x")


@pytest.fixture(scope="module")
def tight(make_model: Callable[..., ServedModel]) -> Iterator[Live]:
    limits = Limits(image_bytes=5_000, images=3, request_bytes=12_000, receive_s=0.5)
    with Live([make_model()], token=TOKEN, limits=limits) as service:
        service.client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield service


def test_too_much_in_one_request(tight: Live) -> None:
    small, large = picture(1), picture(1, 400, 400)
    assert len(small) < 4000 < 5000 < len(large)
    assert tight.detect(small, small, small).status_code == 200
    assert tight.detect(small, small, small, small).status_code == 413
    assert tight.detect(large).status_code == 413
    assert tight.client.post("/api/detect", json={"images": ["AAAA"] * 4}).json()["error"]["code"] == "too-many-images"
    assert tight.client.post("/api/detect", json={"images": [[]] * 200}).json()["error"]["code"] == "too-many-images"
    assert tight.client.post("/api/detect", json={"image": "A" * 9000}).json()["error"]["code"] == "image-too-large"
    assert tight.client.post("/api/detect", content=b"x" * 12_001, headers={"Content-Type": "application/json"}).status_code == 413
    assert tight.detect(small, model="x" * 5000).json()["error"]["code"] == "field-too-large"

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1000

    response = tight.client.post("/api/detect", content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert tight.detect(small).status_code == 200


def test_length_of_very_many_digits_is_refused() -> None:
    request = Request({"type": "http", "headers": [(b"content-length", b"0" * 5000 + b"2")]})
    with Body(request, Limits(), Budget(10)) as body, pytest.raises(Refused) as refused:
        asyncio.run(body.whole(10))
    assert refused.value.status == 413


def test_body_that_does_not_arrive_is_given_up(tight: Live) -> None:
    def slow() -> Iterator[bytes]:
        import time

        yield b"--b\r\n"
        time.sleep(1)
        yield b"--b--\r\n"

    response = tight.client.post("/api/detect", content=slow(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (response.status_code, response.json()["error"]["code"]) == (408, "too-slow")


def test_bytes_of_all_requests_together_are_bounded() -> None:
    budget = Budget(10)
    budget.take(8)
    with pytest.raises(Refused) as refused:
        budget.take(3)
    assert (refused.value.status, refused.value.retry_after_s, budget.held) == (503, 1, 8)


def test_json_is_charged_for_the_copies_that_are_made_of_it(
    make_model: Callable[..., ServedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that is multipart may be as large as all bodies together, one that is JSON a third of that."""
    monkeypatch.setattr("yoloperf.service.api._BUDGET", 1)
    text = base64.b64encode(picture(1)).decode()
    with Live([make_model()], limits=Limits(request_bytes=2 * len(text))) as service:
        assert service.client.post("/api/detect", json={"image": text}).json()["error"]["code"] == "busy"
        assert service.detect(picture(1)).status_code == 200  # what the other took has gone back
    with Live([make_model()], limits=Limits(request_bytes=4 * len(text))) as service:
        assert service.client.post("/api/detect", json={"image": text}).status_code == 200


def test_token(tight: Live) -> None:
    for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN):
        for path in ("/api/models", "/metrics", "/api/nowhere"):
            response = tight.client.get(path, headers={"Authorization": wrong})
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer", (wrong, path)
        assert tight.client.post("/api/detect", headers={"Authorization": wrong}).status_code == 401
    for path in ("/", "/static/style.css", "/healthz", "/readyz", "/openapi.json"):
        assert tight.client.get(path, headers={"Authorization": ""}).status_code == 200, path
    assert tight.client.get("/api/models").status_code == 200
    security = tight.client.get("/openapi.json").json()["paths"]["/api/detect"]["post"]["security"]
    assert security == [{"token": []}]


def test_pages_of_other_sites_may_not_ask(tight: Live) -> None:
    own = tight.url.removeprefix("http://")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://["},
        {"Origin": f"http://{own}", "Host": "["},
    ):
        response = tight.client.post("/api/detect", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "cross-site")
    for headers in ({"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}, {"Origin": "https://127.0.0.1"}):
        assert tight.client.post("/api/detect", headers=headers).status_code == 415
