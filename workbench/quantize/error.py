"""The error between weights and what is decoded, as sums that add over rows and blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import load_kernels
from workbench.quantize.patterns import patterns_of, raise_not_finite


@dataclass(frozen=True)
class Error:
    """Sums over weights w, their decoded values ŵ and the differences δ = w − ŵ."""

    noise: float = 0.0
    """‖δ‖²."""
    signal: float = 0.0
    """‖w‖²."""
    cross: float = 0.0
    """w·δ."""

    def __add__(self, other: Error) -> Error:
        return Error(self.noise + other.noise, self.signal + other.signal, self.cross + other.cross)

    @property
    def nsr(self) -> float:
        """Noise-to-signal ratio ‖δ‖²/‖w‖²; 0 where there is neither."""
        if self.noise == 0.0:
            return 0.0
        return self.noise / self.signal if self.signal > 0.0 else math.inf

    @property
    def cosine(self) -> float:
        """Cosine between w and ŵ as flat vectors; 1 where both are zero, 0 where one is."""
        if self.noise == 0.0:
            return 1.0
        energy = self.signal - 2.0 * self.cross + self.noise
        if self.signal <= 0.0 or energy <= 0.0:
            return 0.0
        cosine = (self.signal - self.cross) / math.sqrt(self.signal) / math.sqrt(energy)
        return min(max(cosine, -1.0), 1.0)


def error_of(sums: NDArray[np.float64]) -> Error:
    """The error of a kernel's sums, float64 [rows, 3]."""
    noise, signal, cross = sums.sum(axis=0).tolist()
    return Error(noise, signal, cross)


def error_sums(
    weights: NDArray[Any], decoded: NDArray[np.float32], tensor: str, row_start: int
) -> NDArray[np.float64]:
    """‖δ‖², ‖w‖² and w·δ of each row, [rows, 3], of decoded rows against the weights, both [rows, cols].

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf.
    """
    patterns, is_half = patterns_of(weights)
    sums = np.zeros((len(weights), 3))
    flat = np.ascontiguousarray(decoded).reshape(-1)
    bad = load_kernels().error_sums(patterns, is_half, flat, weights.shape[1], sums)
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
    return sums


def measure_error(weights: NDArray[Any], decoded: NDArray[np.float32], tensor: str, row_start: int) -> Error:
    """What decoded rows lose against the weights, see `error_sums`."""
    return error_of(error_sums(weights, decoded, tensor, row_start))
