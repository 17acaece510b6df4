"""The shapes of requests and answers, as the OpenAPI document shows them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

MOST_BOXES = 4096

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Choices(BaseModel):
    """What any form of request may choose."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="name from /api/models; the first one by default")
    conf: Share = Field(0.25, description="lowest score")
    iou: Share = Field(0.45, description="overlap above which the lesser box of a class is dropped; 1 drops none")
    max_boxes: int = Field(300, ge=1, le=MOST_BOXES, description="most boxes an image")
    clip: bool = Field(True, description="cut boxes at the image's edges; what suppresses boxes by itself (iou=1) needs them uncut")
    multi_label: bool = Field(False, description="a box stands for every class above conf, not only for its best one: how mAP is measured")
    sent_at: float | None = Field(None, allow_inf_nan=False, description="the client's clock in Unix seconds; comes back in the answer")


class Predicting(BaseModel):
    """What a request for labels may choose."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str | None = Field(None, description="name from /api/models; the first one that is no detector by default")
    top: int = Field(5, ge=1, le=1000, description="most labels a file")
    sent_at: float | None = Field(None, allow_inf_nan=False, description="the client's clock in Unix seconds; comes back in the answer")


class PathRequest(Choices):
    """application/x-www-form-urlencoded: an image on the server, below its image root."""

    input: str = Field(min_length=1, description="path below the image root")
    output: bool = Field(
        False, description="1: save NAME_detected.jpg and NAME_detected.json beside the image; NAME has its suffix where that is not .jpg"
    )


class _Json(Choices):
    model_config = ConfigDict(strict=True)


class OneImage(_Json):
    image: str = Field(min_length=1, description="base64 of an image file")


class ManyImages(_Json):
    images: list[str] = Field(min_length=1, description="base64 of image files")


class Box(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    label: int = Field(alias="class", description="number of the class")
    name: str
    score: float
    box: list[float] = Field(description="x1, y1, x2, y2 in pixels of the image, turned as its EXIF says", min_length=4, max_length=4)
    box_normalised: list[float] = Field(description="the same from 0 to 1", min_length=4, max_length=4)


class ImageTiming(BaseModel):
    """Seconds; inference_s is that of the whole batch."""

    queue_s: float
    decode_s: float
    preprocess_s: float
    inference_s: float
    postprocess_s: float


class Timing(ImageTiming):
    """Seconds of the request; the stages between are those of its image that was done last."""

    receive_s: float
    encode_s: float
    total_s: float
    batch_size: int


class Result(BaseModel):
    image: str = Field(description="the file's name, or its number in a JSON request")
    width: int
    height: int
    counts: dict[str, int] = Field(description="boxes of each class that was found, of those below")
    truncated: bool = Field(description="whether there are more than max_boxes, of which the best are below")
    boxes: list[Box] = Field(description="best score first")
    timing: ImageTiming
    output: str | None = Field(description="annotated picture that was saved, below the image root")


class _Answered(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model: str
    model_digest: str
    runtime: str
    timing: Timing
    sent_at: float | None
    received_at: float
    answered_at: float


class Answer(_Answered):
    results: list[Result] = Field(description="one an image, in their order")


class LabelOf(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    label: int = Field(alias="class", description="number of the class")
    name: str
    score: float = Field(description="probability")


class Labelled(BaseModel):
    name: str = Field(description="the file's name")
    labels: list[LabelOf] = Field(description="best score first")
    timing: ImageTiming


class LabelAnswer(_Answered):
    results: list[Labelled] = Field(description="one a file, in their order")


class Problem(BaseModel):
    code: str
    message: str
    image: str | None = Field(None, description="which of several")


class ErrorAnswer(BaseModel):
    error: Problem


class Model(BaseModel):
    name: str
    kind: str = Field(description="detection, for /api/detect; classification or keywords, for /api/predict")
    classes: list[str]
    img_size: int | None = Field(description="side of the network's input in pixels, null where it takes no images")
    runtime: str
    precision: str
    digest: str = Field(description="of architecture and weights")
    default: bool = Field(description="whether its route takes it where none is named")


class Models(BaseModel):
    models: list[Model]
    training: bool = Field(description="whether models may be trained here")
    max_image_bytes: int


class State(BaseModel):
    status: str


def detect_body() -> dict[str, Any]:
    """The requestBody of POST /api/detect."""
    multipart = _multipart("image", "image files", Choices)
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": multipart},
            "application/json": {"schema": {"oneOf": [OneImage.model_json_schema(), ManyImages.model_json_schema()]}},
            "application/x-www-form-urlencoded": {"schema": PathRequest.model_json_schema()},
        },
    }


def predict_body() -> dict[str, Any]:
    """The requestBody of POST /api/predict."""
    return {"required": True, "content": {"multipart/form-data": {"schema": _multipart("file", "images, or WAV sounds", Predicting)}}}


def _multipart(field: str, what: str, schema: type[BaseModel]) -> dict[str, Any]:
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "description": what}
    return {"type": "object", "properties": {field: files, **schema.model_json_schema()["properties"]}, "required": [field]}
