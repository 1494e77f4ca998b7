"""Better scales and origins for groups of weights than their extremes give.

What is tried, by effort, is the range of a group without so many steps of its scale below and above, each refitted
to the codes that it gives. Most is gained within about one step: there the levels fall upon the weights in another
way, and among a few ways one is good. Weights that stand far out, or do not count, are left out by larger clips.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.kernels import Form, Storage, load_kernels
from workbench.quantize.encoding import Encoding
from workbench.quantize.patterns import patterns_of, raise_not_finite


@dataclass(frozen=True)
class Tries:
    """What an effort tries."""

    near: tuple[float, ...]
    """Steps to leave out at each end, every pair."""
    far: int
    """Number of larger clips at each end, up to half of the range, every pair."""
    refits: int
    """How often the best is refitted."""
    nudges: tuple[float, ...]
    """What the scale is multiplied by before it is rounded, every one."""


TRIES: dict[str, Tries] = {
    "normal": Tries((0.0, 0.45, 0.9), 0, 2, (1.0,)),
    "best": Tries((-0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5), 4, 4, (1.0, 1.004, 0.996)),
}
"""By effort; ``fast`` does not search."""


def clips_of(effort: str, bits: int) -> NDArray[np.float32]:
    """Steps to leave out below and above, float32 [tries, 2]; a scale of half a step is left at least."""
    tries, levels = TRIES[effort], 2**bits - 1
    far = [levels / 2 * place / tries.far for place in range(1, tries.far + 1)]
    ends = (*tries.near, *(step for step in far if step > max(tries.near)))
    pairs = [pair for pair in product(ends, ends) if sum(pair) <= levels - 0.5]
    return np.array(pairs, np.float32)


def search_groups(
    weights: NDArray[Any],
    bits: int,
    group_size: int,
    form: Form,
    storage: np.dtype[Any],
    encoding: Encoding,
    scales: NDArray[np.float32],
    origins: NDArray[np.float32],
    tensor: str = "weights",
    row_start: int = 0,
) -> None:
    """Replace scales and origins by better ones, where there are any; ``fast`` leaves them.

    The error of no group grows, weighed by the encoding, when its codes are the nearest for what is stored.

    Parameters
    ----------
    weights : bfloat16, float16, float32 (others are converted to float32) [rows, cols]
    bits : int, 2 to 8
    group_size : int, a multiple of 4
    form : Form
        What an origin is.
    storage : dtype
        Of scales, and of offsets: bfloat16, float16 or float32. Zero points are float32.
    encoding : Encoding
    scales, origins : float32 [rows, groups], C-contiguous, updated
        As they are stored; groups run along the row, the last may be short.
    tensor, row_start : str, int
        What an error names.

    Raises
    ------
    ValidationError
        If a weight is NaN or Inf: names the tensor and the first such weight.
    """
    if encoding.effort == "fast" or not weights.size:
        return
    rows, cols = weights.shape
    tries = TRIES[encoding.effort]
    none = np.empty(0, np.float32)
    patterns, is_half = patterns_of(weights)
    bad = load_kernels().improve_groups(
        patterns, is_half, rows, cols, bits, group_size, int(form), int(Storage.of(storage)),
        none if encoding.channel_weights is None else encoding.channel_weights,
        clips_of(encoding.effort, bits), tries.refits, np.array(tries.nudges, np.float32),
        scales.reshape(-1), origins.reshape(-1),
    )  # fmt: skip
    if bad >= 0:
        raise_not_finite(weights, bad, tensor, row_start)
