"""Ways to choose widths other than the solver's, to compare it with: one function each, a choice per layer."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from workbench.errors import ConfigurationError
from workbench.thermo.constraints import Constraints
from workbench.thermo.costs import NEVER, CostTable, FloatArray, IntArray
from workbench.thermo.front import trace
from workbench.thermo.hull import cheapest
from workbench.thermo.solver import certify, solve

ABOUT = {
    "uniform": "one width for all layers, the best that fits the size",
    "sorted_greedy": "widens one layer at a time, first where a byte saves most damage",
    "annealing": "random changes to the plan, worse ones accepted less and less often; slow",
    "entropy_rule": "ArrowQuant V2's rule: 8 bits where the weights' entropy Ĥ is below 0.5, 4 below 0.7, else 2",
    "threshold": "for each layer the fewest bits that keep its damage at or under 0.01",
    "solver": "least total damage within the size, with a proven bound on the gap to the best plan",
}
"""What each policy does, in one line."""


def uniform(costs: CostTable, nbytes: int) -> IntArray:
    """One width for all layers: of those that fit the budget, each at its cheapest and at its finest, the best.

    A layer without the width takes the next wider one it has, or else its widest.
    """
    tried = [
        _at_width(costs, np.full(len(costs), width), finest)
        for width in np.unique(costs.bits[costs.legal])
        for finest in (False, True)
    ]
    fitting = [choice for choice in tried if costs.nbytes_of(choice) <= nbytes]
    if not fitting:
        raise _no_room("uniform width", nbytes, min(map(costs.nbytes_of, tried)))
    return min(fitting, key=costs.damage_of)


def entropy_widths(entropy: ArrayLike) -> IntArray:
    """ArrowQuant V2's rule: 8 bits where the normalised entropy Ĥ is below 0.5, 4 where below 0.7, else 2."""
    entropy = np.asarray(entropy, np.float64)
    widths: IntArray = np.where(entropy < 0.5, 8, np.where(entropy < 0.7, 4, 2))
    return widths


def entropy_rule(costs: CostTable, entropy: ArrayLike) -> IntArray:
    """The widths of `entropy_widths`; of the options of each the finest. Parameter `entropy`: Ĥ, [layers]."""
    return _at_width(costs, entropy_widths(entropy), finest=True)


def threshold(costs: CostTable, max_damage: float) -> IntArray:
    """The fewest bits, and of these the fewest bytes, whose D is at most max_damage; where none is, the least D."""
    sizes = np.where(costs.damage <= max_damage, costs.sizes, NEVER)
    width = np.where(sizes < NEVER, costs.bits, NEVER)
    narrowest = np.where(width == width.min(axis=1, keepdims=True), sizes, NEVER)
    places: IntArray = np.where(
        (sizes < NEVER).any(axis=1), narrowest.argmin(axis=1), costs.damage_or_inf.argmin(axis=1)
    )
    return places


def sorted_greedy(costs: CostTable, nbytes: int) -> IntArray:
    """From the cheapest plan on, always the step of most ΔD per ΔR that still fits, over all options of all layers."""
    choice = cheapest(costs.nbytes, costs.damage, costs.legal)
    left = nbytes - costs.nbytes_of(choice)
    if left < 0:
        raise _no_room("plan", nbytes, nbytes - left)

    def best_steps(rows: IntArray) -> list[tuple[float, int, int]]:
        """The best step of each row that has one: minus its ratio, the row and the place."""
        now = choice[rows]
        more = costs.nbytes[rows] - costs.nbytes[rows, now][:, None]
        less = costs.damage[rows, now][:, None] - costs.damage[rows]
        steps = costs.legal[rows] & (more <= left) & (less > 0)
        with np.errstate(divide="ignore"):
            ratio = np.divide(less, np.maximum(more, 0), out=np.full(less.shape, -1.0), where=steps)
        places = ratio.argmax(axis=1)
        found = -ratio[np.arange(len(rows)), places]
        return [
            step for step in zip(found.tolist(), rows.tolist(), places.tolist(), strict=True) if step[0] <= 0
        ]

    # What fits only gets less, so no row's best step gets better while another row is changed.
    waiting = best_steps(np.arange(len(costs)))
    heapq.heapify(waiting)
    while waiting:
        _, row, place = heapq.heappop(waiting)
        more = int(costs.nbytes[row, place] - costs.nbytes[row, choice[row]])
        if more <= left:
            left -= more
            choice[row] = place
        for step in best_steps(np.array([row])):
            heapq.heappush(waiting, step)
    return choice


def annealing(costs: CostTable, nbytes: int, seed: int = 0, moves: int = 20_000) -> IntArray:
    """Simulated annealing over plans within the budget, from the cheapest one; the best plan seen.

    A move gives one or two layers an option at random, so that bits can be traded. The heat falls geometrically,
    from the cheapest plan's mean D to a millionth of it.

    References
    ----------
    S. Kirkpatrick, C. D. Gelatt and M. P. Vecchi, "Optimization by simulated annealing", Science 220, 1983.
    """
    choice = cheapest(costs.nbytes, costs.damage, costs.legal).tolist()
    left = nbytes - costs.nbytes_of(np.array(choice, np.int64))
    if left < 0:
        raise _no_room("plan", nbytes, nbytes - left)
    rng = random.Random(seed)
    sizes, damage = costs.nbytes.tolist(), costs.damage.tolist()
    options = [np.flatnonzero(row).tolist() for row in costs.legal]
    start = costs.damage_of(np.array(choice, np.int64)) / max(len(choice), 1)
    gained, most, best = 0.0, 0.0, list(choice)
    for move in range(moves if choice else 0):
        heat = start * 1e-6 ** (move / moves)
        changes = {
            row: rng.choice(options[row])
            for row in (rng.randrange(len(choice)) for _ in range(rng.choice((1, 2))))
        }
        more = sum(sizes[row][place] - sizes[row][choice[row]] for row, place in changes.items())
        less = sum(damage[row][choice[row]] - damage[row][place] for row, place in changes.items())
        if more <= left and (less >= 0 or (heat > 0 and rng.random() < math.exp(less / heat))):
            left, gained = left - more, gained + less
            for row, place in changes.items():
                choice[row] = place
            if gained > most:
                most, best = gained, list(choice)
    return np.array(best, np.int64)


def compare(
    costs: CostTable,
    nbytes: int,
    constraints: Constraints | None = None,
    *,
    entropy: ArrayLike | None = None,
    max_damage: float = 0.01,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> pa.Table:
    """Every policy beside the solver, at equal exact bytes.

    The policies choose among what the constraints leave. Those with a budget are given `nbytes`; `entropy_rule` (only
    where `entropy`, Ĥ [layers], is given; tied layers count by their mean over weights) and `threshold` (at
    `max_damage`) take the bytes they take.

    Parameters
    ----------
    only : collection of str, optional
        Names of the policies to compare; by default all.

    Returns
    -------
    pyarrow.Table
        A row a policy: policy, nbytes, bpw, damage (Σ D), gap (at its own bytes), seconds, and solver_damage, the
        Σ D of the solver within the very same bytes.

    Raises
    ------
    ConfigurationError
        If no plan, or no uniform one, fits the budget under the constraints.
    """
    constraints = constraints or Constraints()
    front = trace(costs, constraints)
    restricted = front.restricted
    table = restricted.costs
    policies: dict[str, Callable[[], IntArray]] = {
        "uniform": lambda: restricted.expand(uniform(table, nbytes)),
        "threshold": lambda: restricted.expand(threshold(table, max_damage)),
        "sorted_greedy": lambda: restricted.expand(sorted_greedy(table, nbytes)),
        "annealing": lambda: restricted.expand(annealing(table, nbytes, seed)),
        "solver": lambda: solve(costs, constraints, nbytes=nbytes, front=front).choice,
    }
    if entropy is not None:
        means = _means(np.asarray(entropy, np.float64), costs.params, restricted.row, len(table))
        policies["entropy_rule"] = lambda: restricted.expand(entropy_rule(table, means))
    rows = []
    for name, policy in policies.items():
        if only is not None and name not in only:
            continue
        started = time.perf_counter()
        choice = policy()
        seconds = time.perf_counter() - started
        found = certify(costs, choice, constraints, front=front)
        solver = found if name == "solver" else solve(costs, constraints, nbytes=found.nbytes, front=front)
        rows.append((name, found.nbytes, found.bpw, found.damage, found.gap, seconds, solver.damage))
    columns = ("policy", "nbytes", "bpw", "damage", "gap", "seconds", "solver_damage")
    return pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def _at_width(costs: CostTable, widths: IntArray, finest: bool) -> IntArray:
    """Options of the given widths, or the next wider, or the widest there is: the finest or the cheapest of them."""
    bits = np.where(costs.legal, costs.bits, -1)
    wider = np.where(bits >= widths[:, None], bits, NEVER).min(axis=1)
    width = np.where(wider < NEVER, wider, bits.max(axis=1))
    of_width = bits == width[:, None]
    if not finest:
        return cheapest(costs.nbytes, costs.damage, of_width)
    places: IntArray = np.where(of_width, costs.damage, np.inf).argmin(axis=1)
    return places


def _means(values: FloatArray, weights: IntArray, row: IntArray, rows: int) -> FloatArray:
    """Weighted means of the values that belong to each row."""
    counted = np.maximum(weights, 1)
    return np.bincount(row, values * counted, rows) / np.bincount(row, counted, rows)


def _no_room(what: str, nbytes: int, floor: int) -> ConfigurationError:
    return ConfigurationError(
        f"No {what} fits into {nbytes:,} bytes; the smallest takes {floor:,}.",
        key="nbytes",
        value=nbytes,
        floor=floor,
    )
