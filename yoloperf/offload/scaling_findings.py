"""What the load cells of the part "scaling" say: who saturates, what more replicas and another policy bring, whether the model holds."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from yoloperf.core.units import show_seconds
from yoloperf.offload.part import Finding
from yoloperf.offload.plan import MOST_BUSY
from yoloperf.offload.scaling_rows import Row
from yoloperf.report.evidence import NOT_TESTABLE, Case, Facet

CLOSE = 0.2  # of the measured mean round-trip time, which a prediction may be off
_SEEN = 0.05  # of the round-trip time: a smaller difference drowns in its spread
_QUEUED = 0.2  # busy at least: below that hardly anybody waits
_LATE = 0.1  # of the mean round-trip time, by which the client may send late


def findings_of(rows: Sequence[Row]) -> Iterator[Finding]:
    """rows: those of one replica once for every policy."""
    cells = {(row.policy, row.interval_s, row.replicas): row for row in rows if row.mean_s}
    fewest = min((row.replicas for row in rows), default=0)
    others = [(cells.get((row.policy, row.interval_s, fewest)), row) for row in cells.values() if row.replicas > fewest]
    yield _saturation([(one, more) for one, more in others if one])
    steps: list[tuple[Row, Row]] = []
    for place in dict.fromkeys((policy, interval) for policy, interval, _ in cells):
        steps += pairwise(sorted((row for row in cells.values() if (row.policy, row.interval_s) == place), key=lambda row: row.replicas))
    # where neither keeps up, both queues are as long as they are allowed to be
    yield _shorter([(few, more) for few, more in steps if _bounded(few) and (few.busy or 0) > _QUEUED or _bounded(few) != _bounded(more)])
    yield _by_policy(cells)
    yield _model(rows)
    yield from _drift([row for row in {row.cell: row for row in cells.values()}.values() if not _bounded(row) and row.capacity_rps])
    late = [row for row in cells.values() if row.mean_s and row.facts["lag_p99_s"] > _LATE * row.mean_s]
    if late:
        worst = max(late, key=lambda row: float(row.facts["lag_p99_s"]))
        text = f"The client sent 1 % of the requests late by more than {_LATE:.0%} of the mean round trip in {len(_names(late))} cells"
        longest = f"{show_seconds(worst.facts['lag_p99_s'])} with {worst.where}"
        yield Finding(f"{text}, at most {longest}; round trips count from when a request was due", None, _names(late))


def _saturation(pairs: Sequence[tuple[Row, Row]]) -> Finding:
    """pairs: the cell of the fewest replicas and one of more, at the same interval and policy."""
    full = [(one, more) for one, more in pairs if not _bounded(one)]
    if not full:
        text = "Nowhere did the fewest replicas fail to keep up: shorter mean intervals would show when they do"
        return Finding(text, NOT_TESTABLE, _names(row for pair in pairs for row in pair))
    cases = [
        Case(more.where, _bounded(more) or (not _bounded(one) and _answered(more) > (1 + _SEEN) * _answered(one)), (more.cell,))
        for one, more in pairs
    ]
    facet = Facet("more replicas keep up where fewer do, and keep up or answer more where fewer do not", cases)
    one, more = max(full, key=lambda pair: _answered(pair[1]) / _answered(pair[0]))
    text = (
        f"{one.replicas} {'replica saturates' if one.replicas == 1 else 'replicas saturate'} first: asked {one.facts['offered_rps']:.3g} "
        f"times/s it answers {_answered(one):.3g}/s and its queue {one.facts['queue']}; {more.replicas} behind "
        f"{more.policy_words} answer {_answered(more):.3g}/s, queue: {more.facts['queue']} ({facet.sentence()})"
    )
    return Finding(text, facet.verdict, _names([one, more]))


def _shorter(pairs: Sequence[tuple[Row, Row]]) -> Finding:
    cases = []
    for few, more in pairs:
        assert few.mean_s and more.mean_s
        cases.append(Case(more.where, more.mean_s < few.mean_s, (more.cell,), more.mean_s / few.mean_s))
    facet = Facet("mean round trip, more replicas against fewer", cases)
    text = f"More replicas shorten the queue where there is one ({facet.sentence()})"
    return Finding(text, facet.verdict, _names(row for pair in pairs for row in pair))


def _by_policy(cells: dict[tuple[str, float, int], Row]) -> Finding:
    cases, compared = [], []
    for (policy, interval, count), chance in cells.items():
        least = cells.get(("least_conn", interval, count))
        if policy == "random" and count > 1 and least and _bounded(chance) and _bounded(least):
            assert chance.mean_s and least.mean_s
            if chance.predicted_s and least.predicted_s and chance.predicted_s > (1 + _SEEN) * least.predicted_s:
                cases.append(Case(chance.where, least.mean_s < chance.mean_s, (least.cell,), least.mean_s / chance.mean_s))
                compared += [least, chance]
    facet = Facet("mean round trip, least connections against random", cases)
    text = f"Least connections beats random where queues are bounded and the model sees {_SEEN:.0%} or more between them"
    return Finding(f"{text} ({facet.sentence()})", facet.verdict, _names(compared))


def _model(rows: Sequence[Row]) -> Finding:
    once = {row.cell: row for row in rows}.values()
    below = [row for row in once if row.busy is not None and row.busy < MOST_BUSY and row.ratio]
    missed = [row for row in below if abs((row.ratio or 0) - 1) > CLOSE]
    cases = [Case(row.where, row not in missed, (row.cell,), row.ratio) for row in below]
    facet = Facet(f"model / measured, replicas busy less than {MOST_BUSY:.0%}", cases)
    text = f"The queueing model predicts the mean round-trip time within {CLOSE:.0%} below saturation ({facet.sentence()})"
    short = [row for row in missed if abs((row.predicted_s or 0) - (row.mean_s or 0)) < (row.facts["mean_error_s"] or 0)]
    if short:
        text += f"; in {len(short)} of the {len(missed)} others the run was too short to know its own mean as well"
    return Finding(text, facet.verdict, _names(below))


def _drift(full: Sequence[Row]) -> Iterator[Finding]:
    """full: cells that cannot keep up, in which the answers per second should be those of the calibration."""
    off = [row for row in full if abs(_answered(row) / (row.capacity_rps or 1) - 1) > CLOSE]
    if off:
        worst = max(off, key=lambda row: abs(_answered(row) / (row.capacity_rps or 1) - 1))
        text = (
            f"In {len(off)} of {len(full)} cells that could not keep up, the answers per second differ from the calibration by more than "
            f"{CLOSE:.0%}: {_answered(worst):.3g} instead of {worst.capacity_rps:.3g} with {worst.where}. Either the machine did other "
            "work for a time, and the model was told the wrong figures, or refusing requests takes that much of it"
        )
        yield Finding(text, None, _names(off))


def _bounded(row: Row) -> bool:
    return row.facts["queue"] not in ("grows", "overflows")


def _answered(row: Row) -> float:
    return float(row.facts["answered_rps"])


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.cell for row in rows))
