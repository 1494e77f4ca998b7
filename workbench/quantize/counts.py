"""Counting weights and codes, and the entropy of counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import load_kernels
from workbench.quantize.patterns import patterns_of, raise_not_finite


def count_weights(weights: NDArray[Any], low: float, high: float, counts: NDArray[np.int64]) -> None:
    """Add the weights that fall into each of equal bins between low and high to counts."""
    patterns, is_half = patterns_of(weights)
    bad = load_kernels().histogram(patterns, is_half, low, high, counts)
    if bad >= 0:
        raise_not_finite(weights, bad, "weights", 0)


def count_codes(codes: NDArray[np.uint8], cols: int, bits: int) -> NDArray[np.int64]:
    """Occurrences of each code, int64 [2**bits], in rows of packed codes [rows, ceil(cols·bits / 8)]."""
    counts = np.zeros(1 << bits, np.int64)
    if codes.size:
        load_kernels().code_counts(codes.reshape(-1), len(codes), cols, bits, counts)
    return counts


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Shannon entropy −Σ p·log2 p of counts, in bits; 0 where there are none."""
    seen = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(-(seen * np.log2(seen)).sum()) + 0.0
