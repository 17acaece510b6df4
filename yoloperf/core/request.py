"""RequestRecord: one request to a service, as the client saw it and as the service said; a row of requests.csv.

Times of a run count from its start; durations are what its clocks measured. upload_s and download_s need both clocks: they are
there where the offset between the two is known. What upload_s + server_s + download_s then lack of round_trip_s is time in the service
that it does not account for.
"""

from dataclasses import dataclass

from yoloperf.core.record import column, show_number
from yoloperf.core.units import show_bytes, show_seconds


@dataclass(frozen=True)
class RequestRecord:
    """One request. Absent is None: a request that was not answered has no stages, a request of a closed loop is due when it is sent."""

    cell: str | None = column("cell", "study", "The measurement that the request belongs to.")
    number: int | None = column("number", "client", "Place in the order of sending, from 0.")
    sample: str | None = column("sample", "client", "What was sent: the name of the first file.")
    items: int | None = column("items", "client", "Images or clips in the request.")
    due_s: float | None = column("due", "client", "When it was to be sent, from the start of the run.", "s", show_seconds)
    sent_s: float | None = column("sent", "client", "When its first byte was sent, from the start of the run.", "s", show_seconds)
    done_s: float | None = column(
        "done", "client", "When the answer's last byte came, or the failure, from the start of the run.", "s", show_seconds
    )
    latency_s: float | None = column("latency", "client", "done - due: what somebody who came then has waited.", "s", show_seconds)
    round_trip_s: float | None = column("round trip", "client", "done - sent.", "s", show_seconds)
    sent_bytes: int | None = column("sent bytes", "client", "Head and body of the request.", "B", show_bytes)
    received_bytes: int | None = column("received bytes", "client", "Head and body of the answer.", "B", show_bytes)
    status: int | None = column("HTTP status", "client", "Empty where no answer came.")
    error: str | None = column("error", "client", "Why there is no result, in a line.")
    upload_s: float | None = column("upload", "both clocks", "First byte sent to the service having read the body.", "s", show_seconds)
    queue_s: float | None = column("queue", "service", "Waiting between the service's stages.", "s", show_seconds)
    decode_s: float | None = column("decode", "service", "File to pixels, or to samples of sound.", "s", show_seconds)
    preprocess_s: float | None = column("preprocess", "service", "To the network's input.", "s", show_seconds)
    inference_s: float | None = column("inference", "service", "The network, for the whole batch that the item was in.", "s", show_seconds)
    postprocess_s: float | None = column("postprocess", "service", "Predictions to boxes or labels.", "s", show_seconds)
    encode_s: float | None = column("encode", "service", "The answer's JSON.", "s", show_seconds)
    server_s: float | None = column("in the service", "service", "The body having been read to the answer being ready.", "s", show_seconds)
    download_s: float | None = column("download", "both clocks", "The answer being ready to its last byte here.", "s", show_seconds)
    batch_size: int | None = column("batch size", "service", "Items that were inferred together.")
    node: str | None = column("node", "client", "Which replica answered, where its answer says so.")
    clock_offset_s: float | None = column(
        "clock offset", "client", "The service's clock less the client's, as estimated before the run.", "s", show_number
    )
