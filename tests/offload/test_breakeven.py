import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core.errors import UserError
from yoloperf.core.request import RequestRecord
from yoloperf.offload.breakeven import FRAMING, BreakEven, Model, Sample, break_even, sample_of, verdict

seconds = st.floats(1e-3, 2.0)
sizes = st.floats(200, 1e6)
models = st.builds(Model, seconds, seconds, st.floats(0, 0.05), sizes, sizes)


def noisy(model: Model, pictures: int, repetitions: int, seed: int, spread: float = 0.3) -> Sample:
    """Measurements of pictures whose sizes and times differ, with stalls in one of twenty."""
    rng = np.random.default_rng(seed)
    size = 1 + spread * rng.standard_normal(pictures).clip(-2, 2)
    shape = (pictures, repetitions)

    def times(mean_s: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return mean_s * (1 + 0.05 * rng.standard_normal(shape)) + (rng.random(shape) < 0.05) * mean_s

    local, server = times(model.local_s) * size[:, None], times(model.server_s) * size[:, None]
    return Sample(local, server + model.overhead_s, server, model.sent_bytes * size, np.full(pictures, model.received_bytes))


@given(models, st.floats(0, 0.2), st.floats(0.1, 10))
def test_at_break_even_both_take_the_same(model: Model, rtt_s: float, down_over_up: float) -> None:
    bps = model.break_even_bps(rtt_s, down_over_up)
    if np.isinf(bps):
        assert model.remote_s(rtt_s=rtt_s) >= model.local_s
    else:
        assert model.remote_s(bps, bps * down_over_up, rtt_s) == pytest.approx(model.local_s)
        for factor in (1.25, 0.8):  # of the rate: the transfers, which take all that an infinitely fast link would save, take so much less
            saved_s = model.local_s - model.remote_s(factor * bps, factor * bps * down_over_up, rtt_s)
            assert saved_s == pytest.approx((1 - 1 / factor) * model.gain_s(rtt_s), abs=1e-12)


def test_by_hand() -> None:
    """100 kB in 80 ms that are left of 100: 10 Mbit/s and the frames."""
    assert Model(0.1, 0.015, 0.005, 90_000, 10_000).break_even_bps() == pytest.approx(10e6 * FRAMING)


@given(models)
def test_a_faster_remote_machine_needs_less_bandwidth(model: Model) -> None:
    slow, fast = model.with_speed_ratio(2), model.with_speed_ratio(4)
    assert fast.break_even_bps() <= slow.break_even_bps()
    assert slow.server_s == pytest.approx(model.local_s / 2)


TRUTH = Model(0.080, 0.015, 0.003, 60_000.0, 2_000.0)


def test_the_model_is_recovered_from_noisy_measurements() -> None:
    found = break_even(noisy(TRUTH, 40, 9, seed=1, spread=0.05))
    assert found.bps == pytest.approx(TRUTH.break_even_bps(), rel=0.03)
    assert found.low_bps < found.bps < found.high_bps


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """95 % of 150 studies, give or take three standard deviations of such a count; and it is no wider than it must be."""
    covered, width = 0, []
    for seed in range(150):
        sample = noisy(TRUTH, 24, 7, seed)
        found = break_even(sample, seed=seed, count=300)
        covered += found.low_bps <= TRUTH.break_even_bps() <= found.high_bps
        width.append(found.high_bps / found.low_bps)
    assert covered >= 150 * (0.95 - 3 * (0.95 * 0.05 / 150) ** 0.5)
    assert np.median(width) < 1.2


def row(name: str, round_trip_s: float = 0.02, **others: object) -> RequestRecord:
    return RequestRecord(sample=name, round_trip_s=round_trip_s, **{"server_s": 0.01, "sent_bytes": 1000, "received_bytes": 100, **others})  # type: ignore[arg-type]


def test_the_same_pictures_leave_chance_to_the_repetitions() -> None:
    small, large = [0.02] * 5, [0.2] * 5
    sample = Sample(*(np.array([small, large]) for _ in range(3)), np.array([1e3, 1e6]), np.array([1e3, 1e3]))
    assert np.ptp(np.asarray(sample.resampled(other_pictures=False).local_s)) == 0
    assert np.ptp(np.asarray(sample.resampled().local_s)) == pytest.approx(0.18)


def test_pictures_are_matched_and_failures_left_out() -> None:
    local = [row("a", 0.1), row("b", 0.3), row("a", 0.1), row("b", 0.3), row("c")]
    remote = [row("b"), row("a"), row("a", error="gone"), row("d")]
    model = sample_of(local, remote).model()
    assert (model.local_s, model.server_s, model.sent_bytes) == (pytest.approx(0.2), pytest.approx(0.01), 1000)
    assert model.overhead_s == pytest.approx(0.01)
    with pytest.raises(UserError, match="no picture was answered by both"):
        sample_of(local, [row("a", error="gone")])


def test_a_picture_that_was_refused_takes_no_repetitions_from_the_others() -> None:
    """Its one answer would leave the others with theirs to the first request, which stalled."""
    times = [0.9, 0.1, 0.1, 0.1, 0.1]
    local = [row(name, time_s) for name in "abc" for time_s in times]
    remote = [row(name, time_s) for name in "ab" for time_s in times] + [row("c", 0.1)]
    sample = sample_of(local, remote)
    assert (sample.model().local_s, sample.model().remote_s()) == (pytest.approx(0.1), pytest.approx(0.1))
    drawn = sample.resampled(count=200)
    assert np.isfinite(drawn.remote_s()).all() and np.ptp(drawn.local_s) > 0  # repetitions are drawn, too
    alone = sample_of(local, [row("c", 0.1)]).resampled(count=50)
    assert np.ptp(alone.remote_s()) == pytest.approx(0)


def test_verdicts() -> None:
    pays = verdict(TRUTH, BreakEven(6.2e6, 5.9e6, 6.5e6), 416)
    assert pays == "offload pays above 6.2 Mbit/s at 416 px (95 % confidence: 5.9 Mbit/s to 6.5 Mbit/s), below that run locally"
    slow = Model(0.02, 0.03, 0.002, 1000.0, 1000.0)
    assert verdict(slow, break_even(noisy(slow, 10, 3, 0)), 416).startswith("offload never pays at 416 px: the remote answer takes 3")
    heavy = Model(30.0, 0.1, 0.002, 1000.0, 1000.0)
    assert verdict(heavy, break_even(noisy(heavy, 10, 3, 0)), None).startswith("offload always pays: ")
    unsure = verdict(TRUTH, BreakEven(9e8, 3e8, np.inf), 416, 0.05)
    assert "over a round trip of 50.0 ms (95 % confidence: 300 Mbit/s to never)" in unsure
    assert "it may pay above 300 Mbit/s" in verdict(slow, BreakEven(np.inf, 3e8, np.inf), 416)
