"""Guards time groups: the optimal ones are, they can be compared, and gaps in the records do not move them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration import CalibrationRecords, group_steps, groups_at, scatter
from workbench.calibration.layer_record import LayerRecord, StepStatistics
from workbench.errors import ArgumentError

Build = Callable[..., Any]


def records_of(levels: np.ndarray[Any, Any], calls: np.ndarray[Any, Any]) -> CalibrationRecords:
    """Records of one-channel layers with given second moments, [layers, buckets]; NaN where one did not run."""
    size = len(calls)
    axis = np.repeat(np.arange(size, dtype=np.float64)[:, None], 2, axis=1)
    nothing = StepStatistics(np.zeros(size, np.int64), *np.full((6, size), np.nan))
    layers = {
        f"layer {place}": LayerRecord(
            kind="linear",
            steps=nothing,
            count=np.isfinite(row).astype(np.int64),
            mean=np.zeros((size, 1), np.float32),
            second_moment=np.nan_to_num(row)[:, None].astype(np.float32),
            absmax=np.sqrt(np.nan_to_num(row))[:, None].astype(np.float32),
            output_energy=np.nan_to_num(row),
        )
        for place, row in enumerate(levels)
    }
    return CalibrationRecords("f", "timestep", axis, calls.astype(float), axis, calls.astype(float), layers)


def scatter_by_hand(levels: np.ndarray[Any, Any], calls: np.ndarray[Any, Any], edges: Any) -> float:
    total = 0.0
    for row in levels:
        for start, stop in pairwise(edges):
            there = np.isfinite(row[start:stop]) & (row[start:stop] > 0)
            if there.any():
                logs, weight = np.log(row[start:stop][there]), calls[start:stop][there]
                total += float(weight @ (logs - np.average(logs, weights=weight)) ** 2)
    return total


@st.composite
def cases(draw: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], int]:
    size, layers = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = np.exp(rng.normal(0, 2, (layers, size)) + draw(st.sampled_from([0.0, 20.0])))
    levels = levels.astype(np.float32).astype(np.float64)
    levels[rng.random((layers, size)) < draw(st.sampled_from([0, 0.3]))] = draw(st.sampled_from([np.nan, 0]))
    return levels, rng.integers(1, 4, size), draw(st.integers(1, size))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_optimal_groups_are_the_best_of_all_partitions(case: Any) -> None:
    levels, calls, number = case
    records, size = records_of(levels, calls), len(calls)
    groups = group_steps(records, number, "optimal")
    assert len(groups) == number
    cost = {pair: scatter_by_hand(levels, calls, pair) for pair in combinations(range(size + 1), 2)}
    best = min(
        sum(cost[pair] for pair in pairwise((0, *inner, size)))
        for inner in combinations(range(1, size), number - 1)
    )
    assert scatter_by_hand(levels, calls, groups.edges) == pytest.approx(best, abs=1e-7)
    assert scatter(records, groups) == pytest.approx(best, abs=1e-7)


@settings(deadline=None)
@given(cases())
def test_optimal_never_scatters_more_than_uniform_nor_more_groups_than_fewer(case: Any) -> None:
    levels, calls, number = case
    records = records_of(levels, calls)
    uniform, optimal = (group_steps(records, number, method) for method in ("uniform", "optimal"))
    assert scatter(records, optimal) <= scatter(records, uniform) + 1e-9
    if number > 1:
        assert scatter(records, optimal) <= scatter(records, group_steps(records, number - 1)) + 1e-9


@settings(deadline=None)
@given(cases(), st.sampled_from(["uniform", "optimal"]))
def test_groups_divide_the_buckets(case: Any, method: str) -> None:
    levels, calls, number = case
    groups = group_steps(records_of(levels, calls), number, method)
    assert groups.edges[0] == 0
    assert groups.edges[-1] == len(calls)
    assert all(start < stop for start, stop in pairwise(groups.edges))
    assert groups.shares.sum() == pytest.approx(1.0)
    for group, (start, stop) in enumerate(pairwise(groups.edges)):
        assert groups.ranges[group].tolist() == [start, stop - 1]
        assert groups.shares[group] == pytest.approx(calls[start:stop].sum() / calls.sum())
        assert (groups.group_of[start:stop] == group).all()


@pytest.mark.parametrize("size", [10, 12, 50])
@pytest.mark.parametrize("number", [1, 2, 5, 10])
def test_uniform_groups_of_equal_buckets_are_as_equal_as_can_be(size: int, number: int) -> None:
    groups = group_steps(records_of(np.ones((1, size)), np.ones(size)), number, "uniform")
    assert np.ptp(np.diff(groups.edges)) <= 1


def test_uniform_groups_have_equal_shares_of_the_calls_not_of_the_buckets() -> None:
    groups = group_steps(records_of(np.ones((1, 4)), np.array([3, 1, 1, 1])), 2, "uniform")
    assert groups.edges == (0, 1, 4)
    assert groups.shares.tolist() == [0.5, 0.5]


def test_a_jump_is_found() -> None:
    levels = np.array([[1, 1.1, 0.9, 1, 50, 51, 49, 50, 50, 50.0]])
    records = records_of(levels, np.ones(10))
    assert group_steps(records, 2, "optimal").edges == (0, 4, 10)
    assert group_steps(records, 2, "uniform").edges == (0, 5, 10)


def test_an_embedding_has_no_say(build: Build, calls_of: Build) -> None:
    records = build(calls_of(), buckets=64)
    without = {name: record for name, record in records.layers.items() if record.kind != "embedding"}
    groups = group_steps(records, 2)
    assert groups.edges == group_steps(replace(records, layers=without), 2).edges
    assert scatter(records, groups) == scatter(replace(records, layers=without), groups)


def test_more_groups_than_buckets_are_capped_and_it_is_said() -> None:
    records = records_of(np.ones((1, 3)), np.ones(3))
    groups = group_steps(records, 10)
    assert len(groups) == 3
    assert groups.note == (
        "10 time groups were asked for; the calibration has 3 buckets of time, so there are 3."
    )
    assert group_steps(records, 3).note is None


@pytest.mark.parametrize("number", [0, -1])
def test_no_groups_are_an_error(number: int) -> None:
    with pytest.raises(ArgumentError, match="at least 1") as raised:
        group_steps(records_of(np.ones((1, 3)), np.ones(3)), number)
    assert raised.value.key == "num_time_groups"


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="'kmeans'; allowed: uniform or optimal"):
        group_steps(records_of(np.ones((1, 3)), np.ones(3)), 2, "kmeans")


@pytest.mark.parametrize("edges", [(), (0,), (0, 2), (1, 3), (0, 2, 2, 3), (0, 2, 1, 3), (0, 4)])
def test_borders_by_hand_must_divide_the_buckets(edges: Any) -> None:
    records = records_of(np.ones((1, 3)), np.ones(3))
    with pytest.raises(ArgumentError, match="ascend from 0 to 3"):
        groups_at(records, edges)
    groups = groups_at(records, [0, 1, 3])
    assert (groups.method, len(groups), groups.note) == ("by hand", 2, None)
