"""The ensemble's laws: probabilities, limits, entropy, heat capacity as a derivative, local temperatures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigurationError
from workbench.plan import Option
from workbench.thermo import CostTable, gibbs, local_temperatures, solve, trace

MakeTable = Callable[..., CostTable]
seeds = st.integers(0, 2**32 - 1)
temperatures = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e308, math.inf]), st.floats(0, 1e-5), st.floats(0, 10)
)


@given(seeds, temperatures, st.one_of(st.none(), st.floats(1e-300, 1e300)))
def test_probabilities_and_entropies_stay_in_range_at_any_temperature(
    small: MakeTable, seed: int, temperature: float, tau: float | None
) -> None:
    table = small(np.random.default_rng(seed), 6)
    ensemble = gibbs(table, temperature, tau)
    assert ensemble.probability.sum(axis=1) == pytest.approx(1, rel=1e-12)
    assert (ensemble.probability >= 0).all()
    assert (ensemble.entropy >= 0).all()
    assert (ensemble.entropy <= np.log(table.legal.sum(axis=1)) + 1e-12).all()
    assert np.isfinite(ensemble.heat_capacity).all()
    assert (ensemble.heat_capacity >= 0).all()
    assert ensemble.widths == tuple(np.unique(table.bits[table.legal]))


@given(seeds, st.floats(1e-9, 1e-7), st.floats(1e-4, 1))
def test_heat_capacity_is_the_derivative_of_the_mean_energy(
    realistic: MakeTable, seed: int, temperature: float, tau: float
) -> None:
    table = realistic(np.random.default_rng(seed), 4)
    energy = table.damage + 8 * temperature * (table.nbytes - table.nbytes.min(axis=1, keepdims=True))

    def mean(tau: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return (gibbs(table, temperature, tau).probability * energy).sum(axis=1)  # one scheme a width

    step = 1e-4 * tau
    slope = (mean(tau + step) - mean(tau - step)) / (2 * step)
    assert gibbs(table, temperature, tau).heat_capacity == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_cold_and_hot_limits(realistic: MakeTable) -> None:
    table = realistic(np.random.default_rng(0), 9)
    # T = ∞ leaves the smallest option, T = 0 and a small τ the finest; a large τ leaves everything.
    assert (gibbs(table, math.inf).probability[:, 0] == 1).all()
    assert (gibbs(table, math.inf).entropy == 0).all()
    assert (gibbs(table, 0.0, tau=1e-12).probability.argmax(axis=1) == table.damage.argmin(axis=1)).all()
    assert gibbs(table, 0.0, tau=1e9).entropy == pytest.approx(math.log(7))
    assert gibbs(table, 0.0, tau=1e9).heat_capacity == pytest.approx(0, abs=1e-12)


def test_schemes_of_equal_width_are_summed() -> None:
    options = [Option(4, "a", 32, 10), Option(4, "b", 32, 10), Option(8, "a", 32, 10)]
    table = CostTable.of(["w"], [20], [options], [[0.1, 0.1, 0.1]])
    ensemble = gibbs(table, 1.0, tau=1.0)
    assert ensemble.widths == (4, 8)
    assert ensemble.probability[0] == pytest.approx([2 / 3, 1 / 3])
    assert ensemble.entropy[0] == pytest.approx(math.log(3) - 2 / 3 * math.log(2))


def test_tau_is_the_median_step_from_the_best_option_to_the_next() -> None:
    rows = [[0.0, 0.5], [0.0, 0.1], [0.0, 0.2], [0.3, 0.3]]
    options = [[Option(4, "a", 32, 10), Option(5, "a", 32, 10)]] * 4
    table = CostTable.of(["a", "b", "c", "d"], [1] * 4, options, rows)
    assert gibbs(table, 0.0).tau == pytest.approx(0.2)
    settled = CostTable.of(["a"], [1], [options[0][:1]], [[0.5]])
    assert gibbs(settled, 0.0).tau == 1
    assert gibbs(settled, 0.0).entropy.tolist() == [0]


@pytest.mark.parametrize("temperature", [-1.0, math.nan])
def test_negative_temperatures_are_refused(realistic: MakeTable, temperature: float) -> None:
    with pytest.raises(ConfigurationError, match="temperature"):
        gibbs(realistic(np.random.default_rng(0), 2), temperature)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.inf, math.nan])
def test_tau_must_be_positive_and_finite(realistic: MakeTable, tau: float) -> None:
    with pytest.raises(ConfigurationError, match="τ"):
        gibbs(realistic(np.random.default_rng(0), 2), 0.0, tau)


@given(seeds, st.integers(0, 50))
def test_local_temperatures_enclose_the_temperature_at_an_optimum(
    realistic: MakeTable, seed: int, corner: int
) -> None:
    table = realistic(np.random.default_rng(seed), 9)
    front = trace(table)
    temperature = float(front.temperature[min(corner, len(front.temperature) - 1)])
    up, down = local_temperatures(table, solve(table, temperature=temperature).choice)
    assert (up <= temperature * (1 + 1e-12)).all()
    assert (down >= temperature * (1 - 1e-12)).all()


def test_local_temperatures_off_the_hull_and_at_its_ends() -> None:
    options = [Option(bits, "a", 32, 10 * bits) for bits in (2, 4, 6, 8)]
    table = CostTable.of(["w"], [80], [options], [[0.8, 0.9, 0.1, 0.0]])
    up, down = (
        np.array([local_temperatures(table, np.array([place]))[side][0] for place in range(4)])
        for side in (0, 1)
    )
    assert up == pytest.approx([0.7 / 320, 0.8 / 160, 0.1 / 160, 0])
    assert down == pytest.approx([math.inf, -0.1 / 160, 0.7 / 320, 0.1 / 160])
