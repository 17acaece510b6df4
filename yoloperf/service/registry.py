"""The models that a service has, by name."""

from yoloperf.core.errors import UserError, choose
from yoloperf.core.limits import available_cores
from yoloperf.service.batcher import Batcher, Workers
from yoloperf.service.limits import Limits
from yoloperf.service.metrics import Metrics
from yoloperf.service.model import ServedModel
from yoloperf.service.refusal import Refused


class Registry:
    """Models may be added while requests are served; one of a name that is taken replaces the old one, which finishes what it has."""

    def __init__(self, limits: Limits, metrics: Metrics, max_batch: int = 16, max_wait_s: float = 0.005, queue: int = 64) -> None:
        self.limits, self.metrics = limits, metrics
        self.max_batch, self.max_wait_s, self.queue = max_batch, max_wait_s, queue
        self.workers = Workers(available_cores())
        self._batchers: dict[str, Batcher] = {}

    def add(self, model: ServedModel) -> None:
        """Warm the model up and serve it. Takes seconds: not for the event loop."""
        self.workers.device.submit(model.warm_up, self.max_batch).result()
        batcher = Batcher(model, self.workers, self.limits, self.max_batch, self.max_wait_s, self.queue, self.metrics.image)
        self.metrics.watch_queue(model.name, lambda: batcher.waiting)
        self._batchers = {**self._batchers, model.name: batcher}

    def get(self, name: str | None = None) -> Batcher:
        """The model's batcher; without a name that of the first model. Raises Refused (404)."""
        batchers = self._batchers
        try:
            return batchers[choose(name, batchers, "model") if name else next(iter(batchers))]
        except UserError as error:
            raise Refused(404, "unknown-model", str(error)) from error

    def check_room(self) -> None:
        """Raises Refused (429) where no model has room for an image."""
        refused = None
        for batcher in self._batchers.values():
            try:
                batcher.check_room()
                return
            except Refused as error:
                refused = error
        if refused:
            raise refused

    @property
    def models(self) -> list[ServedModel]:
        """The first is the default."""
        return [batcher.model for batcher in self._batchers.values()]

    def close(self) -> None:
        """Return when everything that was submitted is done."""
        self.workers.close()
