"""Goals, constraints, certificates and errors of the solver; enumeration of every plan is the referee."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigurationError, ValidationError
from workbench.plan import Option
from workbench.thermo import Constraints, CostTable, certify, restrict, solve, trace

MakeTable = Callable[..., CostTable]
Choices = Callable[[CostTable], np.ndarray[Any, Any]]
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0, 1)


def budget_between(table: CostTable, fraction: float) -> int:
    front = trace(table)
    return int(front.nbytes[0] + fraction * (front.nbytes[-1] - front.nbytes[0]))


@settings(deadline=None)
@given(seeds, fractions)
def test_a_budget_is_kept_and_the_plan_is_the_best(
    small: MakeTable, choices: Choices, seed: int, fraction: float
) -> None:
    table = small(np.random.default_rng(seed), 5)
    budget = budget_between(table, fraction)
    found = solve(table, nbytes=budget)
    plans = [(table.damage_of(c), table.nbytes_of(c)) for c in choices(table)]
    assert found.nbytes <= budget
    assert (found.nbytes, found.damage) == (
        table.nbytes_of(found.choice),
        table.damage_of(found.choice),
    )
    assert found.is_proved
    assert found.damage == min(damage for damage, nbytes in plans if nbytes <= budget)
    reachable = min(damage for damage, nbytes in plans if nbytes <= found.nbytes)
    assert found.bound <= reachable <= found.damage
    assert found.gap == 0 if found.damage == found.bound else found.gap > 0


@settings(deadline=None)
@given(seeds, fractions)
def test_a_distortion_limit_is_met_with_the_fewest_bytes(
    small: MakeTable, choices: Choices, seed: int, fraction: float
) -> None:
    table = small(np.random.default_rng(seed), 5)
    plans = [(table.nbytes_of(c), table.damage_of(c)) for c in choices(table)]
    least = min(damage for _, damage in plans)
    limit = least + fraction * (max(damage for _, damage in plans) - least)
    found = solve(table, max_damage=limit)
    assert (found.nbytes, found.damage) == min(plan for plan in plans if plan[1] <= limit * (1 + 1e-12))


@settings(deadline=None)
@given(seeds, fractions)
def test_asking_again_for_a_plans_own_totals_gives_them(
    realistic: MakeTable, seed: int, fraction: float
) -> None:
    table = realistic(np.random.default_rng(seed), 20)
    found = solve(table, nbytes=budget_between(table, fraction))
    again = solve(table, max_damage=found.damage)
    assert again.nbytes <= found.nbytes
    assert solve(table, nbytes=found.nbytes).damage == found.damage
    assert solve(table, temperature=found.temperature).nbytes <= found.nbytes


@settings(deadline=None)
@given(seeds, fractions)
def test_locks_floors_ceilings_and_ties_are_kept(realistic: MakeTable, seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    table = realistic(rng, 12)
    locks = np.where(rng.random(12) < 0.2, rng.integers(0, 7, 12), -1)
    floors, ceilings = rng.integers(2, 5, 12), rng.integers(5, 9, 12)
    locked = locks >= 0
    floors[locked], ceilings[locked] = 0, 16
    groups = table.form[:, 0]  # equal where the group sizes are, which tied layers must share
    ties = [np.flatnonzero((groups == group) & ~locked)[:3].tolist() for group in np.unique(groups)]
    constraints = Constraints(locks, floors, ceilings, ties=ties)
    left = restrict(table, constraints)
    found = solve(table, constraints, nbytes=budget_between(left.costs, fraction))
    bits = table.bits[np.arange(12), found.choice]
    assert (found.choice[locked] == locks[locked]).all()
    assert ((bits >= floors) & (bits <= ceilings)).all()
    assert all(len(set(bits[tie].tolist())) <= 1 for tie in ties)
    assert certify(table, found.choice, constraints).gap == found.gap
    assert found.damage >= solve(table, nbytes=found.nbytes).damage * (1 - 1e-12)


@settings(deadline=None)
@given(seeds, fractions)
def test_the_order_of_the_layers_does_not_matter(realistic: MakeTable, seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    table = realistic(rng, 25)
    order = rng.permutation(25)
    shuffled = CostTable(
        tuple(table.names[i] for i in order), table.params[order], table.nbytes[order], table.damage[order],
        table.bits[order], table.cosine[order], table.form[order], table.legal[order],
    )  # fmt: skip
    budget = budget_between(table, fraction)
    one, other = solve(table, nbytes=budget), solve(shuffled, nbytes=budget)
    assert (one.nbytes, one.damage) == (other.nbytes, other.damage)
    assert one.gap == pytest.approx(other.gap, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(seeds, st.floats(0.3, 0.9))
def test_min_cosine_takes_the_fewest_bytes_that_reach_it(
    small: MakeTable, choices: Choices, seed: int, cosine: float
) -> None:
    table = small(np.random.default_rng(seed), 4)
    rows = np.arange(4)
    plans = [c for c in choices(table) if (table.cosine[rows, c] >= cosine).all()]
    if not plans:
        with pytest.raises(ConfigurationError, match="best cosine") as caught:
            solve(table, Constraints(min_cosine=cosine))
        best = np.where(table.legal, table.cosine, 0).max(axis=1)
        assert caught.value.best_cosine == best.min()
        assert caught.value.layers == [f"layer {i}" for i in np.flatnonzero(best < cosine)]
        return
    found = solve(table, Constraints(min_cosine=cosine))
    assert (table.cosine[rows, found.choice] >= cosine).all()
    assert found.nbytes == min(map(table.nbytes_of, plans))
    assert found.gap == 0
    budget = found.nbytes + 5
    within = solve(table, Constraints(min_cosine=cosine), nbytes=budget)
    assert within.damage == min(table.damage_of(c) for c in plans if table.nbytes_of(c) <= budget)


def test_temperatures_at_the_ends_give_the_finest_and_the_smallest_plan(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(1), 30)
    finest, smallest = solve(table, temperature=0.0), solve(table, temperature=math.inf)
    assert finest.damage == pytest.approx(table.damage.min(axis=1).sum())
    assert smallest.nbytes == table.sizes.min(axis=1).sum()
    assert finest.gap == smallest.gap == 0
    assert finest.is_proved
    assert smallest.is_proved


def test_a_bpw_is_a_budget_in_bits_per_weight(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(2), 30)
    found = solve(table, bpw=4.25)
    assert found.choice.tolist() == solve(table, nbytes=int(4.25 * table.params.sum() / 8)).choice.tolist()
    assert 4.2 < found.bpw <= 4.25


def test_any_size_of_budget_is_a_budget(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(2), 5)
    assert solve(table, bpw=math.inf).choice.tolist() == solve(table, temperature=0.0).choice.tolist()


def table_of(*layers: list[tuple[int, int, float]]) -> CostTable:
    """A table of options (bits, bytes, damage)."""
    return CostTable.of(
        [f"layer {i}" for i in range(len(layers))],
        [100] * len(layers),
        [[Option(bits, "s", 64, nbytes) for bits, nbytes, _ in layer] for layer in layers],
        [[damage for *_, damage in layer] for layer in layers],
    )


def test_lossless_options_have_a_gap_of_zero_and_a_wasteful_plan_beside_them_an_infinite_one() -> None:
    table = table_of([(4, 50, 0.1), (16, 200, 0.0)], [(4, 50, 0.0), (8, 100, 0.3)])
    found = solve(table, nbytes=10_000)
    assert (found.damage, found.bound, found.gap, found.nbytes) == (0, 0, 0, 250)
    wasteful = certify(table, np.array([1, 1]))
    assert (wasteful.bound, wasteful.gap) == (0, math.inf)


def test_tied_layers_choose_among_what_they_have_in_common() -> None:
    table = table_of([(3, 30, 0.3), (4, 40, 0.1)], [(4, 41, 0.2), (5, 50, 0.1)], [(3, 10, 0.1), (4, 20, 0.0)])
    found = solve(table, Constraints(ties=[(0, 1)]), temperature=math.inf)
    assert found.choice.tolist() == [1, 0, 0]
    overlapping = solve(table, Constraints(ties=[(0, 1), (2, 1)]), temperature=math.inf)
    assert overlapping.choice.tolist() == [1, 0, 1]
    assert overlapping.is_proved


def test_a_lock_on_one_of_tied_layers_holds_them_all() -> None:
    table = table_of(*[[(3, 30, 0.3), (4, 40, 0.1)]] * 3)
    found = solve(table, Constraints(locks=[-1, 1, -1], ties=[(0, 1)]), temperature=math.inf)
    assert found.choice.tolist() == [1, 1, 0]


def test_tied_layers_without_a_common_option_are_named() -> None:
    table = table_of([(3, 30, 0.3)], [(4, 41, 0.2)])
    with pytest.raises(ConfigurationError, match="'layer 0', 'layer 1' have no option in common") as caught:
        solve(table, Constraints(ties=[(0, 1)]), nbytes=100)
    assert caught.value.layers == ["layer 0", "layer 1"]


def test_a_budget_below_the_floor_names_it_and_what_costs_most(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(3), 10)
    floors = np.zeros(10)
    floors[4] = 8
    constraints = Constraints(locks=[6] + [-1] * 9, floors=floors)
    floor = solve(table, constraints, temperature=math.inf).nbytes
    with pytest.raises(ConfigurationError) as caught:
        solve(table, constraints, nbytes=floor - 1)
    assert caught.value.floor == floor
    assert f"{floor:,} bytes at the least" in str(caught.value)
    assert "the floor on 'layer 4'" in str(caught.value)
    assert "the lock on 'layer 0'" in str(caught.value)
    assert solve(table, constraints, nbytes=floor).nbytes == floor
    with pytest.raises(ConfigurationError, match="No constraint is to blame"):
        solve(table, nbytes=10)


def test_the_error_counts_layers_without_a_narrow_option_and_names_the_largest() -> None:
    table = table_of([(4, 40, 0.3), (16, 160, 0.0)], [(16, 500, 0.0), (32, 1000, 0.0)], [(32, 90, 0.0)])
    with pytest.raises(ConfigurationError) as caught:
        solve(table, nbytes=100)
    assert caught.value.floor == 630
    message = str(caught.value)
    assert "2 of 3 layers have no option of 8 bits or fewer here; they take 590 of these bytes." in message
    assert (
        "The largest at their least: 'layer 1' (500 bytes, 16 bits), 'layer 2' (90 bytes, 32 bits)" in message
    )


def test_ties_that_cost_bytes_are_named() -> None:
    table = table_of([(3, 30, 0.3), (4, 40, 0.1)], [(4, 41, 0.2)])
    with pytest.raises(ConfigurationError, match=r"the tie on 'layer 0 \+ layer 1' \(\+10 bytes\)") as caught:
        solve(table, Constraints(ties=[(0, 1)]), nbytes=80)
    assert caught.value.floor == 81


def test_a_distortion_out_of_reach_names_the_least_and_the_ceiling() -> None:
    table = table_of([(3, 30, 0.3), (8, 80, 0.01)], [(4, 41, 0.2)])
    with pytest.raises(ConfigurationError, match=r"the ceiling on 'layer 0' \(\+0\.29\)") as caught:
        solve(table, Constraints(ceilings=4), max_damage=0.4)
    assert caught.value.floor == pytest.approx(0.5)


def test_limits_that_exclude_each_other_name_the_layer() -> None:
    table = table_of([(3, 30, 0.3), (8, 80, 0.01)], [(4, 41, 0.2)])
    with pytest.raises(ConfigurationError, match=r"'layer 0' \(lock and floor; it has 3, 8 bits\)"):
        solve(table, Constraints(locks=[0, -1], floors=[4, 0]), nbytes=500)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "given none"),
        ({"nbytes": 100, "bpw": 4.0}, "given nbytes and bpw"),
        ({"bpw": math.nan}, "bpw must not be"),
        ({"nbytes": -1}, "nbytes must not be"),
        ({"temperature": -1e-9}, "temperature must not be"),
    ],
)
def test_goals_that_make_no_sense_are_refused(goal: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        solve(table_of([(4, 10, 0.1)]), **goal)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(locks=[1]), "lock on 'layer 0'"),
        (Constraints(floors=[1, 2]), "of shape"),
        (Constraints(min_cosine=0.9), "measured"),
        (Constraints(ties=[(0, 1)]), "indices of the 1 layers"),
    ],
)
def test_constraints_that_do_not_fit_the_table_are_refused(constraints: Constraints, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        solve(table_of([(4, 10, 0.1)]), constraints, nbytes=100)


@pytest.mark.parametrize("damage", [math.nan, math.inf, -0.1])
def test_a_distortion_that_is_no_number_names_the_layer(damage: float) -> None:
    with pytest.raises(ValidationError, match="'layer 1' has a damage") as caught:
        table_of([(4, 10, 0.1)], [(4, 10, damage)])
    assert caught.value.tensor == "layer 1"


def test_layers_without_options_or_with_doubles_are_refused() -> None:
    with pytest.raises(ValidationError, match="'layer 1' has no option"):
        table_of([(4, 10, 0.1)], [])
    with pytest.raises(ValidationError, match="two options of equal bits"):
        table_of([(4, 10, 0.1), (4, 11, 0.1)])


def test_a_choice_that_breaks_a_constraint_has_no_certificate() -> None:
    table = table_of([(3, 30, 0.3), (8, 80, 0.01)], [(3, 30, 0.3), (8, 80, 0.01)])
    with pytest.raises(ConfigurationError, match="'layer 1' breaks its floor"):
        certify(table, np.array([1, 0]), Constraints(floors=4))
    with pytest.raises(ConfigurationError, match="'layer 1' breaks its tie"):
        certify(table, np.array([1, 0]), Constraints(ties=[(0, 1)]))
    with pytest.raises(ConfigurationError, match="place of an option"):
        certify(table, np.array([0, 2]))


def test_tables_and_solutions_cannot_be_changed(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(5), 3)
    with pytest.raises(ValueError, match="read-only"):
        table.nbytes[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        solve(table, bpw=4).choice[0] = 1


def test_hundreds_of_layers_of_one_shape_are_settled_and_proved() -> None:
    # Sizes differ by multiples of one step, so that most budgets cannot be filled: a trap for a search for fillers.
    rng = np.random.default_rng(7)
    layer = [(bits, 144 * bits + 72, 4.0**-bits) for bits in range(2, 9)]
    table = table_of(
        *[[(bits, size, d * rng.uniform(0.9, 1.1)) for bits, size, d in layer] for _ in range(300)]
    )
    for budget in (171_000, 222_222, 300_001):
        found = solve(table, nbytes=budget)
        assert found.is_proved
        assert found.gap == 0, "every reachable size is a corner of the front"
        assert budget - found.nbytes < 144
