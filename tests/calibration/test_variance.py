"""Guards the variance over time: the law of total variance holds on the very values that were seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration import group_steps, groups_at, second_moments, variance_table

Build = Callable[..., Any]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from(["uniform", "optimal"]))
def test_the_law_of_total_variance_holds_on_the_raw_values(
    build: Build, calls_of: Build, seed: int, number: int, method: str
) -> None:
    calls = calls_of(seed)
    records = build(calls)
    groups = group_steps(records, number, method)
    rows = {row["layer"]: row for row in variance_table(records, groups).to_pylist()}
    for name in ("steady.weight", "falling.weight", "late.weight"):
        by_time: dict[float, list[Any]] = {}
        for time, layers in calls:
            if name in layers:
                by_time.setdefault(time, []).append(layers[name].astype(np.float64).ravel())
        steps = {time: np.concatenate(found) for time, found in by_time.items()}
        every = np.concatenate(list(steps.values()))
        row = rows[name]
        assert row["steps"] == len(steps)
        assert row["within"] + row["between"] == pytest.approx(every.var(), rel=1e-6)
        assert row["within"] == pytest.approx(
            sum(found.size * found.var() for found in steps.values()) / every.size, rel=1e-6
        )
        explained = 0.0
        for low, high in groups.ranges.tolist():
            there = [found for time, found in steps.items() if low <= time <= high]
            if there:
                mean = np.concatenate(there).mean()
                explained += np.concatenate(there).size * (mean - every.mean()) ** 2 / every.size
        assert row["between_groups"] == pytest.approx(explained, rel=1e-6, abs=1e-12)
        assert row["between_groups"] <= row["between"] + 1e-9
        assert 0 <= row["eta_squared"] <= 1
        assert row["eta_squared"] == pytest.approx(explained / every.var(), rel=1e-6, abs=1e-12)


def test_heterogeneity_and_jumps_are_those_of_the_groups(build: Build) -> None:
    """Levels 1, 4 and 64: V = Var(log v̄), and the greatest jump between neighbours' peaks is 2 octaves."""
    times = {10.0: 1.0, 20.0: 2.0, 30.0: 8.0}
    calls = [(time, {"a": np.array([[level, -level]], np.float32)}) for time, level in times.items()]
    records = build(calls)
    groups = group_steps(records, 3)
    row = variance_table(records, groups).to_pylist()[0]
    assert row["heterogeneity"] == pytest.approx(np.var(np.log([1, 4, 64])))
    assert row["scale_jump"] == pytest.approx(2.0)
    assert row["eta_squared"] == 0.0
    names, levels = second_moments(records, groups)
    assert names == ["a"]
    np.testing.assert_allclose(levels, [[1, 4, 64]])


def test_what_is_not_defined_is_null(build: Build) -> None:
    calls = [
        (10.0, {"tokens": np.array([1, 2, 2]), "zeros": np.zeros((2, 3), np.float32)}),
        (20.0, {"tokens": np.array([0, 1, 7]), "constant": np.full((2, 3), 5, np.float32)}),
    ]
    records = build(calls)
    rows = {row["layer"]: row for row in variance_table(records, group_steps(records, 2)).to_pylist()}
    assert {rows["tokens"][key] for key in ("within", "between", "eta_squared", "heterogeneity")} == {None}
    assert (
        rows["zeros"]["eta_squared"] is rows["zeros"]["heterogeneity"] is rows["zeros"]["scale_jump"] is None
    )
    assert rows["constant"]["eta_squared"] is None
    assert (rows["constant"]["steps"], rows["constant"]["heterogeneity"]) == (1, 0.0)


def test_layers_are_missing_in_groups_where_they_did_not_run(build: Build, calls_of: Build) -> None:
    records = build(calls_of())
    names, levels = second_moments(records, groups_at(records, [0, 3, 5]))
    assert "tokens.weight" not in names
    assert np.isnan(levels[names.index("late.weight")]).tolist() == [False, True]
