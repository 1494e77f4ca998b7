"""The other policies do what they say, and the solver is never worse at equal exact bytes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigurationError
from workbench.plan import Option
from workbench.thermo import (
    Constraints,
    CostTable,
    annealing,
    compare,
    entropy_rule,
    sorted_greedy,
    threshold,
    trace,
    uniform,
)

MakeTable = Callable[..., CostTable]
seeds = st.integers(0, 2**32 - 1)


def bits_of(table: CostTable, choice: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    bits: list[int] = table.bits[np.arange(len(table)), choice].tolist()
    return bits


def two_schemes() -> CostTable:
    """Two layers: one of widths 2, 4 and 8 in a coarse and a fine scheme, one that lacks 4."""
    full = [Option(bits, "q", group, bits * 100 + 6400 // group) for bits in (2, 4, 8) for group in (64, 32)]
    damage = [0.2, 0.18, 0.02, 0.018, 1e-4, 9e-5]
    lacking = [full[place] for place in (0, 1, 4, 5)]
    return CostTable.of(
        ["full", "lacking"], [800, 800], [full, lacking], [damage, [damage[p] for p in (0, 1, 4, 5)]]
    )


def test_uniform_takes_one_width_and_the_finest_that_fits() -> None:
    table = two_schemes()
    assert bits_of(table, uniform(table, 10_000)) == [8, 8]
    assert uniform(table, 2_000).tolist() == [5, 3]
    assert uniform(table, 1_999).tolist() == [4, 2]
    assert bits_of(table, uniform(table, 1_700)) == [4, 8], "the next wider where the width is missing"
    with pytest.raises(ConfigurationError, match="smallest takes 600") as caught:
        uniform(table, 599)
    assert caught.value.floor == 600


def test_the_entropy_rule_is_arrowquants() -> None:
    table = two_schemes()
    widths = [bits_of(table, entropy_rule(table, [h, h])) for h in (0.49, 0.5, 0.69, 0.7, 1.0)]
    assert widths == [[8, 8], [4, 8], [4, 8], [2, 2], [2, 2]]
    assert entropy_rule(table, [0.0, 1.0]).tolist() == [5, 1], "the finest of that width"


def test_threshold_takes_the_fewest_bits_below_it() -> None:
    table = two_schemes()
    assert threshold(table, 0.02).tolist() == [2, 2]
    assert threshold(table, 0.019).tolist() == [3, 2]
    assert threshold(table, 0.0).tolist() == [5, 3], "the least damage where none is below"


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 1))
def test_greedy_and_annealing_keep_the_budget_and_greedy_is_no_worse_than_the_hull(
    realistic: MakeTable, seed: int, fraction: float
) -> None:
    table = realistic(np.random.default_rng(seed), 10)
    front = trace(table)
    budget = int(front.nbytes[0] + fraction * (front.nbytes[-1] - front.nbytes[0]))
    greedy, annealed = sorted_greedy(table, budget), annealing(table, budget, seed=seed, moves=300)
    assert table.nbytes_of(greedy) <= budget
    assert table.nbytes_of(annealed) <= budget
    assert table.damage_of(greedy) <= front.damage[front.corner_within(budget)] * (1 + 1e-12)


def test_annealing_is_the_same_for_the_same_seed(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(0), 20)
    budget = int(table.params.sum() / 2)
    one, same, other = (annealing(table, budget, seed, moves=2000).tolist() for seed in (1, 1, 2))
    assert one == same != other


def test_policies_without_room_name_the_floor(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(0), 4)
    for policy in (sorted_greedy, annealing):
        with pytest.raises(ConfigurationError) as caught:
            policy(table, 10)
        assert caught.value.floor == table.sizes.min(axis=1).sum()


@settings(deadline=None, max_examples=15)
@given(seeds, st.floats(2.9, 7.5))
def test_the_solver_is_never_worse_at_equal_exact_bytes(realistic: MakeTable, seed: int, bpw: float) -> None:
    rng = np.random.default_rng(seed)
    table = realistic(rng, 24)
    budget = int(bpw * table.params.sum() / 8) + 100_000
    rows = compare(table, budget, entropy=rng.random(24), seed=seed % 1000).to_pylist()
    assert [row["policy"] for row in rows] == [
        "uniform", "threshold", "sorted_greedy", "annealing", "solver", "entropy_rule",
    ]  # fmt: skip
    for row in rows:
        assert row["solver_damage"] <= row["damage"] * (1 + 1e-12)
        assert row["gap"] >= 0
        assert row["bpw"] == pytest.approx(8 * row["nbytes"] / table.params.sum())
        if row["policy"] not in ("threshold", "entropy_rule"):
            assert row["nbytes"] <= budget


def test_compare_keeps_constraints_and_ties(realistic: MakeTable) -> None:
    rng = np.random.default_rng(4)
    table = realistic(rng, 9)
    first = table.form[:, 0]
    tied = np.flatnonzero(first == first[0])[:2].tolist()
    constraints = Constraints(locks=[3] + [-1] * 8, floors=4, ties=[tied])
    floor = int(trace(table, constraints).nbytes[0])
    compared = compare(table, 2 * floor, constraints, entropy=rng.random(9))
    assert min(compared["gap"].to_pylist()) >= 0  # certify would have refused a plan that breaks a constraint
    assert not any(map(math.isinf, compared["gap"].to_pylist()))
    with pytest.raises(ConfigurationError):
        compare(table, floor - 1, constraints)
