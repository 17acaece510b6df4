"""What Prometheus scrapes."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from yoloperf.service.batcher import Found

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """A registry of its own a service, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("yoloperf_requests", "Requests answered", ["route", "method", "status"], registry=self.registry)
        self.seconds = Histogram(
            "yoloperf_request_seconds",
            "From the request's head to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "yoloperf_stage_seconds", "An image's time in each stage", ["model", "stage"], buckets=_SECONDS, registry=self.registry
        )
        self.batches = Histogram(
            "yoloperf_batch_images",
            "Images inferred together, counted once an image",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.queue = Gauge("yoloperf_queue_images", "Images that wait for inference", ["model"], registry=self.registry)

    def image(self, model: str, found: Found) -> None:
        """Count an image that is done."""
        self.batches.labels(model).observe(found.batch_size)
        for stage, seconds in vars(found.times).items():
            self.stages.labels(model, stage.removesuffix("_s")).observe(seconds)

    def watch_queue(self, model: str, waiting: Callable[[], int]) -> None:
        self.queue.labels(model).set_function(waiting)

    def text(self) -> bytes:
        return generate_latest(self.registry)
