"""`TensorInfo`: a stored tensor, and the dtypes that are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "F64": np.dtype("<f8"),
        "F32": np.dtype("<f4"),
        "F16": np.dtype("<f2"),
        "BF16": np.dtype(ml_dtypes.bfloat16),
        "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
        "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
        "I64": np.dtype("<i8"),
        "I32": np.dtype("<i4"),
        "I16": np.dtype("<i2"),
        "I8": np.dtype("i1"),
        "U64": np.dtype("<u8"),
        "U32": np.dtype("<u4"),
        "U16": np.dtype("<u2"),
        "U8": np.dtype("u1"),
        "BOOL": np.dtype("?"),
    }
)
"""The safetensors dtypes that are read, with the NumPy dtype of the same bytes."""

FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""The dtypes whose tensors can be quantized."""


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies and how to read its bytes."""

    name: str
    """Its name in the checkpoint."""
    dtype: str
    """Its dtype by its safetensors name, a key of `DTYPES`."""
    shape: tuple[int, ...]
    """Its shape; ``()`` for a scalar."""
    path: Path
    """The file that holds it."""
    offset: int
    """Where its data begins in that file, in bytes from the start of the file."""
    nbytes: int
    """Bytes of its data."""
