"""Part "places": the same files in this process, on a service here, and on a remote one over the links of the study.

One request at a time. Two more cells measure just above and just below the break-even bandwidth that the others predict, in turn with
the local place, so that a machine that is slower meanwhile is so for both.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.record import from_csv, to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload.breakeven import break_even, sample_of, show_rate, verdict
from yoloperf.offload.checks import part_settings
from yoloperf.offload.clock import aligned, estimate_offset
from yoloperf.offload.exchange import Connection, Exchange, Request
from yoloperf.offload.kept import check_model, service_url
from yoloperf.offload.link import shaped
from yoloperf.offload.part import Cell, Done, Results
from yoloperf.offload.places_results import ABOVE, BELOW, IN_PROCESS, LOCAL, REMOTE, results_of
from yoloperf.offload.samples import Sample, accuracy, load_samples, requests_of
from yoloperf.offload.study import DETECTION, LinkSpec, Place, Study

if TYPE_CHECKING:
    from yoloperf.service.served import Served

_DEFAULTS: dict[str, float] = {
    "pictures": 16,  # or files of another kind, the first of the study's
    "rounds": 10,  # times each
    "rtt_ms": 0.0,  # of the link whose break-even bandwidth is looked for
    "down_over_up": 1.0,  # its downward rate by its upward one
    "above": 1.25,  # times the break-even bandwidth: where it is confirmed
    "below": 0.8,
    "timeout_s": 30.0,
}
_WARM_UP = 3  # requests: the connection, the window of TCP, the caches
_LABELS = 5  # of a file: as many as the service's route answers with
_GIVE_UP = 3  # requests without an answer, one after the other: the link or the service is gone
_SLOWEST_BPS, _FASTEST_BPS = 20e3, 2e9  # links that can be made and measured here

Way = Callable[[Request], Exchange]


class _Places:
    name, title = "places", "Local against remote"

    def cells(self, study: Study) -> list[Cell]:
        settings = _settings(study)
        common = {"model": study.model, "data": study.data, "split": study.split, "images": study.images, "seed": study.seed, **settings}
        local, remote = study.local.measured(), study.remote.measured()
        cells = [
            Cell(IN_PROCESS, {**common, "place": {**local, "url": None}}),
            Cell(LOCAL, {**common, "place": local}),
            Cell(REMOTE, {**common, "place": remote}),
        ]
        cells += [Cell(f"{REMOTE}-{link.name}", {**common, "place": remote, "link": dataclasses.asdict(link)}) for link in study.links]
        both = {**common, "place": remote, "against": {**local, "url": None}}
        return [*cells, Cell(ABOVE, {**both, "factor": settings["above"]}), Cell(BELOW, {**both, "factor": settings["below"]})]

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        settings = _settings(study)
        link = LinkSpec(**cell.settings["link"]) if "link" in cell.settings else None
        if "factor" in cell.settings:
            found = _link_to_confirm(cell, folder, settings)
            if isinstance(found, str):
                _write(folder, [])
                return {"reason": found}
            link = found
        samples = load_samples(study)[: int(settings["pictures"])]
        requests = requests_of(study, samples, study.model.partition("=")[0])
        local = None
        if cell.name == IN_PROCESS or "factor" in cell.settings:
            local = _InProcess(_load(study.model, study.local, study.workload), {sample.name: sample.content for sample in samples})
        if cell.name == IN_PROCESS:
            assert local
            here: list[Exchange] = []
            _ask(requests, int(settings["rounds"]), [(local.exchange, here)], cell.name)
            _write(folder, _records(here, cell.name, None))
            runtime = local.model.runtime
            about = {"img_size": local.model.img_size, "runtime": runtime.name, "precision": runtime.precision}
            return {**about, "accuracy": accuracy(here, samples)}
        return _over_http(cell, study, folder, samples, requests, link, local)

    def results(self, done: Sequence[Done], study: Study) -> Results:
        settings = _settings(study)
        return results_of(done, study, settings["rtt_ms"] / 1e3, settings["down_over_up"])


PART = _Places()


class _InProcess:
    """The model without a service: from a file's bytes to its boxes or labels, by the service's own steps."""

    def __init__(self, model: "Served", contents: dict[str, bytes]) -> None:
        self.model, self.contents = model, contents

    def exchange(self, request: Request) -> Exchange:
        from yoloperf.service.limits import Limits
        from yoloperf.service.model import Options

        content = self.contents[request.sample]
        start = time.monotonic()
        held = self.model.decode(content, Limits(), request.sample)
        decoded = time.monotonic()
        seen, placed = self.model.prepare(held)
        prepared = time.monotonic()
        (raw,) = self.model.infer([seen])
        inferred = time.monotonic()
        found = self.model.finish(raw, placed, Options() if self.model.kind == DETECTION else _LABELS)
        end = time.monotonic()
        timing = {
            "receive_s": 0.0,
            "decode_s": decoded - start,
            "preprocess_s": prepared - decoded,
            "inference_s": inferred - prepared,
            "postprocess_s": end - inferred,
            "total_s": end - start,
            "batch_size": 1,
        }
        results = [] if self.model.kind == DETECTION else [{"labels": [{"name": label.name} for label in found]}]
        return Exchange(request, start, end, None, {"timing": timing, "results": results}, 0, None, None)


@functools.lru_cache(1)
def _load(model: str, place: Place, workload: str) -> "Served":
    from yoloperf.service.served import load_model

    name, _, weights = model.partition("=")
    served = load_model(name, weights, place.runtime, threads=place.threads, precision=place.precision or "auto")
    if served.kind != workload:
        raise UserError(f"{weights} is for {served.kind}, and the study is about {workload}: set its workload, or give other weights")
    return served


def _over_http(
    cell: Cell,
    study: Study,
    folder: Path,
    samples: Sequence[Sample],
    requests: Sequence[Request],
    link: LinkSpec | None,
    local: _InProcess | None,
) -> dict[str, Any]:
    """What was answered before something broke stays in requests.csv."""
    settings = _settings(study)
    url = service_url(Place(**cell.settings["place"]), [study.model])
    check_model(url, study.model.partition("=")[0], study.workload, None)
    here: list[Exchange] = []
    there: list[Exchange] = []
    trouble = None
    clock = aligned(None, None, 0)
    start = time.monotonic()
    try:
        before = estimate_offset(url)
        with shaped(link, url) if link else contextlib.nullcontext(url) as way, Connection(way, settings["timeout_s"]) as connection:
            ways: list[tuple[Way, list[Exchange]]] = [(connection.exchange, there)]
            _ask(requests, int(settings["rounds"]), [(local.exchange, here), *ways] if local else ways, cell.name)
        clock = aligned(before, estimate_offset(url), time.monotonic() - start)
    except UserError as error:
        if not there:
            raise
        trouble = str(error)
    rows = _records(there, f"{cell.name}/{REMOTE}" if local else cell.name, clock.offset_s)
    _write(folder, (_records(here, f"{cell.name}/{IN_PROCESS}", None) if local else []) + rows)
    failed = [row for row in rows if row.error]
    if trouble:
        raise UserError(f"{cell.name}: {trouble}; the {len(rows) - len(failed)} answers before it are in {folder / 'requests.csv'}")
    if len(failed) == len(rows):
        raise UserError(f"{cell.name}: nothing was answered by {url}: {failed[0].error}")
    shape = dataclasses.asdict(link) if link else None
    about = {"link": shape, "clock_error_s": clock.error_s, "clock_reason": clock.reason}
    return {**about, "accuracy": accuracy(there, samples)}


def _ask(requests: Sequence[Request], rounds: int, ways: Sequence[tuple[Way, list[Exchange]]], label: str) -> None:
    """Every request `rounds` times in every way, by turns. Raises UserError where one gives no answers any more."""
    for way, _ in ways:
        for request in requests[:_WARM_UP]:
            way(request)
    for request in tqdm([*requests] * rounds, label, unit="request", disable=None, leave=False):
        for way, outcomes in ways:
            outcomes.append(way(request))
            last = outcomes[-_GIVE_UP:]
            if len(last) == _GIVE_UP and all(exchange.error and exchange.status is None for exchange in last):
                answered = sum(exchange.error is None for exchange in outcomes)
                raise UserError(f"no answers any more after {answered} of {rounds * len(requests)} ({last[-1].error})")


def _link_to_confirm(cell: Cell, folder: Path, settings: dict[str, float]) -> LinkSpec | str:
    """The link at the cell's factor of the break-even bandwidth, which cells beside this one predict; or why there is none."""
    rows = []
    for name in (IN_PROCESS, REMOTE):
        file = folder.parent / name / "requests.csv"
        if not file.is_file():
            raise UserError(f"{cell.name} needs what {name} measures: that one failed, mend it first")
        rows.append(from_csv(RequestRecord, file.read_text()))
    rtt_s, down_over_up = settings["rtt_ms"] / 1e3, settings["down_over_up"]
    sample = sample_of(*rows)
    found = break_even(sample, rtt_s, down_over_up)
    if not _SLOWEST_BPS <= found.bps <= _FASTEST_BPS:
        return f"there is no break-even to confirm: {verdict(sample.model(), found, None, rtt_s)}"
    up_bps = cell.settings["factor"] * found.bps
    return LinkSpec(f"{cell.name} ({show_rate(up_bps)})", up_bps, up_bps * down_over_up, rtt_s)


def _records(exchanges: Sequence[Exchange], cell: str, offset_s: float | None) -> list[RequestRecord]:
    """In the process nothing is sent."""
    start = exchanges[0].sent_at if exchanges else 0.0
    rows = [exchange.record(number, start, cell=cell, offset_s=offset_s) for number, exchange in enumerate(exchanges)]
    if cell.endswith(IN_PROCESS):
        rows = [dataclasses.replace(row, sent_bytes=None, received_bytes=None) for row in rows]
    return rows


def _write(folder: Path, rows: Sequence[RequestRecord]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "requests.csv", to_csv(RequestRecord, rows))


def _settings(study: Study) -> dict[str, float]:
    settings: dict[str, float] = part_settings(study, "places", _DEFAULTS)
    for key, value in settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value < 1e9 or (value == 0 and key != "rtt_ms"):
            raise UserError(f"places: {key} must be a number above 0, not {value!r}")
        if key in ("pictures", "rounds") and not isinstance(value, int):
            raise UserError(f"places: {key} must be a whole number, not {value!r}")
    if not settings["below"] < 1 < settings["above"]:
        raise UserError("places: below must be less than 1 and above more: they are factors of the break-even bandwidth")
    return settings
