"""Samples into figures, by hand-made samples whose sums are plain."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core.samples import COLUMNS, TEXTS, Totals, combine, header, parse_row, row


def totals(*samples: dict[str, Any]) -> Totals:
    found = Totals()
    for sample in samples:
        found.add(sample)
    return found


def gpu(time_s: float, name: str = "0", **values: Any) -> dict[str, Any]:
    return {"time_s": time_s, "attempt": 1, "gpu": name, **values}


def host(time_s: float, **values: Any) -> dict[str, Any]:
    return {"time_s": time_s, "attempt": 1, **values}


def test_energy_is_the_counters_difference_where_there_is_one() -> None:
    found = totals(
        gpu(10.0, gpu_power_w=30.0, gpu_energy_j=5000.0),
        gpu(11.0, gpu_power_w=70.0, gpu_energy_j=5060.0),
        gpu(14.0, gpu_power_w=70.0, gpu_energy_j=5260.0),
    ).resources()
    assert (found["energy_j"], found["energy_source"], found["gpu_power_w"]) == (260.0, "counter", 65.0)


def test_polled_power_is_integrated_by_trapezoids() -> None:
    found = totals(gpu(0.0, gpu_power_w=50.0), gpu(2.0, gpu_power_w=150.0), gpu(3.0, gpu_power_w=250.0)).resources()
    assert (found["energy_j"], found["energy_source"]) == (200.0 + 200.0, "polled")


def test_a_missing_reading_in_between_is_bridged_and_one_at_the_end_is_not() -> None:
    assert totals(gpu(0.0, gpu_energy_j=1.0), gpu(1.0), gpu(2.0, gpu_energy_j=9.0)).resources()["energy_j"] == 8.0
    assert "energy_j" not in totals(gpu(0.0, gpu_energy_j=1.0), gpu(1.0, gpu_energy_j=9.0), gpu(2.0)).resources()


def test_a_counter_that_began_anew_is_not_believed() -> None:
    samples = [gpu(0.0, gpu_energy_j=900.0, gpu_power_w=10.0), gpu(1.0, gpu_energy_j=5.0, gpu_power_w=10.0)]
    found = totals(*samples, gpu(2.0, gpu_energy_j=15.0, gpu_power_w=10.0)).resources()
    assert (found["energy_j"], found["energy_source"]) == (20.0, "polled")


def test_means_are_weighted_by_time() -> None:
    found = totals(gpu(0.0, gpu_util_pct=0), gpu(1.0, gpu_util_pct=10), gpu(10.0, gpu_util_pct=90)).resources()
    assert found["gpu_util_pct"] == pytest.approx((10 * 1 + 90 * 9) / 10)


def test_throttled_is_the_time_in_which_something_held_the_clock_back() -> None:
    reasons = ["none", "idle", "application_clocks+sync_boost", "sw_power_cap", "sw_power_cap+hw_thermal"]
    found = totals(gpu(0.0), *(gpu(number, clock_reasons=words) for number, words in enumerate(reasons, 1))).resources()
    assert (found["throttled_share"], found["throttle_reasons"]) == (0.4, "sw_power_cap+hw_thermal")
    unknown = totals(gpu(0.0), gpu(1.0)).resources()
    assert "throttled_share" not in unknown


def test_of_several_gpus_energy_and_memory_add_up_and_the_rest_is_averaged() -> None:
    found = totals(
        *(gpu(0.0, name, gpu_energy_j=0.0) for name in "01"),
        gpu(2.0, "0", gpu_energy_j=100.0, gpu_util_pct=100, gpu_mem_used_bytes=900, gpu_mem_run_bytes=500, gpu_mem_bytes=1000),
        gpu(2.0, "1", gpu_energy_j=40.0, gpu_util_pct=50, gpu_mem_used_bytes=300, gpu_mem_bytes=1000),
    ).resources()
    assert (found["energy_j"], found["gpu_power_w"], found["gpu_util_pct"]) == (140.0, 70.0, 75.0)
    assert (found["gpu_mem_peak_bytes"], found["gpu_mem_bytes"], found["gpu_mem_source"]) == (800, 1000, "device")


def test_one_of_two_gpus_without_power_leaves_the_energy_unknown() -> None:
    found = totals(gpu(0.0, "0", gpu_energy_j=0.0), gpu(0.0, "1"), gpu(1.0, "0", gpu_energy_j=5.0), gpu(1.0, "1")).resources()
    assert "energy_j" not in found
    assert "energy_source" not in found


def test_the_processors_energy_is_a_cpu_runs_energy_and_does_not_stand_in_for_a_gpus() -> None:
    samples = [host(0.0, cpu_energy_j=0.0), host(2.0, cpu_energy_j=30.0)]
    found = totals(*samples).resources()
    assert (found["energy_j"], found["energy_source"], found["cpu_energy_j"]) == (30.0, "rapl", 30.0)
    beside = totals(*samples, gpu(0.0), gpu(2.0))
    assert "energy_j" not in beside.resources()
    assert beside.resources(on_gpu=False)["energy_source"] == "rapl"
    assert "energy_j" not in totals(*samples).resources(on_gpu=True)


def test_a_counter_that_went_away_gives_no_energy() -> None:
    found = totals(host(0.0, cpu_energy_j=0.0), host(1.0, cpu_energy_j=60.0), host(2.0, cpu_energy_j=None)).resources()
    assert not {"cpu_energy_j", "energy_j", "energy_source"} & set(found)


def test_the_trees_peak_is_summed_in_the_weaker_way_that_was_used() -> None:
    samples = [
        host(0.0, tree_bytes=5, tree_source="pss"),
        host(1.0, tree_bytes=9, tree_source="rss"),
        host(2.0, tree_bytes=7, tree_source="pss"),
    ]
    found = totals(*samples, host(3.0, tree_cpu_s=4.5)).resources()
    assert (found["tree_peak_bytes"], found["tree_source"], found["tree_cpu_s"]) == (9, "rss", 4.5)


def test_attempts_are_summed_weighted_and_maximised() -> None:
    first = {"energy_j": 10.0, "energy_source": "counter", "gpu_util_pct": 80.0, "sampled_s": 1.0, "tree_peak_bytes": 5, "tree_cpu_s": 1.5}
    second = {"energy_j": 5.0, "energy_source": "polled", "gpu_util_pct": 40.0, "sampled_s": 3.0, "tree_peak_bytes": 9, "tree_cpu_s": 2.0}
    first["throttle_reasons"], second["throttle_reasons"] = "hw_thermal", "sw_power_cap+hw_thermal"
    assert combine([first, second]) == {
        "energy_j": 15.0,
        "energy_source": "polled",
        "gpu_util_pct": 50.0,
        "tree_peak_bytes": 9,
        "tree_cpu_s": 3.5,
        "throttle_reasons": "hw_thermal+sw_power_cap",
    }


def test_what_an_attempt_lacks_the_run_lacks() -> None:
    assert combine([{"energy_j": 10.0, "tree_cpu_s": 1.0}, {"tree_cpu_s": 2.0}]) == {"tree_cpu_s": 3.0}
    assert combine([{"tree_cpu_s": 1.0}, None]) == {}
    assert combine([]) == {}


def test_energies_of_different_devices_are_not_summed() -> None:
    assert combine([{"energy_j": 1.0, "energy_source": "rapl"}, {"energy_j": 1.0, "energy_source": "counter"}]) == {}


numbers = st.one_of(st.none(), st.integers(0, 2**53), st.integers(0, 10**9).map(lambda number: number / 1000))
words = st.one_of(st.none(), st.text("abcdef_+-0123456789", min_size=1))


@given(st.fixed_dictionaries({name: words if name in TEXTS else numbers for name in COLUMNS}))
def test_a_row_reads_back_as_what_was_written(sample: dict[str, Any]) -> None:
    sample |= {"time_s": sample["time_s"] or 1.5, "attempt": 2}
    line = row(sample)
    assert line.count("\n") == 1
    assert parse_row(header().strip().split(","), line) == {name: value for name, value in sample.items() if value is not None}
