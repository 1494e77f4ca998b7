"""`Rows` and `Encoded`: what a codec is given, and the one value in which it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.quantize.encoding import FAST, Encoding
from workbench.quantize.error import Error, error_of, error_sums


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a layer that are to be encoded."""

    weights: NDArray[Any]
    """[rows, cols] in the dtype of the source."""
    tensor: str = "weights"
    """The layer, for errors."""
    row_start: int = 0
    """The first row, for errors."""
    encoding: Encoding = FAST
    """How hard to look for codes, and which errors count most."""
    prepared: Any = None
    """What the codec found of the whole tensor beforehand."""
    measured: bool = True
    """Whether error sums will be asked for: some codecs take them cheaper while they encode than afterwards."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of a layer, encoded once; what follows from their codes is worked out when it is first asked for.

    The weights must be what they were when they were encoded as long as something is asked.
    """

    rows: Rows
    """What was encoded."""
    store: Callable[[], Sequence[NDArray[Any]]]
    """Gives the `pieces`."""
    decode: Callable[[], NDArray[np.float32]]
    """Gives what is `decoded`."""
    count: Callable[[], NDArray[np.int64]]
    """Gives the `code_counts`."""
    measured_sums: NDArray[np.float64] | None = None
    """The error sums by row, where the codec took them while it encoded."""

    @cached_property
    def pieces(self) -> Sequence[NDArray[Any]]:
        """What is stored: rows of each stored tensor, or all of a tensor that is stored once a layer."""
        return self.store()

    @cached_property
    def decoded(self) -> NDArray[np.float32]:
        """What the rows come back as, float32 [rows, cols]."""
        return self.decode()

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """‖δ‖², ‖w‖² and w·δ of each row, where δ = w − ŵ, [rows, 3]."""
        if self.measured_sums is not None:
            return self.measured_sums
        return error_sums(self.rows.weights, self.decoded, self.rows.tensor, self.rows.row_start)

    @cached_property
    def code_counts(self) -> NDArray[np.int64]:
        """Occurrences of each code, [2**bits]."""
        return self.count()

    @property
    def error(self) -> Error:
        """What the codes lose."""
        return error_of(self.sums)
