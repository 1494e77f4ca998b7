"""Guards the sums of a capture: right figures whatever the order of calls, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration.axis import Interval
from workbench.calibration.tally import SAMPLE, SAMPLES, CallSummary, LayerTally, Sample

BY_LAYER = ("steady.weight", "falling.weight", "late.weight")


def everything(calls: Any, name: str, low: float, high: float) -> np.ndarray[Any, Any]:
    return np.concatenate(
        [values[name] for time, values in calls if low <= time <= high and name in values]
    ).astype(np.float64)


@pytest.mark.parametrize("buckets", [64, 3, 1])
def test_records_are_those_of_all_values_kept(
    buckets: int, calls_of: Callable[..., Any], build: Callable[..., Any]
) -> None:
    calls = calls_of()
    records = build(calls, buckets=buckets)
    assert len(records.buckets) == min(buckets, 5)
    for name in BY_LAYER:
        record = records.layers[name]
        for place, (low, high) in enumerate(records.buckets.tolist()):
            if name == "late.weight" and low > 500:
                assert record.count[place] == 0
                assert np.isnan(records.mean(name)[place]).all()
                continue
            values = everything(calls, name, low, high)
            assert record.count[place] == len(values)
            np.testing.assert_allclose(record.mean[place], values.mean(0), rtol=1e-6)
            np.testing.assert_allclose(record.second_moment[place], np.square(values).mean(0), rtol=1e-6)
            np.testing.assert_array_equal(record.absmax[place], np.abs(values).max(0))
            assert record.output_energy[place] == pytest.approx(3 * np.square(values).sum(1).mean())
        for place, (low, high) in enumerate(records.steps.tolist()):
            if record.steps.count[place]:
                values = everything(calls, name, low, high)
                assert record.steps.count[place] == values.size
                assert record.steps.mean[place] == pytest.approx(values.mean())
                assert record.steps.variance[place] == pytest.approx(values.var())
                assert record.steps.minimum[place] == values.min()
                assert record.steps.maximum[place] == values.max()
                assert record.steps.absmax_p99[place] == pytest.approx(np.quantile(np.abs(values), 0.99))
            else:
                assert np.isnan(record.steps.mean[place])


def test_an_embedding_has_the_shares_of_its_rows(
    calls_of: Callable[..., Any], build: Callable[..., Any]
) -> None:
    calls = calls_of()
    record = build(calls).layers["tokens.weight"]
    for place, time in enumerate((100, 300, 500, 700, 900)):
        ids = everything(calls, "tokens.weight", time, time).astype(np.int64)
        assert record.count[place] == ids.size
        np.testing.assert_allclose(record.mean[place], np.bincount(ids, minlength=8) / ids.size, rtol=1e-6)
        np.testing.assert_array_equal(record.absmax[place], np.bincount(ids, minlength=8) > 0)
    assert not np.isnan(record.steps.mean).any()


@settings(deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.integers(0, 2**32))
def test_a_sample_is_bounded_and_near_the_truth(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample, everything = Sample(), []
    for size in sizes:
        values = np.abs(rng.normal(size=size)).astype(np.float32)
        everything.append(values)
        sample.add(values, 1.0)
        assert sample.values.size <= SAMPLE
    stream = np.concatenate(everything)
    assert np.isin(sample.values, stream).all()
    assert sample.values.size == pytest.approx(sample.share * stream.size, abs=len(sizes) + 1)
    for level in (0.5, 0.9):
        spread = 6 * np.sqrt(level * (1 - level) / sample.values.size)
        assert np.mean(stream <= np.quantile(sample.values, level)) == pytest.approx(
            level, abs=spread + 2 / sample.values.size
        )


def test_a_sample_counts_values_drawn_more_thinly_for_more() -> None:
    """A call of 512 out of 512,000 zeros and one of all of 100,000 ones: five zeros in six."""
    for order in (1, -1):
        sample = Sample()
        calls = [(np.zeros(512, np.float32), 1e-3), (np.ones(100_000, np.float32), 1.0)]
        for values, share in calls[::order]:
            sample.add(values, share)
        assert sample.values.mean() == pytest.approx(1 / 6.12, abs=0.02)


@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_the_memory_of_many_steps_is_what_was_planned(kind: Any) -> None:
    tally = LayerTally(kind, 4)
    bucket, rng, most = Interval(0, 1000), np.random.default_rng(0), 0
    steps = [Interval(step, step) for step in range(1000)]
    for _ in range(2):
        for step in steps:
            sums = np.ones((1 if kind == "embedding" else 3, 4))
            sample = rng.random(0 if kind == "embedding" else 4096).astype(np.float32)
            tally.add(step, bucket, CallSummary(10, sums, np.zeros(4), sample, 0.1, 1.0))
            most = max(most, sum(one.sample.values.size for one in tally.steps.values()))
    assert most <= SAMPLES
    assert 4 * most + 3 * 8 * 4 <= LayerTally.nbytes(4, 1)
    before = sum(one.count for one in tally.steps.values())
    for stays, gone in zip(steps[::2], steps[1::2], strict=True):
        tally.join_steps(stays, gone)
    assert len(tally.steps) == 500
    assert sum(one.count for one in tally.steps.values()) == before
    record = tally.record(steps[::2], [bucket])
    assert (record.steps.count > 0).all()
    if kind == "linear":
        assert record.steps.absmax_p99 == pytest.approx(np.full(500, 0.99), abs=0.05)
