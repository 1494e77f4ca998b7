"""Tensors that are not quantized, where a runtime does not load their dtype."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.checkpoint import DTYPES, Checkpoint, TensorInfo
from workbench.errors import ValidationError
from workbench.plan import Plan


def kept_tensors(checkpoint: Checkpoint, plan: Plan) -> Iterator[TensorInfo]:
    """The tensors that a plan does not quantize."""
    for name, tensor in checkpoint.tensors.items():
        if name not in plan.choices or plan.choices[name].is_kept:
            yield tensor


def narrowed(rows: NDArray[Any], dtype: np.dtype[Any], tensor: str) -> NDArray[Any]:
    """Rows of a kept tensor in another float dtype.

    Raises
    ------
    ValidationError
        If a finite number is beyond it.
    """
    with np.errstate(over="ignore"):
        found: NDArray[Any] = rows.astype(dtype)
    if rows.dtype == np.float64:
        lost = np.isinf(found) & np.isfinite(rows)
        if lost.any():
            raise ValidationError(
                f"Tensor {tensor!r} has the F64 value {rows[lost][0]!s}, which is beyond F32, the widest that the "
                "format's runtimes load. Leave the tensor out of the checkpoint, or choose another target.",
                tensor=tensor,
            )
    return found


def notes_on_conversions(converted: Mapping[TensorInfo, str]) -> Iterator[str]:
    """A sentence on the kept tensors of each dtype that a runtime does not load.

    Parameters
    ----------
    converted : mapping of TensorInfo to str
        The dtype that each is stored as.
    """
    by_dtypes: dict[tuple[str, str], list[str]] = {}
    for tensor, stored in converted.items():
        by_dtypes.setdefault((tensor.dtype, stored), []).append(tensor.name)
    for (dtype, stored), names in by_dtypes.items():
        if DTYPES[stored].itemsize > DTYPES[dtype].itemsize:
            yield (
                f"The runtime does not load {dtype}: kept tensors of it ({len(names)}) are stored as {stored}, which "
                "has all their values."
            )
        else:
            yield (
                f"The runtime does not load {dtype}: kept tensors of it are rounded to {stored}: {', '.join(names)}."
            )
