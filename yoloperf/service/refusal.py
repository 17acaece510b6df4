"""What a client is told when its request is not served."""

import json
from typing import Any


class Refused(Exception):
    """A request that is answered with an error: {"error": {"code", "message", "image"?}}.

    code: a short name for programs; message: one line for people with the next step; image: the one of several that is meant.
    """

    def __init__(self, status: int, code: str, message: str, image: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.image, self.retry_after_s = status, code, message, image, retry_after_s

    def body(self) -> bytes:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.image is not None:
            error["image"] = self.image
        return json.dumps({"error": error}).encode()

    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers
