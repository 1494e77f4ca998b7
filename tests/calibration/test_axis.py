"""Guards the axis of time: whatever times come in whatever order, none is lost and memory stays bounded."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.calibration import Interval, TimeAxis

TIMES = st.lists(st.floats(-1e6, 1e6) | st.integers(0, 20).map(float), max_size=60)
RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=40)


def check(axis: TimeAxis) -> None:
    assert len(axis.intervals) <= axis.capacity
    assert all(interval.low <= interval.high for interval in axis.intervals)
    assert all(left.high < right.low for left, right in pairwise(axis.intervals))


@settings(deadline=None)
@given(TIMES, st.integers(1, 12))
def test_every_time_is_in_the_interval_it_was_given_and_in_the_end_in_one(
    times: list[float], capacity: int
) -> None:
    axis = TimeAxis(capacity)
    for time in times:
        found = axis.place(time, calls=1)
        assert found.low <= time <= found.high
        assert any(found is interval for interval in axis.intervals)
        check(axis)
    assert sum(interval.calls for interval in axis.intervals) == len(times)
    for time in times:
        assert sum(interval.low <= time <= interval.high for interval in axis.intervals) == 1
        before = [(interval.low, interval.high, interval.calls) for interval in axis.intervals]
        assert axis.place(time).low <= time
        assert [(interval.low, interval.high, interval.calls) for interval in axis.intervals] == before


@settings(deadline=None)
@given(RANGES, st.integers(1, 12))
def test_ranges_that_touch_become_one(ranges: list[tuple[int, int]], capacity: int) -> None:
    axis = TimeAxis(capacity)
    for low, width in ranges:
        found = axis.place(low, low + width, 0.5)
        assert found.low <= low
        assert low + width <= found.high
        check(axis)
    assert sum(interval.calls for interval in axis.intervals) == pytest.approx(0.5 * len(ranges))


@settings(deadline=None)
@given(RANGES, st.integers(1, 6))
def test_what_is_told_of_joins_is_enough_to_keep_books(ranges: list[tuple[int, int]], capacity: int) -> None:
    books: dict[Interval, float] = {}

    def merged(stays: Interval, gone: Interval) -> None:
        books[stays] = books.get(stays, 0.0) + books.pop(gone, 0.0)

    axis = TimeAxis(capacity, merged)
    for low, width in ranges:
        axis.place(low, low + width, 1.0)
        found = axis.place(low, low + width)
        books[found] = books.get(found, 0.0) + 1.0
    assert books == {interval: interval.calls for interval in axis.intervals}


def test_as_many_times_as_there_is_room_for_stay_apart() -> None:
    axis = TimeAxis(3)
    for time in (5.0, 1.0, 9.0, 5.0):
        axis.place(time, calls=1)
    assert [(one.low, one.high, one.calls) for one in axis.intervals] == [(1, 1, 1), (5, 5, 2), (9, 9, 1)]
    axis.place(6.0, calls=1)
    assert [(one.low, one.high, one.calls) for one in axis.intervals] == [(1, 1, 1), (5, 6, 3), (9, 9, 1)]
