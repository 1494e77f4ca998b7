"""The Gibbs ensemble of each layer's options: how settled its width is at a temperature, and its local temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.errors import ConfigurationError
from workbench.thermo.costs import NEVER, CostTable, FloatArray, IntArray
from workbench.thermo.hull import hulls_of


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Each layer's options as the states of a thermal system, at a temperature T (price of a bit) and a τ (of D)."""

    tau: float
    """Scale of D + T·R below which options count as equally good."""
    widths: tuple[int, ...]
    """The nominal bits that occur, rising."""
    probability: FloatArray
    """p_l(b), schemes of equal width summed, [layers, widths]; rows sum to 1."""
    entropy: FloatArray
    """S_l = −Σ p·ln p in nats, [layers]: near 0 the width is frozen, near ln(widths) it is a toss-up."""
    heat_capacity: FloatArray
    """C_l = Var(D + T·R)/τ² = dE[D + T·R]/dτ, over the options, [layers]."""


def gibbs(costs: CostTable, temperature: float, tau: float | None = None) -> Ensemble:
    """The Gibbs ensemble p_l(option) ∝ exp(−(D + T·R)/τ), R in bits.

    Parameters
    ----------
    costs
        The options; those that are not legal have no part in it.
    temperature
        T in damage per bit, from 0 to inf. At inf only options of fewest bytes are left.
    tau
        By default the median over layers of the positive differences between second-best and best D + T·R; 1 where
        there is none.

    Raises
    ------
    ConfigurationError
        If T is negative or NaN, or τ not positive and finite.

    References
    ----------
    E. T. Jaynes, "Information theory and statistical mechanics", Phys. Rev. 106, 1957.
    """
    if not temperature >= 0:
        raise ConfigurationError(
            f"A temperature must be 0 or more, not {temperature!r}.", key="temperature", value=temperature
        )
    excess = _excess(costs, temperature)
    if tau is None:
        tau = _typical(excess)
    if not 0 < tau < math.inf:
        raise ConfigurationError(f"τ must be positive and finite, not {tau!r}.", key="tau", value=tau)
    with np.errstate(over="ignore"):
        weight = np.exp(-excess / tau)
    p = weight / weight.sum(axis=1, keepdims=True)
    # An option without weight may be infinitely far away: it takes no part in the means.
    far = np.where(p > 0, excess, 0.0) / tau
    mean = (p * far).sum(axis=1, keepdims=True)
    widths, column = np.unique(costs.bits[costs.legal], return_inverse=True)
    cells = np.nonzero(costs.legal)[0] * len(widths) + column
    summed: FloatArray = np.bincount(cells, p[costs.legal], len(costs) * len(widths)).astype(np.float64)
    by_width = summed.reshape(len(costs), len(widths))
    np.minimum(by_width, 1.0, out=by_width)
    logs = np.log(by_width, out=np.zeros(by_width.shape), where=by_width > 0)
    return Ensemble(
        tau=float(tau),
        widths=tuple(widths.tolist()),
        probability=by_width,
        entropy=-(by_width * logs).sum(axis=1) + 0.0,
        heat_capacity=(p * (far - mean) ** 2).sum(axis=1),
    )


def local_temperatures(costs: CostTable, choice: IntArray) -> tuple[FloatArray, FloatArray]:
    """−ΔD/ΔR from each layer's present option to its neighbours on the layer's hull, in damage per bit.

    Returns
    -------
    up : float64 [layers]
        What a bit more would save: above T the layer wants bits. 0 where no hull option has more bytes.
    down : float64 [layers]
        What a bit less would cost: below T the layer can give some away. Inf where no hull option has fewer bytes;
        negative where one of fewer bytes is even better.

    Notes
    -----
    A choice on the hulls minimises the free energy at T where up ≤ T ≤ down in every layer.
    """
    rows = np.arange(len(costs))
    paths = hulls_of(costs)
    on_path = paths >= 0
    size, damage = costs.nbytes[rows[:, None], paths], costs.damage[rows[:, None], paths]
    present, suffered = costs.nbytes[rows, choice], costs.damage[rows, choice]
    above = on_path & (size > present[:, None])
    below = on_path & (size < present[:, None])
    nearest_up = above.argmax(axis=1)
    nearest_down = np.maximum(below.sum(axis=1) - 1, 0)
    up, down = np.zeros(len(costs)), np.full(len(costs), np.inf)
    for result, exists, place in (
        (up, above.any(axis=1), nearest_up),
        (down, below.any(axis=1), nearest_down),
    ):
        bits = 8 * (size[rows, place] - present)
        np.divide(suffered - damage[rows, place], bits, out=result, where=exists)
    return up, down


def _excess(costs: CostTable, temperature: float) -> FloatArray:
    """D + T·R over the least of its layer, [layers, options]; Inf where there is no option."""
    # Bytes count from the layer's fewest, so that at T = ∞ those cost nothing and all others ∞.
    sizes = costs.sizes
    more = 8.0 * (sizes - sizes.min(axis=1, initial=NEVER)[:, None])
    with np.errstate(over="ignore"):
        priced = np.multiply(temperature, more, out=np.zeros(more.shape), where=more > 0)
        energy = costs.damage_or_inf + priced
    excess: FloatArray = energy - energy.min(axis=1, initial=np.inf)[:, None]
    return excess


def _typical(excess: FloatArray) -> float:
    """Median over layers of the positive second-best excesses; 1 where there is none."""
    second = np.sort(excess, axis=1)[:, 1:2]
    positive = second[(second > 0) & np.isfinite(second)]
    # Not below the smallest normal number, where dividing by it would lose its digits.
    return max(float(np.median(positive)), float(np.finfo(np.float64).tiny)) if positive.size else 1.0
