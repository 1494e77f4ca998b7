"""Plans for a budget, a temperature or a total damage, each with a certified gap."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from workbench.errors import ConfigurationError
from workbench.thermo.constraints import Constraints, check_choice, largest, tightest
from workbench.thermo.costs import NEVER, CostTable, FloatArray, IntArray
from workbench.thermo.front import Front, trace
from workbench.thermo.search import finish

TOLERANCE = 1e-12
"""Totals of damage that differ by no more than this, relative, are equal: a plan's own can be asked for again."""


@dataclass(frozen=True, eq=False)
class Solution:
    """A choice for every layer, and how good it is known to be."""

    choice: IntArray
    """Place of each layer's option in the table, [layers]."""
    nbytes: int
    """Bytes of the layers' tensor data."""
    bpw: float
    """Bits per layer weight."""
    damage: float
    """Σ D over the layers."""
    bound: float
    """Least Σ D that any plan of these bytes under the same constraints could have."""
    gap: float
    """Σ D / bound − 1: by how much another plan of these bytes could be better, at most. 0 where both are 0."""
    temperature: float
    """Price of a bit at these bytes: damage saved per bit more."""
    is_proved: bool
    """Whether the search proved it the best for its goal, which a gap above 0 leaves open. Of a certified choice:
    whether its gap is 0."""


def solve(
    costs: CostTable,
    constraints: Constraints | None = None,
    *,
    nbytes: int | None = None,
    bpw: float | None = None,
    temperature: float | None = None,
    max_damage: float | None = None,
    front: Front | None = None,
) -> Solution:
    """The best plan for a goal under some constraints.

    Parameters
    ----------
    costs
        Bytes and damage of every option.
    constraints
        Limits on single layers. With a `min_cosine` and no goal, the plan of fewest bytes.
    nbytes
        Goal: least Σ D within so many bytes.
    bpw
        The same, in bits per layer weight.
    temperature
        Goal: least free energy Σ D + T·Σ R, T in damage per bit, R in bits; from 0 (least Σ D) to inf (fewest
        bytes).
    max_damage
        Goal: fewest bytes with Σ D at most this.
    front
        What `trace` finds of these costs and constraints, where it is known already.

    Raises
    ------
    ConfigurationError
        If there is not exactly one goal, or no plan meets the goal and the constraints: then it names those that cost
        most, and carries the ``floor``, the least bytes or Σ D that can be had.

    Notes
    -----
    The corner of the front below the goal comes first; `finish` then searches for what fills the rest, within a fixed
    amount of work. Where that is not enough to settle it (`is_proved` is false), the plan is still no worse than the
    corner, and the gap still holds.
    """
    constraints = constraints or Constraints()
    goals = {"nbytes": nbytes, "bpw": bpw, "temperature": temperature, "max_damage": max_damage}
    given = {key: value for key, value in goals.items() if value is not None}
    if not given and constraints.min_cosine is not None:
        given = {"temperature": math.inf}
    if len(given) != 1:
        raise ConfigurationError(
            f"A solver needs one goal of {', '.join(goals)}, or a min_cosine alone; it was given "
            f"{' and '.join(given) or 'none'}.",
            key="goal",
        )
    [(key, value)] = given.items()
    if math.isnan(value) or value < 0:
        raise ConfigurationError(f"{key} must not be negative or NaN, as {value!r} is.", key=key, value=value)
    front = front or trace(costs, constraints)
    is_proved = True
    match key:
        case "temperature":
            choice = front.choice_at(front.corner_at(value))
        case "max_damage":
            choice, is_proved = _within_damage(front, value, costs, constraints)
        case _:
            budget = math.floor(min(value if key == "nbytes" else value * int(costs.params.sum()) / 8, NEVER))
            choice, is_proved = _within_bytes(front, budget, costs, constraints)
    price = value if key == "temperature" else front.price(costs.nbytes_of(choice))
    return _certified(costs, front, choice, price, is_proved)


def certify(
    costs: CostTable, choice: IntArray, constraints: Constraints | None = None, *, front: Front | None = None
) -> Solution:
    """Totals and certificate of any choice, under the constraints that other plans would have to meet too.

    `front` is what `trace` finds of these costs and constraints, where it is known already.

    Raises
    ------
    ConfigurationError
        If the choice itself breaks them; names the first layer that does.
    """
    constraints = constraints or Constraints()
    choice = np.asarray(choice, np.int64)
    check_choice(costs, constraints, choice)
    front = front or trace(costs, constraints)
    found = _certified(costs, front, choice, front.price(costs.nbytes_of(choice)), False)
    return replace(found, is_proved=found.gap == 0)


def _certified(costs: CostTable, front: Front, choice: IntArray, price: float, is_proved: bool) -> Solution:
    nbytes, damage = costs.nbytes_of(choice), costs.damage_of(choice)
    bound = front.bound(nbytes)
    if damage <= bound * (1 + TOLERANCE):
        bound = damage  # the two differ by rounding
    gap = 0.0 if damage == bound else math.inf if bound == 0 else damage / bound - 1
    choice = choice.copy()
    choice.flags.writeable = False
    return Solution(choice, nbytes, costs.bpw(nbytes), damage, bound, gap, float(price), is_proved)


def _within_bytes(
    front: Front, budget: int, costs: CostTable, constraints: Constraints
) -> tuple[IntArray, bool]:
    """The choice of least Σ D within a budget, and whether that is proved."""
    corner = front.corner_within(budget)
    if corner < 0:
        floor = int(front.nbytes[0])
        raise ConfigurationError(
            f"The layers need {floor:,} bytes at the least, that is {costs.bpw(floor):.2f} bits per weight; a "
            f"budget of {budget:,} is {floor - budget:,} short. "
            f"{_advice(tightest(costs, constraints, 'nbytes'))} {largest(costs)}",
            key="nbytes",
            value=budget,
            floor=floor,
        )
    base = front.rows_at(corner)
    if corner == len(front.row):
        return front.restricted.expand(base), True
    table = front.restricted.costs
    grain = _grain(table, base)
    # What the room leaves of a grain can never be filled.
    room = (budget - int(front.nbytes[corner])) // grain * grain
    price = 8 * float(front.temperature[corner])
    rows, is_proved = finish(table.damage_or_inf, _real(table), base, price, room)
    choice, safe = front.restricted.expand(rows), front.restricted.expand(base)
    return min(choice, safe, key=costs.damage_of), is_proved


def _within_damage(
    front: Front, limit: float, costs: CostTable, constraints: Constraints
) -> tuple[IntArray, bool]:
    """The choice of fewest bytes with Σ D within a limit, of these the one of least Σ D, and whether that is proved."""
    met = limit * (1 + TOLERANCE)
    corner = int(np.searchsorted(-front.damage, -met, side="left"))
    if corner == len(front.damage):
        floor = float(front.damage[-1])
        raise ConfigurationError(
            f"Σ D comes to {floor:.6g} at the least; a limit of {limit:.6g} cannot be met. "
            f"{_advice(tightest(costs, constraints, 'damage'))}",
            key="max_damage",
            value=limit,
            floor=floor,
        )
    choice, is_proved = front.choice_at(corner), corner == 0
    if corner and front.temperature[corner - 1] > np.finfo(np.float64).tiny:
        # The same search with bytes and damage exchanged; a price is now bytes per damage.
        table = front.restricted.costs
        price = 1 / (8 * float(front.temperature[corner - 1]))
        room = met - float(front.damage[corner])
        base = front.rows_at(corner)
        rows, is_proved = finish(_real(table), table.damage_or_inf, base, price, room, _grain(table, base))
        found = front.restricted.expand(rows)
        if costs.damage_of(found) <= met:
            choice = found
    finer, is_finest = _within_bytes(front, costs.nbytes_of(choice), costs, constraints)
    return min(finer, choice, key=costs.damage_of), is_proved and is_finest


def _grain(table: CostTable, base: IntArray) -> int:
    """The greatest number that all differences of a layer's sizes are multiples of."""
    differences = table.nbytes - table.nbytes[np.arange(len(table)), base][:, None]
    return int(np.gcd.reduce(differences[table.legal]))


def _real(table: CostTable) -> FloatArray:
    """Bytes as float64, exact below 2^53; Inf where there is no option."""
    return np.where(table.legal, table.nbytes, np.inf)


def _advice(causes: list[str]) -> str:
    if not causes:
        return "No constraint is to blame: it is what the options themselves come to."
    return f"What costs most: {', '.join(causes)}."
