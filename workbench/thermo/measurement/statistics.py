"""What counts and sums over a layer's weights say about their distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from workbench.quantize import entropy_bits

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

BINS = 256
"""Equal bins of the normalised histogram entropy."""

OUTLIER = 6.0
"""Standard deviations beyond which a weight is an outlier."""

CELL_BITS = 4
"""Mantissa bits that divide an octave into the cells of the differential entropy."""

PATTERNS = 1 << 16


@dataclass(frozen=True)
class Statistics:
    """A layer's distribution, as far as sums over its weights decide it."""

    sigma: float
    """Standard deviation."""
    kurtosis: float
    """Fourth central moment over σ⁴: 3 for a normal distribution. NaN where σ is 0."""
    outlier_share: float
    """Share of the weights farther than 6σ from the mean."""
    entropy: float
    """Normalised histogram entropy Ĥ over 256 equal bins between least and greatest weight, 0 to 1."""
    differential_entropy: float
    """h in bits per weight; see `Tally.statistics`. −inf where no weight differs from the others."""
    exponent_entropy: float
    """Entropy of the exponent bits, in bits per weight."""


@dataclass(frozen=True, eq=False)
class Frame:
    """What all tallies of a layer refer to."""

    is_half: bool
    """Whether patterns are float16 rather than bfloat16 or the upper half of float32."""
    cell_bits: int
    """`CELL_BITS`, or fewer where the source has fewer mantissa bits."""
    center: float
    """A value near the mean."""
    low: float
    """Least weight."""
    high: float
    """Greatest weight."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums over some weights of a layer; those of several parts add up to that of the whole."""

    powers: FloatArray
    """Sums of the powers 0 to 4 of w − center."""
    bins: IntArray
    """Weights in each of the equal bins between low and high."""
    patterns: IntArray
    """Weights of each upper 16 bits."""
    outliers: int
    """Weights farther than 6σ from the mean."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    @property
    def entropy(self) -> float:
        """Normalised histogram entropy Ĥ, 0 to 1."""
        return entropy_bits(self.bins) / math.log2(BINS)

    def statistics(self, frame: Frame) -> Statistics:
        """The statistics of the weights counted.

        Notes
        -----
        The differential entropy is that of a piecewise constant density: h = −Σ p·log2(p / width) over cells that
        divide each octave on either side of zero into 16 (of float8, into as many as there are), plus
        (cells − 1) / (2·n·ln 2) for the bias of small samples. Equal bins would lose it in the one that outliers
        leave to all other weights. Zeros (of float32, all below 10^−40) have no density and are left out.

        The exponent entropy is that of the source's own exponent field (float8 and float64 by way of the bfloat16
        or float32 they are counted as). Sign and mantissa are close to incompressible, so that a lossless coder
        gains about the exponent's width minus this.

        References
        ----------
        G. A. Miller, "Note on the bias of information estimates", 1955, for the correction of h.
        T. Zhang et al., "70% Size, 100% Accuracy: lossless LLM compression with DFloat11", 2025, for the exponents.
        """
        count = self.powers[0]
        offset, sigma = moments_of(self.powers)
        second, third, fourth = self.powers[2:] / count
        central = fourth - 4 * offset * third + 6 * offset**2 * second - 3 * offset**4
        return Statistics(
            sigma=sigma,
            kurtosis=float(central) / sigma**4 if sigma > 0 else math.nan,
            outlier_share=self.outliers / float(count),
            entropy=self.entropy,
            differential_entropy=self._differential_entropy(frame) if sigma > 0 else -math.inf,
            exponent_entropy=entropy_bits(self._exponents(frame)),
        )

    def _exponents(self, frame: Frame) -> IntArray:
        signs = self.patterns.reshape(2, -1, 1 << _mantissa_bits(frame.is_half))
        counts: IntArray = signs.sum(axis=(0, 2))
        return counts

    def _differential_entropy(self, frame: Frame) -> float:
        patterns = self.patterns.copy()
        patterns[[0, PATTERNS // 2]] = 0
        counts = patterns.reshape(-1, 1 << (_mantissa_bits(frame.is_half) - frame.cell_bits)).sum(axis=1)
        seen = np.flatnonzero(counts)
        if not seen.size:
            return -math.inf
        total = float(counts.sum())
        share = counts[seen] / total
        widths = _cell_widths(frame.is_half, frame.cell_bits)[seen]
        return float(share @ (widths - np.log2(share))) + (seen.size - 1) / (2.0 * total * math.log(2.0))


def moments_of(powers: FloatArray) -> tuple[float, float]:
    """Mean, less the center, and standard deviation of sums of powers."""
    offset = float(powers[1] / powers[0])
    return offset, math.sqrt(max(float(powers[2] / powers[0]) - offset**2, 0.0))


def frame_of(patterns: IntArray, is_half: bool, cell_bits: int) -> Frame:
    """The frame of 16-bit weights with the given counts."""
    seen = np.flatnonzero(patterns)
    values = pattern_values(is_half)[seen]
    center = float(values @ patterns[seen]) / float(patterns.sum())
    return Frame(is_half, cell_bits, center, float(values.min()), float(values.max()))


def tally_patterns(patterns: IntArray, frame: Frame, sigma: float | None = None) -> Tally:
    """The tally of 16-bit weights with the given counts; outliers by σ, by default their own."""
    seen = np.flatnonzero(patterns)
    values, counts = pattern_values(frame.is_half)[seen], patterns[seen]
    apart = values - frame.center
    powers = np.array([counts @ apart**power for power in range(5)])
    # As the histogram kernel has it.
    width = frame.high / 2.0 - frame.low / 2.0
    position = (values - frame.low) * (BINS / 2.0 / width if width > 0.0 else 0.0)
    bins = np.bincount(np.minimum(position, BINS - 1).astype(np.int64), counts, BINS).astype(np.int64)
    spread = moments_of(powers)[1] if sigma is None else sigma
    return Tally(powers, bins, patterns, int(counts[np.abs(apart) > OUTLIER * spread].sum()))


def jackknife(parts: list[Tally], frame: Frame, share: float) -> Statistics:
    """Standard errors of the statistics of all parts together, each part a sample of the rows like the others.

    The range of the bins and the threshold of outliers count as given.

    Parameters
    ----------
    parts : list of Tally
    frame : Frame
    share : float
        Rows drawn over rows there are, for the finite population correction 1 − share.

    Returns
    -------
    Statistics
        All 0 where there is one part, which then is all there is.

    References
    ----------
    B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 3, with a group left out at a
    time.
    """
    if len(parts) == 1:
        return Statistics(*[0.0] * len(fields(Statistics)))
    whole = sum(parts[1:], parts[0])
    without = np.array([_values((whole - part).statistics(frame)) for part in parts])
    factor = (1.0 - share) * (len(parts) - 1)
    with np.errstate(invalid="ignore"):
        return Statistics(*np.sqrt(factor * without.var(axis=0)).tolist())


def _values(statistics: Statistics) -> list[float]:
    return [getattr(statistics, field.name) for field in fields(statistics)]


@cache
def pattern_values(is_half: bool) -> FloatArray:
    """What each 16-bit pattern stands for, float64 [65536]."""
    every = np.arange(PATTERNS, dtype=np.uint16)
    dtype: Any = np.float16 if is_half else ml_dtypes.bfloat16
    with np.errstate(invalid="ignore"):
        values: FloatArray = every.view(dtype).astype(np.float64)
    return values


def is_finite(patterns: IntArray, is_half: bool) -> bool:
    """Whether no weight counted is Inf or NaN."""
    return not patterns[~np.isfinite(pattern_values(is_half))].any()


@cache
def _cell_widths(is_half: bool, cell_bits: int) -> FloatArray:
    """Binary logarithm of the width of each cell; those beyond the finite mean nothing."""
    edges = pattern_values(is_half)[:: 1 << (_mantissa_bits(is_half) - cell_bits)]
    half = edges[: len(edges) // 2]
    finite = half[np.isfinite(half)]
    widths = np.full(half.size, finite[-1] - finite[-2])  # those of the last octave are equal
    widths[: finite.size - 1] = np.diff(finite)
    return np.tile(np.log2(widths), 2)


def _mantissa_bits(is_half: bool) -> int:
    return 10 if is_half else 7
