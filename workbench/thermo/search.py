"""The exact finish: what is left between the hulls and the best plan, by a search over the rows near the break."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from workbench.thermo.costs import FloatArray, IntArray

MAX_STATES = 4_000
"""States kept in each half of the search."""
MAX_WORK = 300_000
"""States made in all, and `ROW_WORK` for every row: bounds the time, and does so alike on every machine."""
ROW_WORK = 1_000


@dataclass(eq=False)
class _Half:
    """Partial choices over some of the rows: none is both heavier and dearer than another."""

    weight: FloatArray = field(default_factory=lambda: np.zeros(1))
    """Weight over that of the base, rising."""
    excess: FloatArray = field(default_factory=lambda: np.zeros(1))
    """Sum of reduced costs."""
    trail: list[tuple[int, IntArray, IntArray]] = field(default_factory=list)
    """For each row added: the row, and of each state the state before it and the option taken."""

    def branch(
        self,
        row: int,
        places: IntArray,
        weight: FloatArray,
        excess: FloatArray,
        price: float,
        limit: float,
        most: int,
    ) -> tuple[int, bool]:
        """Branch on some options of a row; returns the states made, and whether all that matter were kept."""
        weights = (self.weight + weight[:, None]).ravel()
        excesses = (self.excess + excess[:, None]).ravel()
        keep = np.flatnonzero(excesses < limit)
        keep = keep[np.argsort(weights[keep], kind="stable")]
        cost = excesses[keep] - price * weights[keep]
        is_cheaper = np.ones(len(keep), np.bool_)
        is_cheaper[1:] = cost[1:] < np.minimum.accumulate(cost)[:-1]
        keep = keep[is_cheaper]
        # Of equal weights the last one is the cheapest now.
        keep = keep[np.diff(weights[keep], append=np.inf) > 0]
        is_whole = len(keep) <= most
        if not is_whole:
            keep = keep[np.sort(np.argpartition(excesses[keep], most)[:most])]
        self.trail.append((row, keep % len(self.weight), places[keep // len(self.weight)]))
        self.weight, self.excess = weights[keep], excesses[keep]
        return len(weights), is_whole

    def write(self, state: int, choice: IntArray) -> None:
        """Enter the options that led to a state."""
        for row, before, places in reversed(self.trail):
            choice[row] = places[state]
            state = int(before[state])


def finish(
    cost: FloatArray,
    weight: FloatArray,
    base: IntArray,
    price: float,
    room: float,
    grain: float = 0.0,
    max_states: int = MAX_STATES,
    max_work: int = MAX_WORK,
) -> tuple[IntArray, bool]:
    """The choice of least cost whose weight exceeds that of a base choice by at most some room.

    Parameters
    ----------
    cost, weight : float64 [rows, options]
        Inf where there is no option.
    base : int64 [rows]
        A choice that minimises cost + price·weight in every row: a corner of the front.
    price : float
        Cost per weight at the break: cost given up by the next step, over its weight.
    room : float
        Weight left, not negative.
    grain : float
        All differences of cost are multiples of this; 0 where they are not known to be.

    Returns
    -------
    choice : int64 [rows]
        Never worse than the base.
    is_proved : bool
        Whether no choice can be better, to rounding; false where the limits on states cut the search.

    Notes
    -----
    With the reduced cost e = Δcost + price·Δweight ≥ 0 of an option over the base's, a choice lies Σe + price·slack
    above the dual bound. So an option whose e is no less than the best excess known is out, and a row with no other
    option than the base's is settled. Rows are taken by their least e into two halves, each a list of states that do
    not dominate each other; joining the halves finds the best pair. The search ends when the next row is settled.

    References
    ----------
    D. Pisinger, "A minimal algorithm for the multiple-choice knapsack problem", European Journal of Operational
    Research 83(2), 1995: the core and its dominance.
    E. Horowitz and S. Sahni, "Computing partitions with applications to the knapsack problem", Journal of the ACM
    21(2), 1974: the two halves.
    """
    rows = np.arange(len(base))
    heavier = weight - weight[rows, base][:, None]
    dearer = cost - cost[rows, base][:, None]
    excess = dearer + np.multiply(price, heavier, out=np.zeros(heavier.shape), where=np.isfinite(heavier))
    excess[rows, base] = np.inf  # from here on, only of the other options
    choice, best = base.copy(), price * room
    fitting = np.where(heavier <= room, dearer, np.inf) + best
    if fitting.min(initial=np.inf) < best:
        row, place = divmod(int(fitting.argmin()), fitting.shape[1])
        best, choice[row] = float(fitting[row, place]), place
    nearest = excess.min(axis=1, initial=np.inf)
    # A better choice is better by a grain, and by more than rounding.
    margin = max(0.999 * grain, 1e-15 * float(np.abs(cost[rows, base]).max(initial=0.0)))
    halves, work, is_proved = (_Half(), _Half()), 0, True
    for row in np.argsort(nearest, kind="stable").tolist():
        limit = best - margin
        if max(nearest[row], 0.0) >= limit:
            break
        if work > max_work:
            return choice, False
        small, large = sorted(halves, key=lambda half: len(half.weight))
        places = np.append(np.flatnonzero(excess[row] < limit), base[row])
        added = np.append(excess[row, places[:-1]], 0.0)
        made, is_whole = small.branch(row, places, heavier[row, places], added, price, limit, max_states)
        work, is_proved = work + made + ROW_WORK, is_proved and is_whole
        partner = np.searchsorted(large.weight, room - small.weight, side="right") - 1
        slack = room - small.weight - large.weight[partner]
        total = np.where(partner >= 0, small.excess + large.excess[partner] + price * slack, np.inf)
        state = int(total.argmin())
        if total[state] < best:
            best, choice = float(total[state]), base.copy()
            small.write(state, choice)
            large.write(int(partner[state]), choice)
    return choice, is_proved
