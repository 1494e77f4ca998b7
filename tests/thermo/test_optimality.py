"""The solver against an exact one: HiGHS' mixed-integer program of the same instance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.thermo import Constraints, CostTable, restrict, solve

INSTANCES = 200


def constraints_of(rng: np.random.Generator, table: CostTable) -> Constraints:
    """Locks on some layers and floors on others."""
    draw = rng.random(len(table))
    locks = np.where(draw < 0.1, rng.integers(0, 7, len(table)), -1)
    floors = np.where(draw > 0.8, rng.integers(2, 7, len(table)), 0)
    return Constraints(locks=locks, floors=floors)


def test_solutions_equal_the_optimum_of_an_exact_solver(
    realistic: Callable[..., CostTable], optimum: Callable[[CostTable, int], float]
) -> None:
    rng = np.random.default_rng(20)
    equal, gaps = 0, []
    for index in range(INSTANCES):
        table = realistic(rng, layers=int(rng.integers(2, 61)))
        constraints = constraints_of(rng, table) if index % 4 else Constraints()
        left = restrict(table, constraints).costs
        least, most = left.sizes.min(axis=1).sum(), left.nbytes.max(axis=1).sum()
        budget = int(rng.integers(least, most + 1))
        found = solve(table, constraints, nbytes=budget)
        exact = optimum(left, budget)
        assert found.nbytes <= budget
        assert found.damage >= exact * (1 - 1e-9), f"instance {index}: better than the optimum"
        # The certificate speaks of the plan's own bytes.
        at_own_bytes = exact if found.nbytes == budget else optimum(left, found.nbytes)
        assert found.bound <= at_own_bytes * (1 + 1e-9)
        assert found.damage <= at_own_bytes * (1 + found.gap) * (1 + 1e-9)
        is_equal = found.damage == pytest.approx(exact, rel=1e-9, abs=0)
        assert is_equal or not found.is_proved, f"instance {index}: proved, and yet not the optimum"
        equal += is_equal
        gaps.append(found.gap)
    print(
        f"equal to the optimum: {equal} of {INSTANCES}; gap: median {np.median(gaps):.2e}, worst {max(gaps):.2e}"
    )
    assert equal >= 0.95 * INSTANCES
