"""Which rows of a layer are measured, and the standard error of what they say."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from workbench.plan import Layer

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

RUN = 4096
"""Weights whose extremes a kernel takes at once."""


@dataclass(frozen=True, eq=False)
class RowSample:
    """Rows drawn without replacement from strata: consecutive rows of nearly equal number.

    Rows beside each other belong to one head, gate or part of a fused projection and are alike; that each part is
    drawn from equally often makes the error smaller.
    """

    rows: IntArray
    """The rows, [strata, rows a stratum], ascending along the strata."""
    sizes: IntArray
    """Rows of the layer in each stratum, [strata]."""

    @property
    def share(self) -> float:
        """Rows drawn over rows of the layer."""
        return self.rows.size / int(self.sizes.sum())


def draw_rows(layer: Layer, count: int, per_stratum: int, seed: int) -> RowSample | None:
    """A sample of at least so many rows; None, meaning all of them, where it would be more than half.

    The same seed gives the same rows of a layer, whatever the other layers.
    """
    strata = -(-count // per_stratum)
    if 2 * strata * per_stratum > layer.rows:
        return None
    rng = np.random.default_rng([seed, zlib.crc32(layer.name.encode())])
    edges = np.arange(strata + 1) * layer.rows // strata
    drawn = [
        rng.choice(np.arange(start, stop), per_stratum, replace=False)
        for start, stop in pairwise(edges.tolist())
    ]
    return RowSample(np.array(drawn, np.int64), np.diff(edges))


def ratio(sample: RowSample, numerator: FloatArray, denominator: FloatArray) -> tuple[float, float]:
    """Estimate of a ratio of two sums over all rows, and its standard error.

    Parameters
    ----------
    sample : RowSample
    numerator, denominator : float64 [strata, rows a stratum]
        What each row adds to the two sums.

    Returns
    -------
    ratio, stderr : float
        Both 0 where the denominator is.

    References
    ----------
    W. G. Cochran, Sampling Techniques, 3rd ed., 1977, section 6.11: the combined ratio estimator
    R = Σ_h N_h·ȳ_h / X, X = Σ_h N_h·x̄_h, with variance Σ_h N_h²·(1 − n_h/N_h)·s²_h/n_h / X², where s²_h is the
    variance of y − R·x within stratum h and 1 − n_h/N_h the finite population correction.
    """
    drawn = numerator.shape[1]
    each = sample.sizes / drawn
    total = float(each @ denominator.sum(axis=1))
    if total <= 0.0:
        return 0.0, 0.0
    estimate = float(each @ numerator.sum(axis=1)) / total
    spread = np.var(numerator - estimate * denominator, axis=1, ddof=1)
    variance = float(np.sum(sample.sizes**2 * (1.0 - drawn / sample.sizes) * spread / drawn))
    return estimate, math.sqrt(variance) / total


def total(sample: RowSample, values: FloatArray) -> tuple[float, float]:
    """Estimate of a sum over all rows, and its standard error.

    Parameters
    ----------
    sample : RowSample
    values : float64 [strata, rows a stratum]
        What each row adds.

    References
    ----------
    W. G. Cochran, Sampling Techniques, 3rd ed., 1977, section 5.3: Σ_h N_h·ȳ_h, with variance
    Σ_h N_h²·(1 − n_h/N_h)·s²_h/n_h.
    """
    drawn = values.shape[1]
    spread = np.var(values, axis=1, ddof=1)
    variance = float(np.sum(sample.sizes**2 * (1.0 - drawn / sample.sizes) * spread / drawn))
    return float(sample.sizes @ values.mean(axis=1)), math.sqrt(variance)
