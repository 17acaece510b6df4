"""The service's clock, for clients that must compare its times with their own."""

import time

from fastapi import APIRouter
from pydantic import BaseModel, Field


class Clock(BaseModel):
    received_at: float = Field(description="when the request came, in Unix seconds of this service's clock")
    answered_at: float = Field(description="when its answer was made, by the same clock")


def make_router() -> APIRouter:
    router = APIRouter()

    @router.get("/api/clock", tags=["operation"], summary="What time it is here: two of the four times of NTP's formula")
    async def clock() -> Clock:
        return Clock(received_at=time.time(), answered_at=time.time())

    return router
