"""Cost tables like those of real models, and an exact solver as referee."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from workbench.plan import Option
from workbench.thermo import CostTable

Rng = np.random.Generator
MakeTable = Callable[..., CostTable]


def realistic_table(rng: Rng, layers: int, options: int = 7) -> CostTable:
    """Layers of random shapes: D ≈ c·4^−b with noise, bytes of packed codes and one 4-byte pair a group."""
    names, params, rows, damage = [], [], [], []
    for layer in range(layers):
        out, cols = (int(size) for size in rng.integers(16, 2048, 2))
        group = int(rng.choice([32, 64, 128]))
        level = np.exp(rng.normal(0, 1.5))
        widths = range(2, 2 + options)
        names.append(f"layer {layer}")
        params.append(out * cols)
        rows.append(
            [
                Option(bits, "asymmetric", group, out * (-(-cols * bits // 8) + 4 * -(-cols // group)))
                for bits in widths
            ]
        )
        damage.append([float(level * 4.0**-bits * np.exp(rng.normal(0, 0.15))) for bits in widths])
    cosine = [[1 - value / 2 for value in row] for row in damage]
    return CostTable.of(names, params, rows, damage, cosine)


def small_table(rng: Rng, layers: int, options: int = 4) -> CostTable:
    """Any sizes and damage at all, ragged, with ties, dominated and lossless options."""
    counts = rng.integers(1, options + 1, layers)
    rows = [
        [Option(2 + place, "s", 32, int(rng.integers(0, 12))) for place in range(count)] for count in counts
    ]
    damage = [(rng.integers(0, 9, count) / 8).tolist() for count in counts]
    cosine = [rng.uniform(0, 1, count).tolist() for count in counts]
    return CostTable.of([f"layer {i}" for i in range(layers)], [8] * layers, rows, damage, cosine)


def every_choice(table: CostTable) -> np.ndarray[Any, Any]:
    """All choices of a small table, [choices, layers]."""
    return np.array(list(product(*(np.flatnonzero(row) for row in table.legal))), np.int64)


def milp_optimum(table: CostTable, budget: int) -> float:
    """Least Σ D within a budget of bytes by HiGHS, taken at the choice it returns, which must fit."""
    layer, place = np.nonzero(table.legal)
    size, damage = table.nbytes[layer, place], table.damage[layer, place]
    one_each = csr_array(
        (np.ones(layer.size), (layer, np.arange(layer.size))), shape=(len(table), layer.size)
    )
    # The solver's absolute tolerances are 1e-6: costs are scaled far above, bytes to about one.
    result = milp(
        damage * (1e6 / damage.max()),
        integrality=np.ones(layer.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(size[None, :].astype(np.float64), -np.inf, budget),
        ],
        options={"mip_rel_gap": 0.0, "time_limit": 20},
    )
    assert result.status == 0, result.message
    choice = np.zeros(len(table), np.int64)
    taken = result.x > 0.5
    choice[layer[taken]] = place[taken]
    assert table.nbytes_of(choice) <= budget
    return table.damage_of(choice)


@pytest.fixture(scope="session")
def realistic() -> MakeTable:
    return realistic_table


@pytest.fixture(scope="session")
def small() -> MakeTable:
    return small_table


@pytest.fixture(scope="session")
def choices() -> Callable[[CostTable], np.ndarray[Any, Any]]:
    return every_choice


@pytest.fixture(scope="session")
def optimum() -> Callable[[CostTable, int], float]:
    return milp_optimum
