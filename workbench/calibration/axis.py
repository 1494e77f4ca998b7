"""The axis of denoising time: where every moment of a run belongs, in a bounded number of intervals."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

_LOW = attrgetter("low")


@dataclass(eq=False)
class Interval:
    """Neighbouring times taken together."""

    low: float
    """Least time in it."""
    high: float
    """Greatest time in it."""
    calls: float = 0.0
    """Calls of the model in it; a call whose samples are at several times counts as a part in each."""


class TimeAxis:
    """Intervals of time in ascending order, at first one for each time seen.

    When there would be more than `capacity`, the two neighbours that together span least become one, so that the
    moments kept for them can be added up. Nothing is forgotten, and no range of times need be known beforehand.

    Parameters
    ----------
    capacity : int
        Most intervals, at least 1.
    merged : callable, optional
        Told of two intervals that become one: the one that stays, which has grown, and the one that is gone.
    """

    def __init__(self, capacity: int, merged: Callable[[Interval, Interval], None] | None = None) -> None:
        self.capacity = capacity
        self.intervals: list[Interval] = []
        self._merged = merged

    def place(self, low: float, high: float | None = None, calls: float = 0.0) -> Interval:
        """The interval of a time or a range of times, made if need be.

        Parameters
        ----------
        low, high : float
            The range; one time where `high` is left out. Intervals that it touches become one with it.
        calls : float
            Calls to count there.

        Returns
        -------
        Interval
            Stays the right one until the next call of `place`.
        """
        high = low if high is None else high
        after = bisect_right(self.intervals, high, key=_LOW)
        first = after
        while first > 0 and self.intervals[first - 1].high >= low:
            first -= 1
        if first == after:
            found = Interval(low, high)
            insort(self.intervals, found, key=_LOW)
        else:
            found = self.intervals[first]
            for gone in self.intervals[first + 1 : after]:
                self._join(found, gone)
            del self.intervals[first + 1 : after]
            found.low, found.high = min(found.low, low), max(found.high, high)
        found.calls += calls
        return self._shrink(found)

    def _shrink(self, found: Interval) -> Interval:
        while len(self.intervals) > self.capacity:
            spans = [right.high - left.low for left, right in pairwise(self.intervals)]
            at = spans.index(min(spans))
            stays, gone = self.intervals[at : at + 2]
            self._join(stays, gone)
            del self.intervals[at + 1]
            if gone is found:
                found = stays
        return found

    def _join(self, stays: Interval, gone: Interval) -> None:
        stays.high = max(stays.high, gone.high)
        stays.calls += gone.calls
        if self._merged is not None:
            self._merged(stays, gone)
