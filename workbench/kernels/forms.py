"""Forms of what is stored: of a group of affine codes, and of a block of GGML's."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class Form(IntEnum):
    """What a group stores besides its scale, its origin: an offset or a zero point."""

    OFFSET = 0
    """What code 0 decodes to: w = q·scale + origin."""
    ZERO = 1
    """The zero point, a real number: w = (q − origin)·scale."""
    FIXED = 2
    """A zero point of 2^(bits−1), which stays."""
    WHOLE = 3
    """A zero point that is one of the codes."""


class Storage(IntEnum):
    """The dtype in which scales and offsets are stored."""

    SINGLE = 0
    BRAIN = 1
    HALF = 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same for NumPy."""
        return _DTYPES[self]

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> Storage:
        """The member of a dtype."""
        return cls(_DTYPES.index(np.dtype(dtype)))


_DTYPES = tuple(np.dtype(dtype) for dtype in (np.float32, ml_dtypes.bfloat16, np.float16))


class Minimum(IntEnum):
    """Whether the groups of a block have a minimum."""

    NO_MINIMUM = 0
    MINIMUM_BELOW_ZERO = 1
    """It is never above zero."""
    ANY_MINIMUM = 2


class BlockForm(NamedTuple):
    """The numbers by which GGML's block formats differ."""

    group_size: int
    """Weights a group."""
    groups: int = 1
    """Groups a block."""
    zero_code: int = 0
    """The code that means zero."""
    lowest_code: int = 0
    highest_code: int = 0
    minimum_kind: int = Minimum.NO_MINIMUM
    """One of `Minimum`."""
    least_scale: int = 0
    """Least integer scale of a group."""
    greatest_scale: int = 0
    added: int = 0
    """What is added to integer scales in the file."""
    nbytes: int = 0
    """Bytes a block."""
    factor_byte: int = 0
    """First byte of the float16 factor."""
    minimum_byte: int = -1
    """First byte of the float16 factor of the minima; −1 where there is none."""

    @property
    def block(self) -> int:
        """Weights a block."""
        return self.group_size * self.groups
