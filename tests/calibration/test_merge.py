"""Guards the merging of runs: halves of a capture become the whole, and what does not belong together is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration import CalibrationRecords, merge, pool
from workbench.errors import ArgumentError, ShapeMismatchError

Build = Callable[..., Any]

EXACT = ("count", "absmax")
CLOSE = ("mean", "second_moment", "output_energy")


def assert_same(one: CalibrationRecords, other: CalibrationRecords) -> None:
    for axis in ("steps", "step_calls", "buckets", "bucket_calls"):
        np.testing.assert_array_equal(getattr(one, axis), getattr(other, axis))
    assert set(one.layers) == set(other.layers)
    for name, record in one.layers.items():
        twin = other.layers[name]
        assert record.kind == twin.kind
        for field in EXACT:
            np.testing.assert_array_equal(getattr(record, field), getattr(twin, field))
        for field in CLOSE:
            np.testing.assert_allclose(getattr(record, field), getattr(twin, field), rtol=1e-5, atol=1e-6)
        for field in ("count", "minimum", "maximum"):
            np.testing.assert_array_equal(getattr(record.steps, field), getattr(twin.steps, field))
        for field in ("mean", "variance"):
            np.testing.assert_allclose(getattr(record.steps, field), getattr(twin.steps, field), rtol=1e-6)
        assert set(record.sensitivity) == set(twin.sensitivity)
        for key, values in record.sensitivity.items():
            np.testing.assert_allclose(values, twin.sensitivity[key])


@pytest.mark.parametrize("cut", [1, 7, 14])
def test_two_halves_are_the_whole_in_either_order(cut: int, calls_of: Build, build: Build) -> None:
    calls = calls_of()
    first, second, whole = build(calls[:cut]), build(calls[cut:]), build(calls)
    assert_same(merge(first, second), whole)
    assert_same(merge(second, first), whole)
    assert_same(merge(first, merge(second)), whole)
    assert merge(first, second).made_by["merged"] == [dict(first.made_by), dict(second.made_by)]


def test_interleaved_runs_of_coarse_buckets_add_up(calls_of: Build, build: Build) -> None:
    """Buckets of one run that overlap several of another take them in; nothing is counted twice or lost."""
    calls = calls_of(times=tuple(range(100, 1000, 50)))
    coarse, fine = build(calls[::2], buckets=3), build(calls[1::2])
    both, whole = merge(coarse, fine), build(calls)
    assert both.bucket_calls.sum() == whole.bucket_calls.sum()
    for name, record in whole.layers.items():
        together = [pool(one, np.zeros(len(one.count), np.int64), 1) for one in (both.layers[name], record)]
        assert together[0].count == together[1].count
        for field in ("mean", "second_moment", "absmax", "output_energy"):
            first, second = (getattr(one, field) for one in together)
            np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_runs_at_more_times_than_there_is_room_for_add_up(calls_of: Build, build: Build) -> None:
    calls = calls_of(times=tuple(np.linspace(1000, 1, 120).tolist()), each=1)
    runs = [build(calls[start::2]) for start in (0, 1)]
    for both in (merge(*runs), merge(*runs[::-1])):
        assert len(both.buckets) == 64
        assert len(both.steps) == 120
        assert both.bucket_calls.sum() == 120
        for name, record in both.layers.items():
            for place, (low, high) in enumerate(both.buckets.tolist()):
                there = [values[name] for time, values in calls if low <= time <= high and name in values]
                assert record.count[place] == sum(map(len, there))
                if there and record.kind != "embedding":
                    values = np.concatenate(there).astype(np.float64)
                    np.testing.assert_allclose(record.mean[place], values.mean(0), rtol=1e-5, atol=1e-6)
                    np.testing.assert_array_equal(record.absmax[place], np.abs(values).max(0))


@settings(deadline=None)
@given(st.lists(st.sampled_from([10.0, 20.0, 30.0, 40.0]), min_size=1, max_size=8), st.data())
def test_any_division_of_the_calls_gives_the_same(
    build: Build, calls_of: Build, times: list[float], data: Any
) -> None:
    calls = calls_of(times=times, each=1)
    parts = data.draw(st.lists(st.integers(0, 2), min_size=len(calls), max_size=len(calls)))
    runs = [[call for call, part in zip(calls, parts, strict=True) if part == some] for some in range(3)]
    assert_same(merge(*(build(run) for run in runs if run)), build(calls))


def test_sensitivities_are_averaged_over_the_runs_that_measured_them(calls_of: Build, build: Build) -> None:
    calls = calls_of()
    values = {"fisher:step": np.arange(5.0)}
    first = build(calls, sensitivity={"steady.weight": values})
    thrice = build(calls * 3, sensitivity={"steady.weight": {"fisher:step": np.full(5, 4.0)}})
    both = merge(first, thrice, build(calls))
    assert both.layers["steady.weight"].sensitivity["fisher:step"] == pytest.approx(
        (np.arange(5.0) + 3 * 4.0) / 4
    )
    assert both.estimators == ("fisher:step",)


def test_sensitivities_of_buckets_that_become_one_add_up(calls_of: Build, build: Build) -> None:
    """What noise does in two buckets it does in both: a_lb is a sum over calls, not a mean."""
    calls = calls_of()
    fine = build(calls, sensitivity={"steady.weight": {"noise": np.arange(1.0, 6.0)}})
    coarse = build(calls, buckets=1, sensitivity={"steady.weight": {"noise": np.array([15.0])}})
    assert merge(fine, coarse).layers["steady.weight"].sensitivity["noise"] == pytest.approx([15.0])


def test_what_does_not_belong_together_is_refused(calls_of: Build, build: Build) -> None:
    calls = calls_of()
    records = build(calls)
    with pytest.raises(ArgumentError, match="no records to merge"):
        merge()
    with pytest.raises(ArgumentError, match=r"fingerprint.*cannot be merged") as other:
        merge(records, build(calls, fingerprint="e" * 64))
    assert other.value.key == "fingerprint"
    with pytest.raises(ArgumentError, match="'timestep' and 'sigma'"):
        merge(records, build(calls, time="sigma"))
    wider = build([(1.0, {"steady.weight": np.ones((2, 5), np.float32)})])
    with pytest.raises(
        ShapeMismatchError, match=r"'steady\.weight' is a linear of 4 .* 5 in another"
    ) as shape:
        merge(records, wider)
    assert shape.value.tensor == "steady.weight"
    conv = replace(records.layers["steady.weight"], kind="conv")
    with pytest.raises(ShapeMismatchError, match="a conv"):
        merge(records, replace(records, layers={"steady.weight": conv}))
