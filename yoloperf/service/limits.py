"""How much a request may ask for, found out before anything is decoded."""

from dataclasses import dataclass

from yoloperf.datasets.images import MOST_SEGMENTS
from yoloperf.service.headers import FORMATS, claimed_size, jpeg_scans
from yoloperf.service.refusal import Refused

# A progressive JPEG's scans each go over all coefficients, however few bytes they have. Encoders write some ten.
_MOST_SCANS = 64
_LONGEST_SIDE = 65_500  # of a JPEG; OpenCV's resize counts in 16 bits


@dataclass(frozen=True)
class Limits:
    """Per image: bytes and pixels; per sound: bytes; per request: files, bytes, seconds for the body to arrive and for the answer."""

    image_bytes: int = 20_000_000
    pixels: int = 50_000_000
    sound_bytes: int = 2_000_000
    images: int = 64
    request_bytes: int = 100_000_000
    receive_s: float = 30
    answer_s: float = 60


def check_image(data: bytes, limits: Limits, name: str) -> tuple[int, int]:
    """Width and height that the header states. Raises Refused for what is no image, or one that is too large to decode."""
    if len(data) > limits.image_bytes:
        raise Refused(413, "image-too-large", f"an image may have {limits.image_bytes / 1e6:g} MB: send a smaller one", name)
    width, height = claimed_size(data) or (0, 0)
    if not width or not height:
        raise not_an_image(name)
    if width * height > limits.pixels or max(width, height) > _LONGEST_SIDE:
        allowed = f"{limits.pixels / 1e6:g} megapixels and {_LONGEST_SIDE} a side"
        raise Refused(413, "too-many-pixels", f"an image may have {allowed}, this one has {width} x {height}: scale it down", name)
    scans = jpeg_scans(data)
    if scans is None or scans > _MOST_SCANS:
        raise Refused(422, "not-an-image", f"a JPEG may have {_MOST_SCANS} scans and {MOST_SEGMENTS} segments: save it again", name)
    return width, height


def not_an_image(name: str) -> Refused:
    return Refused(422, "not-an-image", f"this is no readable image: send {FORMATS}", name)
