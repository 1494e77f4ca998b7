"""Hulls, the front and its bound, against enumeration of every plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.thermo import CostTable, hull, hulls, trace

MakeTable = Callable[..., CostTable]
Choices = Callable[[CostTable], np.ndarray[Any, Any]]
seeds = st.integers(0, 2**32 - 1)
points = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), min_size=1, max_size=9)


def corners(nbytes: list[int], damage: list[int]) -> list[tuple[int, int]]:
    """The hull by its definition, in whole numbers: points that no other point or pair lies on or below."""
    plane = sorted(set(zip(nbytes, damage, strict=True)))
    front = [p for p in plane if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in plane)]

    def is_covered(p: tuple[int, int]) -> bool:
        return any(
            (p[1] - a[1]) * (b[0] - a[0]) >= (b[1] - a[1]) * (p[0] - a[0])
            for a in front
            for b in front
            if a[0] < p[0] < b[0]
        )

    return [p for p in front if not is_covered(p)]


@given(points)
def test_the_hull_is_the_brute_force_one(drawn: list[tuple[int, int]]) -> None:
    nbytes, damage = [p[0] for p in drawn], [p[1] for p in drawn]
    found = hull(nbytes, damage)
    assert [(nbytes[i], damage[i]) for i in found] == corners(nbytes, damage)
    assert all(drawn.index(drawn[i]) == i for i in found), "of equal options the first"


def test_a_hull_of_nothing_is_empty() -> None:
    assert hull([], []) == []


@given(seeds)
def test_hulls_of_all_layers_are_the_hulls_of_each(small: MakeTable, seed: int) -> None:
    table = small(np.random.default_rng(seed), 6)
    for path, nbytes, damage, legal in zip(
        hulls(table.nbytes, table.damage, table.legal),
        table.nbytes,
        table.damage,
        table.legal,
        strict=True,
    ):
        assert path[path >= 0].tolist() == hull(nbytes[legal], damage[legal])


@given(seeds)
def test_the_front_is_convex_and_monotone_and_its_corners_add_up(realistic: MakeTable, seed: int) -> None:
    table = realistic(np.random.default_rng(seed), 8)
    front = trace(table)
    assert (np.diff(front.nbytes) > 0).all()
    assert (np.diff(front.damage) < 0).all()
    assert (np.diff(front.temperature) <= 0).all()
    assert front.temperature == pytest.approx(-np.diff(front.damage) / np.diff(8 * front.nbytes), rel=1e-6)
    for corner in range(len(front.nbytes)):
        choice = front.choice_at(corner)
        assert table.nbytes_of(choice) == front.nbytes[corner]
        assert table.damage_of(choice) == pytest.approx(front.damage[corner], rel=1e-12)


@settings(deadline=None)
@given(seeds, st.sampled_from([0.0, 1e-3, 0.01, 0.03, 0.2, math.inf]))
def test_a_corner_minimises_the_free_energy(
    small: MakeTable, choices: Choices, seed: int, temperature: float
) -> None:
    table = small(np.random.default_rng(seed), 4)
    front = trace(table)
    corner = front.corner_at(temperature)
    everything = [(table.damage_of(c), table.nbytes_of(c)) for c in choices(table)]
    found = float(front.damage[corner]), int(front.nbytes[corner])
    if math.isinf(temperature):
        assert (found[1], found[0]) == min((nbytes, damage) for damage, nbytes in everything)
    else:
        energy = [damage + 8 * temperature * nbytes for damage, nbytes in everything]
        assert found[0] + 8 * temperature * found[1] == pytest.approx(min(energy), rel=1e-12)
        if temperature == 0:
            assert found == min(everything)


@settings(deadline=None)
@given(seeds)
def test_the_bound_is_below_every_plan_and_is_the_dual(small: MakeTable, choices: Choices, seed: int) -> None:
    table = small(np.random.default_rng(seed), 4)
    front = trace(table)
    for choice in choices(table):
        nbytes, damage = table.nbytes_of(choice), table.damage_of(choice)
        bound = front.bound(nbytes)
        assert bound <= damage * (1 + 1e-12)
        # max_T [min_b F(T; b) − T·budget]; the maximum is at the temperature of a step, or at 0.
        energies = [
            (np.where(table.legal, table.damage + 8 * t * table.nbytes, np.inf).min(axis=1).sum(), t)
            for t in [0.0, *front.temperature]
        ]
        dual = max(energy - 8 * t * nbytes for energy, t in energies)
        assert bound == pytest.approx(dual, rel=1e-9, abs=1e-12)
    assert front.bound(front.nbytes[0] - 1) == math.inf


@given(seeds)
def test_small_distortions_keep_their_digits_beside_large_ones(realistic: MakeTable, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = realistic(rng, 5)
    tiny = CostTable(
        table.names, table.params, table.nbytes, table.damage * 1e-12 ** (table.bits - 2), table.bits,
        table.cosine, table.form, table.legal,
    )  # fmt: skip
    front = trace(tiny)
    exact = [tiny.damage_of(front.choice_at(corner)) for corner in range(len(front.nbytes))]
    assert front.damage == pytest.approx(exact, rel=1e-12, abs=0)


def test_a_table_without_layers_has_a_front_of_one_point() -> None:
    front = trace(CostTable.of([], [], [], []))
    assert front.nbytes.tolist() == [0]
    assert front.damage.tolist() == [0]
