"""Guards the tables for 8-bit activations: they hold what was seen, zero exactly, and smoothing never clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration import CalibrationRecords, TimeAwareQuantizer, groups_at
from workbench.errors import ArgumentError, ValidationError

Build = Callable[..., Any]

LAYERS = ("steady.weight", "falling.weight", "late.weight")


def of_ranges(build: Build, ranges: list[tuple[float, float] | None]) -> TimeAwareQuantizer:
    """A group a range; None where the layer "a" did not run."""
    calls: list[Any] = []
    for time, found in enumerate(ranges):
        layers = {"always": np.ones((1, 1), np.float32)}
        if found is not None:
            layers["a"] = np.array([found], np.float32)
        calls.append((float(time), layers))
    records = build(calls)
    return TimeAwareQuantizer(records, groups_at(records, range(len(ranges) + 1)))


def test_ranges_are_those_of_the_raw_values_and_zero(calls_of: Build, build: Build) -> None:
    calls = calls_of()
    quantizer = TimeAwareQuantizer.of(build(calls), 3)
    for name in LAYERS:
        ranges = quantizer.ranges(name)
        for (low, high), (first, last) in zip(ranges, quantizer.groups.ranges.tolist(), strict=True):
            seen = [layers[name] for time, layers in calls if first <= time <= last and name in layers]
            if seen:
                assert low == min(0.0, np.concatenate(seen).min())
                assert high == max(0.0, np.concatenate(seen).max())
            else:
                assert np.isnan([low, high]).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_scale_and_zero_point_hold_the_range_and_zero(records: CalibrationRecords, smoothing: float) -> None:
    quantizer = TimeAwareQuantizer.of(records, 4)
    rows = quantizer.activation_table(smoothing).to_pylist()
    assert {row["layer"] for row in rows} == set(LAYERS)
    for row in rows:
        scale, zero = row["scale"], row["zero_point"]
        assert 0 <= zero <= 255
        for value in (row["low"], 0.0, row["high"], *np.linspace(row["low"], row["high"], 50)):
            code = min(max(round(value / scale) + zero, 0), 255)
            assert abs((code - zero) * scale - value) <= scale * (0.5 if value == 0 else 1.0)
        assert (min(max(0 + zero, 0), 255) - zero) * scale == 0.0


RANGE = st.tuples(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32)).map(
    lambda pair: (min(pair), max(pair))
)


@settings(deadline=None)
@given(st.lists(st.none() | RANGE, min_size=1, max_size=7), st.floats(0, 1))
def test_smoothing_never_clips_and_never_goes_beyond_a_neighbour(
    build: Build, ranges: Any, smoothing: float
) -> None:
    quantizer = of_ranges(build, [*ranges, (-1.0, 1.0)])
    plain, smooth = quantizer.ranges("a"), quantizer.ranges("a", smoothing)
    known = np.isfinite(plain[:, 0])
    assert (np.isfinite(smooth[:, 0]) == known).all()
    assert (smooth[known, 0] <= plain[known, 0]).all()
    assert (smooth[known, 1] >= plain[known, 1]).all()
    around = np.stack(
        [np.roll(np.pad(plain, ((1, 1), (0, 0)), constant_values=np.nan), k, 0)[1:-1] for k in (-1, 0, 1)]
    )
    for place in np.flatnonzero(known):
        assert smooth[place, 0] >= np.nanmin(around[:, place, 0]) - 1e-6 * abs(plain[place, 0]) - 1e-9
        assert smooth[place, 1] <= np.nanmax(around[:, place, 1]) + 1e-6 * abs(plain[place, 1]) + 1e-9
    np.testing.assert_array_equal(quantizer.ranges("a", 0.0), plain)


def test_smoothing_starts_from_an_unmodified_copy(build: Build) -> None:
    """One pass: a peak reaches its neighbours and no further, the same from the left as from the right."""
    quantizer = of_ranges(build, [(0, 1), (0, 1), (0, 1), (0, 7), (0, 1), (0, 1), (0, 1)])
    assert quantizer.ranges("a", 1.0)[:, 1].tolist() == [1, 1, 3, 7, 3, 1, 1]
    assert quantizer.ranges("a", 0.5)[:, 1].tolist() == [1, 1, 2, 7, 2, 1, 1]


def test_at_the_ends_and_beside_gaps_only_known_neighbours_count(build: Build) -> None:
    quantizer = of_ranges(build, [(-1, 2), (-3, 4), None, (-1, 1)])
    np.testing.assert_allclose(quantizer.ranges("a", 1.0)[:2], [[-2, 3], [-3, 4]])
    np.testing.assert_allclose(quantizer.ranges("a", 1.0)[3], [-1, 1])


@pytest.mark.parametrize("ranges", [(0.0, 0.0), (5.0, 5.0), (-3.0, -3.0), (0.0, 1e-45)])
def test_constant_inputs_have_a_usable_scale(build: Build, ranges: tuple[float, float]) -> None:
    row = of_ranges(build, [ranges]).activation_table().filter([False, True]).to_pylist()[0]
    assert row["layer"] == "a"
    assert row["scale"] > 0
    assert 0 <= row["zero_point"] <= 255
    for value in ranges:
        code = min(max(round(value / row["scale"]) + row["zero_point"], 0), 255)
        assert (code - row["zero_point"]) * row["scale"] == pytest.approx(value, abs=1e-44)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_smoothing_is_from_0_to_1(records: CalibrationRecords, smoothing: float) -> None:
    with pytest.raises(ArgumentError, match="from 0 to 1"):
        TimeAwareQuantizer.of(records).ranges("steady.weight", smoothing)


def test_a_layer_without_a_record_is_named(records: CalibrationRecords) -> None:
    with pytest.raises(ValidationError, match="no record of 'nobody'") as raised:
        TimeAwareQuantizer.of(records).ranges("nobody")
    assert raised.value.tensor == "nobody"


def test_plain_values_say_the_same_as_the_table(records: CalibrationRecords) -> None:
    quantizer = TimeAwareQuantizer.of(records, 3, "uniform")
    found = json.loads(json.dumps(quantizer.to_dict(0.5)))
    assert (found["time"], found["bits"], found["grouping"], found["smoothing"]) == (
        "timestep",
        8,
        "uniform",
        0.5,
    )
    assert sum(group["share"] for group in found["groups"]) == pytest.approx(1)
    rows = quantizer.activation_table(0.5).to_pylist()
    assert sum(len(entry["group"]) for entry in found["layers"].values()) == len(rows)
    for row in rows:
        entry = found["layers"][row["layer"]]
        at = entry["group"].index(row["group"])
        assert (entry["scale"][at], entry["zero_point"][at]) == (row["scale"], row["zero_point"])
