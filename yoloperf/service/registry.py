"""The models that a service has, by name."""

from yoloperf.core.errors import UserError, choose
from yoloperf.core.limits import available_cores
from yoloperf.service.batcher import Batcher, Workers, largest_batch
from yoloperf.service.limits import Limits
from yoloperf.service.metrics import Metrics
from yoloperf.service.refusal import Refused
from yoloperf.service.served import DETECT, Served, route_of


class Registry:
    """Models may be added while requests are served; one of a name that is taken replaces the old one, which finishes what it has."""

    def __init__(
        self, limits: Limits, metrics: Metrics, max_batch: int = 16, max_wait_s: float = 0.005, queue: int = 64, streams: int = 1
    ) -> None:
        """streams: batches that are inferred side by side, of whichever models."""
        self.limits, self.metrics = limits, metrics
        self.max_batch, self.max_wait_s, self.queue = max_batch, max_wait_s, queue
        self.workers = Workers(available_cores(), streams)
        self._batchers: dict[str, Batcher] = {}

    def add(self, model: Served) -> None:
        """Warm the model up and serve it. Takes seconds: not for the event loop."""
        batch = largest_batch(self.max_batch, model.streams)
        for warming in [self.workers.device.submit(model.warm_up, batch) for _ in range(model.streams)]:
            warming.result()
        batcher = Batcher(model, self.workers, self.limits, self.max_batch, self.max_wait_s, self.queue, self.metrics.image)
        self.metrics.watch_queue(model.name, lambda: batcher.waiting)
        self._batchers = {**self._batchers, model.name: batcher}

    def get(self, name: str | None = None, route: str = DETECT) -> Batcher:
        """The model's batcher; without a name that of the route's first model. Raises Refused (404; 422 for a model of another route)."""
        batchers = self._batchers
        try:
            found = batchers[choose(name, batchers, "model")] if name else self._first(route)
        except UserError as error:
            raise Refused(404, "unknown-model", str(error)) from error
        if found is None or route_of(found.model) != route:
            model = (found or next(iter(batchers.values()))).model
            own, kind = route_of(model), model.kind
            raise Refused(422, "another-kind", f"{model.name} is a model for {kind}: send to {own}, or choose another model")
        return found

    def _first(self, route: str) -> Batcher | None:
        return next((batcher for batcher in self._batchers.values() if route_of(batcher.model) == route), None)

    def is_default(self, model: Served) -> bool:
        """Whether its route takes it where none is named."""
        first = self._first(route_of(model))
        return first is not None and first.model is model

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
    def models(self) -> list[Served]:
        """Of each route the first is the default."""
        return [batcher.model for batcher in self._batchers.values()]

    def close(self) -> None:
        """Return when everything that was submitted is done."""
        self.workers.close()
